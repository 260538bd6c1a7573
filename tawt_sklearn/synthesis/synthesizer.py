"""SequenceSynthesizer: learn from histories, and write new ones."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.estimators._interruption import warn_interrupted
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.estimators._pretrained import Pretrained, SharesPretrained, read_pretrained
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.synthesis.beginnings import Beginnings
from tawt_sklearn.synthesis.cohorts import CohortWriter, Latents
from tawt_sklearn.synthesis.data import SynthesisDataset
from tawt_sklearn.synthesis.density import LatentDensity
from tawt_sklearn.synthesis.form import Form
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.labels import LabelModel
from tawt_sklearn.synthesis.learning import history_of, known_preparation, learned
from tawt_sklearn.synthesis.loaded import check_loaded
from tawt_sklearn.synthesis.resampling import DensityRatio, appearance, shares
from tawt_sklearn.synthesis.selection import Selection
from tawt_sklearn.synthesis.sentences import Sentences
from tawt_sklearn.synthesis.summaries import multiplied, summaries
from tawt_sklearn.synthesis.training import SynthesisNet
from tawt_sklearn.synthesis.trials import (
    FEWEST_OWNERS,
    FEWEST_TRIED,
    N_LEARNED,
    SHARPNESSES,
    Trial,
    sharpest,
)
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.seeding import isolated_torch


class SequenceSynthesizer(
    SharesPretrained, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Savable, BaseEstimator
):
    """Learn from histories, and write new ones like them.

    A variational autoencoder: the dual-patch encoder of this library tells a latent from a history,
    and a causal transformer writes the history again, event after event, from the latent, the
    static columns and the labels.  New subjects are written from new latents.

    Parameters
    ----------
    d_model, n_layers, n_heads : int, default=64, 2, 4
        Width, blocks and heads of both transformers.
    d_latent : int, default=16
        Width of the latent, which :meth:`transform` gives.
    n_windows : int, default=12
        Windows of time of the encoder.
    context_length : int, default=256
        Events that one looks back on, besides what is known of the whole history and of earlier
        events of the same code.  Of longer histories training sees a stretch, drawn at random in
        every epoch.
    gap : {"bins", "lognormal_mixture"}, default="bins"
        How times between events are drawn: in classes, which are single values that are common,
        such as exactly an hour, and quantile bins of all others; or from a mixture of log-normal
        distributions.
    pretrained : TimeAwareEncoder, Pipeline that ends in one, FrozenEstimator of either, or path, \
            optional
        Encoder to start from, which brings its own tokens and shape.
    dropout : float, default=0.1
    word_dropout : float, default=0.0
        Share of events that the decoder is not shown in training.
    free_bits : float, default=0.15
        Nats that each dimension of the latent may tell for nothing.
    n_candidates : int, default=3
        Histories that :meth:`sample` writes for each subject, of which it keeps one: with chances
        in proportion to how much more often the data have such histories than they are written.
        With 1, it takes a third of the time.  That of fit says how much this counts; it may be set
        to another number afterwards.
    min_subjects_per_code : int, default=5
        Codes of events and levels of static columns that fewer subjects have are left out, and
        the extremes of numbers are cut off at so many values: they would point to single subjects.
    max_epochs : int or "auto", default="auto"
        ``"auto"``: 24, but fewer where these are more than 3,600 steps (at least 10), and as many
        as make 700 steps.
    max_time : float, optional
        Seconds after which training ends; the trials after it, in which up to 1,280 histories are
        written, come on top.
    batch_size : int, default=16
    learning_rate : float, default=2e-3
    weight_decay : float, default=0.01
    validation_fraction : float, default=0.1
        Share of the subjects that are held out: training ends when they become less likely.
    patience : int, default=12
        Epochs to wait for that.
    device : str, default="auto"
    random_state : int, RandomState instance or None, default=None
    verbose : bool, default=False
        Whether to show progress.

    Attributes
    ----------
    history_ : DataFrame
        One row for each epoch: parts of the loss in nats for each event, of training and of held
        out rows; ``active_units``; seconds.
    grammar_ : Grammar
        What there is to choose from.
    beginnings_ : Beginnings
        Where words about the whole history are drawn from: labels, static columns, when it starts
        and how long it is, and how often each code comes.
    density_ : LatentDensity
        Where latents are drawn from.
    form_ : Form
        What ``X`` and ``y`` looked like.
    labels_ : LabelModel or None
        Where the label of a new subject is drawn from, if it is a class and was not asked for; and
        how those who are written for a label are chosen.
    sharpness_ : float
        Power of the chances of what comes next when histories are written: that with which those of
        the data are told apart less at the end of fit.
    ratio_ : DensityRatio
        How much more often the data have histories like one than such are written, as far as
        boosting tells the two apart.
    net_ : SynthesisNet
    n_iter_ : int
        Epochs.
    n_features_in_ : int
        Columns of ``X``, channels of a panel, or time points of numbers (n, n_timepoints).
    feature_names_in_ : (n_features_in_,) array of str
        Of columns with names.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, y = make_icu_stays(40, random_state=0)
    >>> synthesizer = SequenceSynthesizer(max_epochs=1, d_model=16, random_state=0).fit(X, y)
    >>> X_new, y_new = synthesizer.sample(3, random_state=0)
    >>> X_new.shape == (3, X.shape[1])
    True
    """

    _parameter_constraints: dict[str, Any] = {
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "d_latent": [Interval(Integral, 1, None, closed="left")],
        "n_windows": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "context_length": [Interval(Integral, 1, None, closed="left")],
        "gap": [StrOptions({"bins", "lognormal_mixture"})],
        "pretrained": "no_validation",  # read_pretrained() says what is wrong with it
        "word_dropout": [Interval(Real, 0, 1, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "min_subjects_per_code": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _unsavable_params = ("pretrained",)

    form_: Form
    grammar_: Grammar
    preparation_: Preparation
    beginnings_: Beginnings
    density_: LatentDensity
    labels_: LabelModel | None
    sharpness_: float
    ratio_: DensityRatio
    net_: SynthesisNet
    history_: pd.DataFrame
    n_iter_: int

    def __init__(
        self,
        *,
        d_model: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        d_latent: int = 16,
        n_windows: int = 12,
        context_length: int = 256,
        gap: Literal["bins", "lognormal_mixture"] = "bins",
        pretrained: Any = None,
        dropout: float = 0.1,
        word_dropout: float = 0.0,
        free_bits: float = 0.15,
        n_candidates: int = 3,
        min_subjects_per_code: int = 5,
        max_epochs: int | Literal["auto"] = "auto",
        max_time: float | None = None,
        batch_size: int = 16,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        validation_fraction: float = 0.1,
        patience: int = 12,
        device: str | torch.device | None = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.d_latent = d_latent
        self.n_windows = n_windows
        self.context_length = context_length
        self.gap = gap
        self.pretrained = pretrained
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.free_bits = free_bits
        self.n_candidates = n_candidates
        self.min_subjects_per_code = min_subjects_per_code
        self.max_epochs = max_epochs
        self.max_time = max_time
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # ---- fit ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Learn from histories, and from labels where there are any.

        Parameters
        ----------
        X : DataFrame of n rows, or anything :func:`~tawt_sklearn.as_events` takes
        y : (n,) or (n, k) array, Series or DataFrame, optional
            Labels, which are then written along with the histories.

        Returns
        -------
        self

        Raises
        ------
        DataError
            There is nothing to learn from, or ``y`` does not fit ``X``.
        """
        with restored_on_failure(self):
            pretrained = self._read_pretrained()
            random = check_random_state(self.random_state)
            seed = int(random.randint(2**31 - 1))
            device = resolve_device(self.device)
            form, frame = Form.fit(self, X, y)
            self.form_ = form
            events, statics = form.parts(frame)
            labels = form.labels(y, len(frame))
            least = self.min_subjects_per_code
            self.grammar_ = grammar = Grammar.fit(events, statics, labels, least, self.gap)
            if not grammar.n_codes:
                raise DataError(
                    "Expected codes that enough subjects have to learn from. Got none of "
                    f"min_subjects_per_code={least} subjects among {len(events.codes)} codes of "
                    f"n_samples={len(frame)} rows. Lower it, or give more rows."
                )
            common = form.without_rare(frame, grammar)
            if pretrained is None:
                sequencer = TripletSequencer(value_scaling="quantile")
                prepared = Preparation.fit(common, sequencer, self.n_windows, "events")
                self.preparation_, rows = prepared
            else:
                self.preparation_ = known_preparation(pretrained)
                rows = self.preparation_.dataset(common)
            data = SynthesisDataset(rows, grammar.read(events, statics, labels))
            self.form_, self.grammar_ = form.of_common(grammar)
            self.net_ = learned(self, data, pretrained, device, seed)
            posterior = self.net_.posteriors(data)
            self.labels_ = self._label_model(data.sentences, labels)
            with isolated_torch(seed, device, n_threads=1):
                drawn = posterior.draw().numpy()
            with config_context(array_api_dispatch=False):  # which mixtures do not take
                told = self.net_.stated(data)
                self.density_ = LatentDensity.fit(drawn, told, np.random.RandomState(seed))
                self.beginnings_ = self._beginnings(data, np.random.RandomState(seed))
                self.sharpness_, self.ratio_ = SHARPNESSES[0], DensityRatio.of([])
                try:
                    self._try(data.sentences, seed)
                except KeyboardInterrupt:
                    warn_interrupted("the trials after training", stacklevel=4)
            self.history_ = history_of(self.net_)
            self.n_iter_ = len(self.net_.history)
        return self

    def _read_pretrained(self) -> Pretrained | None:
        """The encoder to start from; refuses parameters that contradict it or each other."""
        if self.d_model % self.n_heads:
            raise ValueError(
                "Expected d_model to be a multiple of n_heads. Got "
                f"d_model={self.d_model} and n_heads={self.n_heads}."
            )
        if self.pretrained is None:
            return None
        pretrained = read_pretrained(self.pretrained)
        windows = known_preparation(pretrained).n_windows
        if self.n_windows not in (type(self)().n_windows, windows):
            raise ValueError(
                f"Expected n_windows={windows}, as the encoder was pretrained, or the default. Got "
                f"n_windows={self.n_windows}. Leave it out, or pretrain another encoder."
            )
        return pretrained

    def _beginnings(self, data: SynthesisDataset, random: np.random.RandomState) -> Beginnings:
        """Trees of the words about the whole history."""
        grammar = self.grammar_
        symbol, score = self._begun(data)
        return Beginnings.fit(
            symbol,
            score,
            *grammar.beginnings(),
            has_label=self.form_.n_labels == 1,
            min_rows=self.min_subjects_per_code,
            random=random,
        )

    def _begun(self, data: SynthesisDataset) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Symbols and scores (n, P + C) of what is stated of each history."""
        symbol, score = data.beginnings(self.grammar_.n_prefix)
        first, number = self.grammar_.firsts(data.sentences)
        return np.hstack([symbol.numpy(), first]), np.hstack([score.double().numpy(), number])

    def _label_model(self, sentences: Sentences, labels: pd.DataFrame) -> LabelModel | None:
        """Of a single label that is a class; None for all others."""
        grammar = self.grammar_
        if labels.shape[1] != 1 or not len(grammar.columns["label", 0].levels):
            return None
        level, _ = grammar.columns["label", 0].read(labels[0])
        return LabelModel.fit(summaries(sentences, grammar), level, multiplied(grammar))

    def _try(self, known: Sentences, seed: int) -> None:
        """Write some histories, to see how sharp chances are to be, how rare such histories are in
        the data, and how labels are followed.
        """
        writer, several = partial(self._writer, what="trial"), len(known) >= FEWEST_TRIED
        if several:
            self.sharpness_ = sharpest(writer, known, self.labels_, seed)
        elif self.labels_ is None:
            return
        n = min(N_LEARNED, 2 * len(known))
        copies = max(min(self.n_candidates, n // FEWEST_OWNERS), 1)
        trial = Trial.write(writer(self.sharpness_), self.labels_, -(-n // copies), seed, copies)
        log_ratio = np.zeros(len(trial.written))
        if several:
            of_data, written = (
                appearance(sentences, self.grammar_) for sentences in (known, trial.written)
            )
            self.ratio_, log_ratio = DensityRatio.fit(
                of_data, written, trial.weight, trial.owner, seed
            )
        if self.labels_ is not None:
            told = summaries(trial.written, self.grammar_)
            self.labels_ = self.labels_.calibrated(told, trial.said, shares(log_ratio, trial.owner))

    # ---- sample ------------------------------------------------------------------------------

    def sample(
        self,
        n: int | None = None,
        *,
        y: Any = None,
        static: pd.DataFrame | None = None,
        random_state: Any = None,
    ) -> Any:
        """Write new subjects.

        Parameters
        ----------
        n : int, optional
            How many; that of ``y`` or ``static`` where not given.
        y : label, or (n,) or (n, k) array, optional
            Labels that they have, one for all or one for each; what is missing is drawn.
        static : DataFrame of 1 or n rows, optional
            Static columns that they have, all or some; what is missing is drawn.  Numbers beyond
            those of fit are kept as they are; histories follow the nearest of fit.
        random_state : int, RandomState instance or None
            That of the estimator where None.

        Returns
        -------
        X : as in fit
            DataFrame with the columns of fit, or an array where fit was given numbers.
        y : array
            Only if there were labels in fit.

        Raises
        ------
        DataError
            Labels or categories that were not there in fit.
        """
        check_is_fitted(self)
        self._validate_params()  # n_candidates may have been set after fit
        random = check_random_state(self.random_state if random_state is None else random_state)
        asked = self.form_.asked(y, static)
        n = self.form_.number_of_rows(n, y, static)
        writer = self._writer(self.sharpness_)
        selection = Selection(writer, self.ratio_, self.labels_, self.n_candidates)
        return self.form_.shown(*selection.new(n, asked, random))

    def _writer(self, sharpness: float, what: str = "candidates") -> CohortWriter:
        return CohortWriter(
            decoder=self.net_.module_.eval().decoder,
            grammar=self.grammar_,
            beginnings=self.beginnings_,
            density=self.density_,
            form=self.form_,
            sharpness=sharpness,
            title=f"{type(self).__name__}: {what}" if self.verbose else None,
        )

    # ---- what the model says -----------------------------------------------------------------

    def _data(self, X: Any, y: Any = None) -> SynthesisDataset:
        check_is_fitted(self)
        frame = self.form_.read(self, X, self.preparation_)
        events, statics = self.form_.parts(frame)
        labels = None
        if y is not None:
            labels = self.form_.labels_of(y, X, len(frame))
            self.grammar_.given({"label": labels}, len(labels))  # refuses unknown ones
        # Which warns of codes that fit left out, too: their names were not kept.
        rows = self.preparation_.dataset(self.form_.with_known_names(frame, self.grammar_))
        return SynthesisDataset(rows, self.grammar_.read(events, statics, labels))

    @property
    def _n_features_out(self) -> int:
        return self.d_latent

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The latent (n, d_latent) of each history: the mean of what it says of it."""
        data = self._data(X)
        return self.net_.posteriors(data).mean.float().numpy()

    def reconstruct(self, X: Any, *, random_state: Any = None) -> Any:
        """Write each history again, from its latent and what is stated of the whole of it.

        That is its static columns, when it starts and how long it is, and how often each code
        comes.
        """
        data = self._data(X)
        frame = self.form_.read(self, X, self.preparation_)
        random = check_random_state(self.random_state if random_state is None else random_state)
        mean = self.net_.posteriors(data).mean.float().to(self.net_.module_device)
        given = self.grammar_.stated(data.sentences)
        P = self.grammar_.n_prefix
        firsts = zip(*(part.T for part in self.grammar_.firsts(data.sentences)), strict=True)
        given |= {P + k: pair for k, pair in enumerate(firsts)}
        static = frame.drop(columns=self.form_.events_name)
        asked = {"static": static.reset_index(drop=True)} if static.shape[1] else {}
        for name in static.columns:  # what fit has left out is drawn
            column = self.grammar_.columns["static", name]
            level, number = column.read(static[name])
            unknown = (level < 0) & np.isnan(number)
            asked["static"][name] = asked["static"][name].astype(object).mask(unknown)
            left_out = unknown & static[name].notna().to_numpy()
            given[self.grammar_.prefix.index(("static", name))][0][left_out] = -1

        def latents(rows: slice, own: Any) -> Latents:
            return lambda stated: mean[rows].to(stated)

        writer = self._writer(self.sharpness_)
        written, _ = writer.write(len(frame), latents, given, asked, random, in_strata=False)
        return self.form_.shown(written, None)

    def log_prob(self, X: Any, y: Any = None, *, n_samples: int = 8) -> NDArray[np.float64]:
        """Log-probability (n,) of histories, an estimate from below by importance sampling.

        Numbers count with the density of their normal scores, times with the probability of the
        class of the gap before them, and numbers of events as equally likely within their class.
        Static values that were not there in fit count as missing, or as the first known one where
        none was missing; labels as they are said before the events.

        Parameters
        ----------
        y : labels
            Where there were some in fit.
        n_samples : int, default=8
            Latents that are drawn for each row.
        """
        check_is_fitted(self)
        if (y is None) == bool(self.form_.n_labels):
            raise DataError(
                "Expected labels where there were some in fit, and none else. Got "
                f"{'none' if y is None else 'some'}."
            )
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"Expected n_samples to be 1 or more. Got {n_samples!r}.")
        data = self._data(X, y)
        posterior = self.net_.posteriors(data)
        mean, spread = posterior.mean.numpy(), (0.5 * posterior.log_variance).exp().numpy()
        random, stated = np.random.RandomState(0), self.net_.stated(data)
        told = []
        for _ in range(n_samples):
            # The same for all rows, so that none depends on the others.
            noise = np.broadcast_to(random.standard_normal(self.d_latent), mean.shape)
            z = mean + spread * noise
            proposed = (-0.5 * noise**2 - np.log(spread) - 0.5 * np.log(2 * np.pi)).sum(1)
            likely = self.net_.log_likelihoods(data, z)
            told.append(likely + self.density_.log_prob(z, stated) - proposed)
        begun = self.beginnings_.log_probs(*self._begun(data))
        begun -= self.grammar_.log_sizes(data.sentences)
        return begun + logsumexp(told, axis=0) - np.log(n_samples)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`log_prob` over the rows."""
        return float(self.log_prob(X, y).mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_loaded(self) -> None:
        check_loaded(self)
