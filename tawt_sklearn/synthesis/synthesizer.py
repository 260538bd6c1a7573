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
from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.synthesis.beginnings import Beginnings
from tawt_sklearn.synthesis.cohorts import CohortWriter, Latents
from tawt_sklearn.synthesis.data import SynthesisDataset
from tawt_sklearn.synthesis.density import LatentDensity
from tawt_sklearn.synthesis.form import Form
from tawt_sklearn.synthesis.grammar import Grammar, Sentences
from tawt_sklearn.synthesis.labels import N_QUANTILES, LabelModel
from tawt_sklearn.synthesis.model import SequenceModel
from tawt_sklearn.synthesis.stated import regressed
from tawt_sklearn.synthesis.summaries import multiplied, summaries, width
from tawt_sklearn.synthesis.training import ActiveUnits, StopOnTheClock, SynthesisNet
from tawt_sklearn.synthesis.trials import FEWEST_TRIED, N_TRIED, SHARPNESSES, told_apart
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.pretraining import LossParts
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning, Recipe, train

N_WATCHED = 256
"""Rows whose latents are looked at after every epoch."""

N_CANDIDATES = 3
"""Histories that are written where a label is asked for, of which one is chosen."""

MAX_FEATURE_PATCHES = 128
"""Codes that have a token of their own."""

WARMUP, MOST_WARMUP_EPOCHS = 0.3, 40
"""Share of the epochs, of so many at most, over which the divergence comes to count in full."""

