"""Whether what a file says of a synthesizer fits together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.synthesis.summaries import width

if TYPE_CHECKING:
    from tawt_sklearn.synthesis.synthesizer import SequenceSynthesizer


def check_loaded(synthesizer: SequenceSynthesizer) -> None:
    """Refuse fitted attributes that do not fit each other.

    Raises
    ------
    SaveFileError
        Which ones.
    """
    form, grammar, density = synthesizer.form_, synthesizer.grammar_, synthesizer.density_
    network = synthesizer.net_.module.keywords
    if not isinstance(synthesizer.sharpness_, float) or not 0.1 <= synthesizer.sharpness_ <= 10:
        raise SaveFileError(f"Expected a sharpness of .1 to 10. Got {synthesizer.sharpness_!r}.")
    if not grammar.sizes().items() <= network["decoder"].items():
        raise SaveFileError("Expected a network of as many words as the grammar has.")
    learned = synthesizer.preparation_.sizes()
    if any(network["backbone"][name] != learned[name] for name in learned):
        raise SaveFileError("Expected a network of the shape of what was learned of tokens.")
    K, d = len(density.weight), network["decoder"]["d_latent"]
    F = synthesizer.net_.module_.decoder.stated.n_columns + len(grammar.charted)
    shapes = [(F, d), (K, d), (K, d, d)]
    if [density.slope.shape, density.mean.shape, density.root.shape] != shapes:
        raise SaveFileError("Expected a density of as many dimensions as the latent has.")
    static = [("static", name) for name in form.columns if name != form.events_name]
    columns = [("label", k) for k in range(form.n_labels)] + static
    told = [name for name in grammar.prefix if isinstance(name, tuple)]
    if not told == columns == list(grammar.columns):
        raise SaveFileError("Expected a grammar of the columns and labels that fit was given.")
    if not len(grammar.least) == len(grammar.most) == len(grammar.kind):
        raise SaveFileError("Expected a grammar that says what its classes stand for.")
    kept = grammar.kept
    if len(kept) != grammar.n_codes or not np.isin(kept, np.arange(len(form.codes))).all():
        raise SaveFileError("Expected a grammar of codes that fit was given.")
    synthesizer.beginnings_.check(*grammar.beginnings())
    synthesizer.ratio_.check(grammar)
    if synthesizer.labels_ is not None:
        if form.n_labels != 1:
            raise SaveFileError("Expected a model of labels where there is one label.")
        n_levels = len(grammar.columns["label", 0].levels)
        synthesizer.labels_.check(width(grammar), n_levels)
