"""SequenceSynthesizer: learn from histories, and write new ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from tawt_sklearn.estimators._input import require_events
from tawt_sklearn.estimators._interruption import warn_interrupted
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import as_events, find_events
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.synthesis.data import SynthesisDataset
from tawt_sklearn.synthesis.density import LatentDensity
from tawt_sklearn.synthesis.grammar import LEVEL, NUMBER, START, WINDOW, Grammar, scores
from tawt_sklearn.synthesis.model import SequenceModel
from tawt_sklearn.synthesis.sampling import Writer, Written
from tawt_sklearn.synthesis.training import ActiveUnits, StopOnTheClock, SynthesisNet
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.pretraining import LossParts
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Recipe, train

AT_ONCE = 512
"""Rows that are written at once."""

N_WATCHED = 256
"""Rows whose latents are looked at after every epoch."""


class SequenceSynthesizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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
    dropout : float, default=0.1
    word_dropout : float, default=0.0
        Share of events that the decoder is not shown in training.
    free_bits : float, default=0.15
        Nats that each dimension of the latent may tell for nothing.
    min_subjects_per_code : int, default=5
        Codes of events and levels of static columns that fewer subjects have are left out, and
        the extremes of numbers are cut off at so many values: they would point to single subjects.
    max_epochs : int, default=150
    max_time : float, optional
        Seconds after which training ends.
    batch_size : int, default=32
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
    density_ : LatentDensity
        Where latents are drawn from.
    net_ : SynthesisNet
    n_iter_ : int
        Epochs.
    n_features_in_ : int
    feature_names_in_ : (n_features_in_,) array of str

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, y = make_icu_stays(40, random_state=0)
    >>> synthesizer = SequenceSynthesizer(max_epochs=1, d_model=16, random_state=0).fit(X, y)
    >>> X_new, y_new = synthesizer.sample(3, random_state=0)
    >>> X_new.shape == (3, X.shape[1])
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "d_latent": [Interval(Integral, 1, None, closed="left")],
        "n_windows": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "word_dropout": [Interval(Real, 0, 1, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "min_subjects_per_code": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
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

    def __init__(
        self,
        *,
        d_model: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        d_latent: int = 16,
        n_windows: int = 12,
        dropout: float = 0.1,
        word_dropout: float = 0.0,
        free_bits: float = 0.15,
        min_subjects_per_code: int = 5,
        max_epochs: int = 150,
        max_time: float | None = None,
        batch_size: int = 32,
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
            if self.d_model % self.n_heads:
                raise ValueError(
                    "Expected d_model to be a multiple of n_heads. Got "
                    f"d_model={self.d_model} and n_heads={self.n_heads}."
                )
            random = check_random_state(self.random_state)
            seed = int(random.randint(2**31 - 1))
            device = resolve_device(self.device)
            frame = self._read(X, reset=True)
            events, statics = self._parts(frame, reset=True)
            labels = self._labels(y, frame)
            grammar = Grammar.fit(events, statics, labels, self.min_subjects_per_code)
            if not grammar.n_codes:
                raise DataError(
                    "Expected codes that enough subjects have to learn from. Got none of "
                    f"min_subjects_per_code={self.min_subjects_per_code} subjects among "
                    f"{len(events.codes)} codes of {len(frame)} rows. Lower it, or give more rows."
                )
            sequencer = TripletSequencer(value_scaling="quantile")
            preparation, rows = Preparation.fit(frame, sequencer, self.n_windows, "events")
            data = SynthesisDataset(rows, grammar.read(events, statics, labels))
            self.grammar_, self.preparation_ = grammar, preparation
            self.template_ = events.take(np.empty(0, np.int64))
            self.knows_ = {
                "start": not np.isnan(events.start).all(),
                "end": not np.isnan(events.end).all(),
            }
            self.columns_ = list(frame.columns)
            self.device_ = device
            self.net_ = self._train(data, device, seed)
            means = self.net_.posteriors(data)
            with isolated_torch(seed, device, n_threads=1):
                drawn = means.draw().numpy()
            self.density_ = LatentDensity.fit(drawn, np.random.RandomState(seed))
            self._match(data, np.random.RandomState(seed))
            self.history_ = _history_of(self.net_)
            self.n_iter_ = len(self.net_.history)
        return self

    def _read(self, X: Any, reset: bool = False) -> pd.DataFrame:
        """Rows of histories, as they were in fit."""
        if reset:
            is_panel = isinstance(X, np.ndarray) and X.dtype.kind in "biuf"
            self.array_shape_ = X.shape[1:] if is_panel else None
        frame = as_events(X)
        if not len(frame):
            raise DataError("Expected at least one row of X. Got a frame with 0 rows.")
        if reset:
            require_events(frame)
            self.events_name_: Hashable = find_events(frame)
            self.feature_names_in_ = np.array([str(name) for name in frame.columns], object)
            self.n_features_in_ = frame.shape[1]
        elif list(frame.columns) != self.columns_:
            raise DataError(
                f"Expected the columns of fit, {self.columns_}. Got {list(frame.columns)}."
            )
        return frame

    def _parts(self, frame: pd.DataFrame, reset: bool = False) -> tuple[EventsArray, pd.DataFrame]:
        name = self.events_name_
        missing = frame[name].isna()
        if missing.any():
            raise DataError(
                f"Expected a history in every row of column {name!r}; it may be empty. Got NA in "
                f"{int(missing.sum())} rows. Drop these rows or give them an empty history."
            )
        events: EventsArray = frame[name].array
        if not reset:
            events = _with_dictionaries_of(self.template_, events)
        return events, frame.drop(columns=name)

    def _labels(self, y: Any, frame: pd.DataFrame) -> pd.DataFrame:
        """Labels as columns; none without labels."""
        if y is None:
            self.n_labels_ = 0
            return pd.DataFrame(index=frame.index)
        table = pd.DataFrame(y) if not isinstance(y, pd.DataFrame) else y
        if len(table) != len(frame):
            raise DataError(
                f"Expected one label for each of the {len(frame)} rows of X. Got {len(table)} "
                "labels. Found input variables with inconsistent numbers of samples."
            )
        if table.isna().to_numpy().any():
            raise DataError(
                f"Expected labels in all rows. Got {int(table.isna().any(axis=1).sum())} rows "
                "without. Drop them, or fit without y."
            )
        self.label_shape_ = np.shape(y)[1:]
        self.n_labels_ = table.shape[1]
        return table.set_axis(range(table.shape[1]), axis=1).reset_index(drop=True)

    def _train(self, data: SynthesisDataset, device: torch.device, seed: int) -> SynthesisNet:
        grammar, random = self.grammar_, np.random.RandomState(seed)
        order = random.permutation(len(data))
        n_out = min(round(self.validation_fraction * len(data)), len(data) - 1)
        held_out = data.subset(np.sort(order[:n_out])) if n_out else None
        kept = data.subset(np.sort(order[n_out:]))
        steps = -(-len(kept) // min(self.batch_size, max(1, len(kept) // 4)))
        model: dict[str, Any] = {
            "backbone": {
                **self.preparation_.sizes(),
                "d_model": self.d_model,
                "n_layers": self.n_layers,
                "n_heads": self.n_heads,
                "d_feedforward": 2 * self.d_model,
                "dropout": self.dropout,
            },
            "decoder": {
                "n_codes": grammar.n_codes,
                "n_gaps": grammar.gaps.number,
                "repeats": grammar.repeats.tolist(),
                "offsets": grammar.offsets.tolist(),
                "kinds": grammar.kind.tolist(),
                "n_prefix": len(grammar.prefix),
                "horizon": grammar.horizon,
                "d_latent": self.d_latent,
                "d_model": self.d_model,
                "n_layers": self.n_layers,
                "n_heads": self.n_heads,
                "dropout": self.dropout,
            },
            "free_bits": self.free_bits,
            "warmup_steps": int(0.3 * steps * min(self.max_epochs, 40)),
            "word_dropout": self.word_dropout,
        }
        recipe = Recipe(
            max_epochs=self.max_epochs,
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
            net = train(
                partial(SequenceModel, **model),
                None,
                kept,
                held_out,
                recipe,
                seed=seed,
                device=device,
                label=type(self).__name__ if self.verbose else None,
                net_type=SynthesisNet,
                observers={"parts": LossParts(), "active": ActiveUnits(watched)},
            )
            net.settle(kept)
        if net.interrupted_:
            warn_interrupted(f"epoch {len(net.history)} of {net.max_epochs}", stacklevel=4)
        return net.prepare_for_prediction()

    def _match(self, data: SynthesisDataset, random: np.random.RandomState) -> None:
        """Words about the whole history come as often as in the data."""
        grammar, words = self.grammar_, data.sentences
        first = words.offsets[:-1]
        shares = {}
        for k in range(len(grammar.prefix)):
            low, high = grammar.offsets[grammar.n_codes + 1 + k :][:2]
            count = np.bincount(words.symbol[first + k] - low, minlength=high - low)
            share = torch.from_numpy((count / len(data)).astype(np.float32))
            shares[k] = share.to(self.device_)
        generator = torch.Generator(self.device_).manual_seed(int(random.randint(2**31 - 1)))
        with isolated_torch(0, self.device_, n_threads=1):
            writer = Writer(self.net_.module_.decoder, grammar, generator)
            writer.match(self._latents(random), shares)

    def _latents(self, random: np.random.RandomState) -> Callable[[int], torch.Tensor]:
        """Draws so many new latents."""

        def latents(m: int) -> torch.Tensor:
            drawn = self.density_.draw(m, random).astype(np.float32)
            return torch.from_numpy(drawn).to(self.device_)

        return latents

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
            Labels that they have, one for all or one for each.
        static : DataFrame of 1 or n rows, optional
            Static columns that they have, all or some; what is missing is drawn.
        random_state : int, RandomState instance or None
            That of the estimator where None.

        Returns
        -------
        X : as in fit
            DataFrame with the columns of fit, or an array where fit was given one.
        y : array
            Only if there were labels in fit.

        Raises
        ------
        DataError
            Labels or static values that were not there in fit.
        """
        check_is_fitted(self)
        random = check_random_state(self.random_state if random_state is None else random_state)
        n = self._number_of_rows(n, y, static)
        asked = self._asked(n, y, static)
        return self._write(n, lambda rows: self._latents(random), asked, random)

    def _write(
        self,
        n: int,
        latents: Callable[[slice], Callable[[int], torch.Tensor]],
        asked: dict[str, pd.DataFrame],
        random: Any,
    ) -> Any:
        """Rows in groups, so that memory does not grow with their number."""
        given = self._given(n, asked)
        generator = torch.Generator(self.device_).manual_seed(int(random.randint(2**31 - 1)))
        module = self.net_.module_.eval()
        parts = []
        with tqdm(total=n, disable=not self.verbose, desc=type(self).__name__) as bar:
            with isolated_torch(0, self.device_, n_threads=None):
                writer = Writer(module.decoder, self.grammar_, generator)
                for first in range(0, n, AT_ONCE):
                    rows = slice(first, min(first + AT_ONCE, n))
                    some = {word: (a[rows], b[rows]) for word, (a, b) in given.items()}
                    m = rows.stop - rows.start
                    written = writer.write(latents(rows), m, some, bar.update)
                    parts.append(written._replace(row=written.row + first))
        whole = Written(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        return self._frame(whole, asked)

    def _number_of_rows(self, n: int | None, y: Any, static: Any) -> int:
        sizes = {"n": n, "static": None, "y": None}
        if static is not None and len(static) != 1:
            sizes["static"] = len(static)
        if y is not None and np.ndim(y) > len(getattr(self, "label_shape_", ())):
            sizes["y"] = len(y)
        told = {name: size for name, size in sizes.items() if size is not None}
        if len(set(told.values())) > 1:
            said = " and ".join(f"{size} of {name}" for name, size in told.items())
            raise DataError(f"Expected one number of subjects. Got {said}.")
        found = next(iter(told.values()), 1)
        if not isinstance(found, Integral) or isinstance(found, bool) or found < 1:
            raise ValueError(f"Expected n to be an integer of 1 or more. Got {found!r}.")
        return int(found)

    def _asked(self, n: int, y: Any, static: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
        """Static columns and labels that new subjects are to have."""
        frames: dict[str, pd.DataFrame] = {}
        if static is not None:
            if not isinstance(static, pd.DataFrame):
                raise DataError(f"Expected static to be a DataFrame. Got {type(static).__name__}.")
            known = [name for name in self.columns_ if name != self.events_name_]
            if odd := [name for name in static.columns if name not in known]:
                raise DataError(f"Expected static columns of fit, {known}. Got {odd[0]!r}, too.")
            frames["static"] = static
        if y is not None:
            if not self.n_labels_:
                raise DataError("Expected labels in fit to ask for some. Got fit(X) without y.")
            frames["label"] = self._table_of(y)
        return frames

    def _table_of(self, y: Any) -> pd.DataFrame:
        """Labels as columns, one row or all."""
        K = self.n_labels_
        labels = np.asarray(y, object)
        if labels.ndim > 2 or (labels.shape[-1:] != (K,) and (labels.ndim == 2 or K > 1)):
            raise DataError(
                f"Expected {K} labels of each subject, as in fit. Got an array of shape "
                f"{labels.shape}."
            )
        return pd.DataFrame(labels.reshape(-1, K)).infer_objects()

    def _given(self, n: int, asked: dict[str, pd.DataFrame]) -> dict[int, Any]:
        """Prefix words that are given: their symbols and normal scores."""
        given = {}
        grammar = self.grammar_
        for kind, frame in asked.items():
            for name in frame.columns:
                word = grammar.word((kind, name))
                column = frame[name]
                if len(column) == 1:
                    column = column.repeat(n)
                level, number = grammar.columns[kind, name].read(column)
                present = column.notna().to_numpy()
                unknown = present & (level < 0) & np.isnan(number)
                if unknown.any():
                    what = "labels" if kind == "label" else f"values of {name!r}"
                    raise DataError(
                        f"Expected {what} that were there in fit. Got "
                        f"{column.iloc[int(unknown.argmax())]!r}. Known ones: "
                        f"{list(grammar.columns[kind, name].levels[:10])}."
                    )
                symbol = np.full(n, -1)
                score = np.zeros(n)
                first, last = grammar.offsets[word : word + 2]
                kinds = grammar.kind[first:last]
                if (levels := np.flatnonzero(kinds == LEVEL)).size:
                    symbol[level >= 0] = first + levels[0] + level[level >= 0]
                if (numbers := np.flatnonzero(kinds == NUMBER)).size:
                    at = ~np.isnan(number)
                    symbol[at] = first + numbers[0]
                    low, high = grammar.marginals[word].bounds(number[at])
                    score[at] = scores((low + high) / 2)
                told = torch.from_numpy(symbol), torch.from_numpy(score)
                given[word - grammar.n_codes - 1] = tuple(x.to(self.device_) for x in told)
        return given

    def _frame(self, written: Written, asked: dict[str, pd.DataFrame] | None = None) -> Any:
        """What was written, in the form of fit, with what was asked for."""
        asked = asked or {}
        grammar, n = self.grammar_, len(written.prefix_symbol)
        whole: dict[Any, tuple[NDArray, NDArray]] = {}
        for k, name in enumerate(grammar.prefix):
            word = grammar.n_codes + 1 + k
            symbol = written.prefix_symbol[:, k]
            kind = grammar.kind[symbol]
            number = np.where(kind == LEVEL, grammar.level[symbol], np.nan)
            numeric = kind == NUMBER
            if numeric.any():
                share = written.prefix_share[numeric, k]
                number[numeric] = grammar.marginals[word].value(share)
            first, last = grammar.offsets[word : word + 2]
            levels = np.flatnonzero(grammar.kind[first:last] == LEVEL)
            level = np.where(kind == LEVEL, symbol - first - (levels[0] if levels.size else 0), -1)
            whole[name] = level, number
        columns = {}
        for name in self.columns_:
            if name == self.events_name_:
                columns[name] = pd.Series(self._events(written, whole))
            else:
                drawn = grammar.columns["static", name].written(*whole["static", name], name)
                columns[name] = _exact(drawn, asked.get("static"), name)
        X: Any = pd.DataFrame(columns)
        if self.array_shape_ is not None:
            X = _panel(X[self.events_name_].array, n, self.array_shape_)
        if not self.n_labels_:
            return X
        told = [
            _exact(
                grammar.columns["label", k].written(*whole["label", k], k), asked.get("label"), k
            )
            for k in range(self.n_labels_)
        ]
        y = pd.concat(told, axis=1).to_numpy()
        return X, y.reshape(n, *self.label_shape_)

    def _events(self, written: Written, whole: dict[Any, Any]) -> EventsArray:
        grammar, n = self.grammar_, len(written.prefix_symbol)
        kind = grammar.kind[written.symbol]
        value = np.where(kind == LEVEL, grammar.level[written.symbol], np.nan)
        numeric = kind == NUMBER
        value[numeric] = grammar.numbers(written.code[numeric], written.share[numeric])
        text = np.where(kind == LEVEL, grammar.text[written.symbol], -1)
        start = np.nan_to_num(whole[START][1])
        first = np.nan_to_num(whole["first"][1])
        row = written.row
        time = np.maximum(np.round((start + first)[row] + written.time, 9), start[row])
        kept = np.ones(len(row), bool)
        if WINDOW in whole:
            end = start + np.maximum(whole[WINDOW][1], 0.0)
            kept = ~(time > end[row] + 1e-9)
            time = np.fmin(time, end[row])
        lengths = np.bincount(row[kept], minlength=n)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        row, time = row[kept], time[kept]
        if WINDOW not in whole:
            last = time[np.maximum(offsets[1:] - 1, 0)] if len(time) else start
            end = np.where(lengths > 0, last, start)
        unknown = np.full(n, np.nan)
        template = self.template_
        return template._replace(
            time=time,
            code=grammar.kept[written.code[kept]],
            value=value[kept].astype(np.float32),
            text=None if template.text is None else text[kept],
            offsets=offsets,
            start=start if self.knows_["start"] else unknown,
            end=end if self.knows_["end"] else unknown,
        )

    # ---- what the model says -----------------------------------------------------------------

    def _data(self, X: Any, y: Any = None) -> SynthesisDataset:
        check_is_fitted(self)
        frame = self._read(X)
        events, statics = self._parts(frame)
        labels = None
        if y is not None:
            labels = self._table_of(y)
            if len(labels) != len(frame):
                raise DataError(
                    f"Expected labels for each of the {len(frame)} rows of X. Got {len(labels)}."
                )
            self._given(len(labels), {"label": labels})  # refuses unknown ones
        rows = self.preparation_.dataset(frame)
        return SynthesisDataset(rows, self.grammar_.read(events, statics, labels))

    @property
    def _n_features_out(self) -> int:
        return self.d_latent

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The latent (n, d_latent) of each history: the mean of what it says of it."""
        data = self._data(X)
        return self.net_.posteriors(data).mean.float().numpy()

    def reconstruct(self, X: Any, *, random_state: Any = None) -> Any:
        """Write each history again, from its latent and its static columns alone."""
        data = self._data(X)
        frame = as_events(X)
        random = check_random_state(self.random_state if random_state is None else random_state)
        mean = self.net_.posteriors(data).mean.float().to(self.device_)
        static = frame.drop(columns=self.events_name_)
        asked = {"static": static.reset_index(drop=True)} if static.shape[1] else {}
        for name in static.columns:  # what fit has left out counts as missing
            column = self.grammar_.columns["static", name]
            level, number = column.read(static[name])
            unknown = (level < 0) & np.isnan(number)
            asked["static"][name] = asked["static"][name].astype(object).mask(unknown)

        def latents(rows: slice) -> Callable[[int], torch.Tensor]:
            some = mean[rows]
            return lambda m: some.repeat_interleave(m // len(some), dim=0)

        found = self._write(len(frame), latents, asked, random)
        return found[0] if self.n_labels_ else found

    def log_prob(self, X: Any, y: Any = None, *, n_samples: int = 8) -> NDArray[np.float64]:
        """Log-probability (n,) of histories, an estimate from below by importance sampling.

        Numbers count with the density of their normal scores, and times with the probability of
        the class of the gap before them.

        Parameters
        ----------
        y : labels
            Where there were some in fit.
        n_samples : int, default=8
            Latents that are drawn for each row.
        """
        check_is_fitted(self)
        if (y is None) == bool(self.n_labels_):
            raise DataError(
                "Expected labels where there were some in fit, and none else. Got "
                f"{'none' if y is None else 'some'}."
            )
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"Expected n_samples to be 1 or more. Got {n_samples!r}.")
        data = self._data(X, y)
        posterior = self.net_.posteriors(data)
        mean, spread = posterior.mean.numpy(), (0.5 * posterior.log_variance).exp().numpy()
        random = np.random.RandomState(0)
        told = []
        for _ in range(n_samples):
            # The same for all rows, so that none depends on the others.
            noise = np.broadcast_to(random.standard_normal(self.d_latent), mean.shape)
            z = mean + spread * noise
            proposed = (-0.5 * noise**2 - np.log(spread) - 0.5 * np.log(2 * np.pi)).sum(1)
            likely = self.net_.log_likelihoods(data, z)
            told.append(likely + self.density_.log_prob(z) - proposed)
        return logsumexp(told, axis=0) - np.log(n_samples)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`log_prob` over the rows."""
        return float(self.log_prob(X, y).mean())


def _exact(drawn: pd.Series, asked: pd.DataFrame | None, name: Any) -> pd.Series:
    """What was asked for, exactly; what was drawn where nothing was."""
    if asked is None or name not in asked.columns:
        return drawn
    column = asked[name].reset_index(drop=True).astype(object)
    if len(column) == 1:
        column = column.repeat(len(drawn)).reset_index(drop=True)
    return column.where(column.notna(), drawn.astype(object)).astype(drawn.dtype).rename(name)


def _history_of(net: SynthesisNet) -> pd.DataFrame:
    table = pd.DataFrame([dict(epoch) for epoch in net.history])
    kept = [
        name
        for name in map(str, table)
        if name.startswith(("train_", "valid_")) and not name.endswith(("_batch_count", "_best"))
    ]
    return table[["epoch", *kept, "active_units", "dur"]].rename(columns={"dur": "seconds"})


def _with_dictionaries_of(template: EventsArray, events: EventsArray) -> EventsArray:
    """The same events with the code and text ids of another array; -1 for what it does not know."""
    same_texts = events.texts is None or (
        template.texts is not None and events.texts.equals(template.texts)
    )
    if events.codes.equals(template.codes) and same_texts:
        return events
    code_of = np.append(template.codes.get_indexer(events.codes), -1)
    changes: dict[str, Any] = {"code": code_of[events.code], "codes": template.codes}
    if template.texts is None:
        changes |= {"text": None, "texts": None}
    elif events.text is not None and events.texts is not None:
        text_of = np.append(template.texts.get_indexer(events.texts), -1)
        changes |= {"text": text_of[events.text], "texts": template.texts}
    return events._replace(**changes)


def _panel(events: EventsArray, n: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(n, C, T) or (n, T) numbers from events at steps."""
    C, T = shape if len(shape) == 2 else (1, shape[0])
    channel = events.codes.str.removeprefix("channel_").astype(int).to_numpy()[events.code]
    row = np.repeat(np.arange(n), np.diff(events.offsets))
    step = np.round(events.time).astype(np.int64)
    inside = (step >= 0) & (step < T)
    panel = np.full((n, C, T), np.nan)
    panel[row[inside], channel[inside], step[inside]] = events.value[inside]
    return panel.reshape(n, *shape)