USUAL_EPOCHS, MOST_STEPS, FEWEST_STEPS, FEWEST_EPOCHS = 24, 3600, 700, 10
"""How long training goes on: so many epochs, but fewer of many steps and more of few."""


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
    min_subjects_per_code : int, default=5
        Codes of events and levels of static columns that fewer subjects have are left out, and
        the extremes of numbers are cut off at so many values: they would point to single subjects.
    max_epochs : int or "auto", default="auto"
        ``"auto"``: 24, but fewer where these are more than 3,600 steps (at least 10), and as many
        as make 700 steps.
    max_time : float, optional
        Seconds after which training ends; the trials after it, in which up to 1,024 histories are
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
            self.net_ = self._train(data, pretrained, device, seed)
            posterior = self.net_.posteriors(data)
            self.labels_ = self._label_model(data.sentences, labels)
            with isolated_torch(seed, device, n_threads=1):
                drawn = posterior.draw().numpy()
            with config_context(array_api_dispatch=False):  # which mixtures do not take
                told = self.net_.stated(data)
                self.density_ = LatentDensity.fit(drawn, told, np.random.RandomState(seed))
                self.beginnings_ = self._beginnings(data, np.random.RandomState(seed))
                try:
                    self._try(data, seed)
                except KeyboardInterrupt:
                    self.sharpness_ = SHARPNESSES[0]
                    warn_interrupted("the trials after training", stacklevel=2)
            self.history_ = _history_of(self.net_)
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

    def _train(
        self,
        data: SynthesisDataset,
        pretrained: Pretrained | None,
        device: torch.device,
        seed: int,
    ) -> SynthesisNet:
        random = np.random.RandomState(seed)
        order = random.permutation(len(data))
        n_out = min(round(self.validation_fraction * len(data)), len(data) - 1)
        held_out = data.subset(np.sort(order[:n_out])) if n_out else None
        kept = data.subset(np.sort(order[n_out:]))
        steps = -(-len(kept) // min(self.batch_size, max(1, len(kept) // 4)))
        n_epochs = self._epochs(steps)
        make_model = partial(
            SequenceModel,
            backbone=self._backbone(pretrained),
            decoder=self._decoder(),
            free_bits=self.free_bits,
            warmup_steps=int(WARMUP * steps * min(n_epochs, MOST_WARMUP_EPOCHS)),
            word_dropout=self.word_dropout,
        )
        recipe = Recipe(
            max_epochs=n_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_fraction=0.05,
            min_steps=0,
            patience=self.patience,
            n_average=4,
            scoring="loss",
            stop_early=held_out is not None,
            callbacks=() if self.max_time is None else (StopOnTheClock(self.max_time),),
        )
        watched = data.subset(np.sort(order[:N_WATCHED]))
        with isolated_torch(seed, device, n_threads=1):
            model = make_model()
            weights = model.state_dict()
            told = regressed(model.decoder.stated, kept, self.grammar_.charted)
            weights |= {f"decoder.stated.{name}": table for name, table in told.items()}
            if pretrained is not None:
                own = pretrained.net.weights()
                weights |= {name: w for name, w in own.items() if name.startswith("backbone.")}
            net = train(
                make_model,
                None,
                kept,
                held_out,
                recipe,
                seed=seed,
                device=device,
                label=type(self).__name__ if self.verbose else None,
                beginning=Beginning(weights),
                net_type=SynthesisNet,
                observers={"parts": LossParts(), "active": ActiveUnits(watched)},
            )
            net.settle(kept)
        if net.interrupted_:
            warn_interrupted(f"epoch {len(net.history)} of {net.max_epochs}", stacklevel=4)
        return net.prepare_for_prediction()

    def _epochs(self, steps: int) -> int:
        """How many at most, of so many steps."""
        if isinstance(self.max_epochs, str):
            least = max(FEWEST_EPOCHS, -(-FEWEST_STEPS // steps))
            return max(least, min(USUAL_EPOCHS, MOST_STEPS // steps))
        return self.max_epochs

    def _backbone(self, pretrained: Pretrained | None) -> dict[str, Any]:
        """Keywords of the encoder's backbone."""
        if pretrained is not None:
            return {**pretrained.net.module.keywords["backbone"], "dropout": self.dropout}
        return {
            **self.preparation_.sizes(),
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "d_feedforward": 2 * self.d_model,
            "dropout": self.dropout,
            "max_feature_patches": MAX_FEATURE_PATCHES,
            "patching": "dual",
        }

    def _decoder(self) -> dict[str, Any]:
        """Keywords of the decoder."""
        return {
            **self.grammar_.sizes(),
            "context_length": self.context_length,
            "d_latent": self.d_latent,
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "dropout": self.dropout,
        }

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

    def _try(self, data: SynthesisDataset, seed: int) -> None:
        """Write some histories, to see how sharp chances are to be, and how labels are followed."""
        model, n = self.labels_, min(N_TRIED, len(data))
        choices = SHARPNESSES if n >= FEWEST_TRIED else SHARPNESSES[:1]
        self.sharpness_ = choices[0]
        if model is None and len(choices) == 1:
            return
        asked, weight = {}, np.ones(n)
        if model is not None:  # as many for each label, but those of rare ones count less
            said, share = np.resize(model.levels, n), np.resize(model.often, n)
            column = self.grammar_.columns["label", 0]
            asked["label"] = pd.DataFrame({0: column.written(said, np.full(n, np.nan), 0)})
            weight = share / share.mean()
        some = np.random.RandomState(seed).permutation(len(data))[:n]
        known = data.subset(np.sort(some)).sentences
        tried = []
        for sharpness in choices:
            self.sharpness_ = sharpness
            frame, _ = self._writer("trial").new(n, asked, np.random.RandomState(seed))
            written = self._sentences(frame)
            apart = 0.5
            if len(choices) > 1:
                apart = told_apart(known, written, weight, self.grammar_)
            tried.append((apart, sharpness, written))
        _, self.sharpness_, written = min(tried, key=lambda trial: trial[0])
        if model is not None:
            self.labels_ = model.calibrated(summaries(written, self.grammar_), said)

    def _sentences(self, frame: pd.DataFrame) -> Sentences:
        """Of histories that were written."""
        return self.grammar_.read(*self.form_.parts(frame), None)

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
        random = check_random_state(self.random_state if random_state is None else random_state)
        asked = self.form_.asked(y, static)
        n = self.form_.number_of_rows(n, y, static)
        if self.labels_ is None:
            return self.form_.shown(*self._writer().new(n, asked, random))
        wanted = np.zeros(n, bool)
        if y is not None:
            wanted = np.broadcast_to(asked["label"][0].notna().to_numpy(), n)
        owner = np.concatenate([np.arange(n), *[np.flatnonzero(wanted)] * (N_CANDIDATES - 1)])
        some = {
            kind: frame if len(frame) == 1 else frame.iloc[owner].reset_index(drop=True)
            for kind, frame in asked.items()
        }
        frame, labels = self._writer().new(len(owner), some, random)
        assert labels is not None
        told = summaries(self._sentences(frame), self.grammar_)
        column = self.grammar_.columns["label", 0]
        level, _ = column.read(pd.Series(labels.reshape(-1)))
        chosen = self.labels_.choose(told, level, owner, random)
        level = np.where(wanted, level[chosen], self.labels_.draw(told[chosen], random))
        drawn = column.written(level, np.full(n, np.nan), 0).to_numpy()
        kept = np.where(wanted, labels.reshape(-1)[chosen], drawn)
        frame = frame.iloc[chosen].reset_index(drop=True)
        return self.form_.shown(frame, kept.reshape(n, *labels.shape[1:]))

    def _writer(self, what: str = "subjects") -> CohortWriter:
        return CohortWriter(
            decoder=self.net_.module_.eval().decoder,
            grammar=self.grammar_,
            beginnings=self.beginnings_,
            density=self.density_,
            form=self.form_,
            sharpness=self.sharpness_,
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

        writer = self._writer()
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
        model = self.net_.module.keywords
        if not isinstance(self.sharpness_, float) or not 0.1 <= self.sharpness_ <= 10:
            raise SaveFileError(f"Expected a sharpness of .1 to 10. Got {self.sharpness_!r}.")
        if not self.grammar_.sizes().items() <= model["decoder"].items():
            raise SaveFileError("Expected a network of as many words as the grammar has.")
        learned = self.preparation_.sizes()
        if any(model["backbone"][name] != learned[name] for name in learned):
            raise SaveFileError("Expected a network of the shape of what was learned of tokens.")
        K, d = len(self.density_.weight), model["decoder"]["d_latent"]
        F = self.net_.module_.decoder.stated.n_columns + len(self.grammar_.charted)
        shapes = [(F, d), (K, d), (K, d, d)]
        density = self.density_
        if [density.slope.shape, density.mean.shape, density.root.shape] != shapes:
            raise SaveFileError("Expected a density of as many dimensions as the latent has.")
        if (labels := self.labels_) is not None:
            L, Q, K = len(labels.levels), labels.pairs.shape[1], len(labels.center)
            shapes = [labels.weight.shape, labels.intercept.shape, labels.scale.shape]
            shapes += [labels.pairs.shape, labels.often.shape]
            shapes += [labels.shift.shape, labels.tilt.shape, labels.usual.shape]
            expected = [(L, K), (L,), (K,), (2, Q), (L,), (L,), (2, L), (L, N_QUANTILES)]
            if shapes != expected or (
                K - Q != width(self.grammar_) or not np.isin(labels.pairs, np.arange(K - Q)).all()
            ):
                raise SaveFileError("Expected a model of labels on summaries of histories.")
        form, grammar = self.form_, self.grammar_
        self.beginnings_.check(*grammar.beginnings())
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


def known_preparation(pretrained: Pretrained) -> Preparation:
    """That of the encoder, which must be one of histories."""
    if modalities := getattr(pretrained.preparation, "modalities", None):
        raise ValueError(
            "Expected pretrained to be an encoder of histories alone. Got one with modalities "
            f"{sorted(modalities)}, which are not written. Pretrain another encoder."
        )
    if not isinstance(pretrained.preparation, Preparation):
        raise ValueError(
            "Expected pretrained to be an encoder of histories. Got one of panels. Pretrain it on "
            "as_events(X), which is what a synthesizer makes of a panel."
        )
    return pretrained.preparation


def _history_of(net: SynthesisNet) -> pd.DataFrame:
    table = pd.DataFrame([dict(epoch) for epoch in net.history])
    kept = [
        name
        for name in map(str, table)
        if name.startswith(("train_", "valid_")) and not name.endswith(("_batch_count", "_best"))
    ]
    return table[["epoch", *kept, "active_units", "dur"]].rename(columns={"dur": "seconds"})
