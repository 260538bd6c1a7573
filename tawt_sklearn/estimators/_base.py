"""What the time-aware estimators share: the story of a fit, and prediction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context, is_classifier
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.estimators._ensemble import Ensemble, history_of, scores_of, with_curves_of
from tawt_sklearn.estimators._export import Answer, Exportable, supervised_answer
from tawt_sklearn.estimators._input import (
    Rows,
    distinct_rows,
    modalities_of,
    prepare,
    read_labels,
    read_rows,
    read_weights,
    require_data,
    take_rows,
)
from tawt_sklearn.estimators._modalities import NestedModalities, modality_columns
from tawt_sklearn.estimators._modality_weights import WeighsModalities, remember_weights
from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._per_step import (
    is_per_step,
    paired,
    read_step_labels,
    require_labels,
)
from tawt_sklearn.estimators._planning import PlansTraining, Ready
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.estimators._pretrained import (
    Continued,
    Pretrained,
    SharesPretrained,
    check_shape,
    pretrained_here,
    read_pretrained,
)
from tawt_sklearn.estimators._settings import (
    CONSTRAINTS,
    check_settings,
    checkpoint_folder,
    is_pretrained,
    rows_at_once,
)
from tawt_sklearn.estimators._tasks import CallbackSupportMixin, ReportEpochs, begin_tasks
from tawt_sklearn.estimators._together import fitted_together
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.objectives.steps import StepTarget, labelled, natural
from tawt_sklearn.objectives.supervised import ClassTarget, Target
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.distributed import SavedOnce, shown_once
from tawt_sklearn.training.net import EventNet


class TimeAwareEstimator(
    SharesPretrained,
    NestedModalities,
    WeighsModalities,
    Exportable,
    CallbackSupportMixin,
    SavedOnce,
    PlansTraining,
    BaseEstimator,
):
    """Base of the supervised estimators: an ensemble of dual-patch networks."""

    _parameter_constraints: dict[str, list[Any]] = CONSTRAINTS
    _unsavable_params = ("callbacks", "net_params", "pretrained")
    _local_params = ("checkpoint_dir",)

    target_: Target
    nets_: list[EventNet]
    preparation_: Preparation | PanelPreparation
    history_: pd.DataFrame
    n_iter_: int
    device_: torch.device
    n_features_in_: int

    # ---- what the kinds of estimators differ in ---------------------------------------------

    @abstractmethod
    def _check_labels(self, labels: NDArray) -> NDArray:
        """Labels of the training rows, or an error that says what is wrong with them."""

    @abstractmethod
    def _make_target(self, labels: NDArray, weights: NDArray[np.float64]) -> Target:
        """Learn what the labels are."""

    def _known_target(self) -> Target:
        """What the labels were in the last fit, to go on with."""
        return self.target_

    def _weigh(
        self, labels: NDArray, weights: NDArray[np.float64], target: Target | None
    ) -> NDArray[np.float64]:
        """Weights of the rows, those of their labels included."""
        return weights

    @abstractmethod
    def _make_step_target(self, labels: NDArray, weights: NDArray[np.float64]) -> StepTarget:
        """Learn what labels (n, T) of steps are."""

    def _check_step_labels(self, labels: NDArray) -> NDArray:
        """Labels (n, T) of steps, or an error that says what is wrong with them."""
        there = labelled(labels)
        checked = self._check_labels(natural(labels[there]))
        kinds = np.full(labels.shape, np.nan) if checked.dtype.kind == "f" else labels.copy()
        kinds[there] = checked
        return kinds

    def _refuse_for_steps(self) -> None:
        """Parameters that mean nothing with labels of steps.

        Raises
        ------
        ValueError
        """
        if self.fine_tune == "head":
            raise ValueError(
                'Expected fine_tune="full" or "gradual" with a label at each step. Got "head", '
                "which is a linear model on the embeddings of cases."
            )

    def _after_training(self, ready: Ready, held_out: RowDataset | None, plan: Ensemble) -> None:
        """What is learned once the members are there."""

    # ---- fit ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Learn from histories and labels.

        Parameters
        ----------
        X : DataFrame of n rows, or anything :func:`~tawt_sklearn.as_events` takes
            One row for each subject: an events column, raw or tokenised, and static columns.
            Also a panel (n, n_channels, n_timepoints), a list of arrays (n_channels,
            n_timepoints_i), or numbers (n, n_timepoints) with one series in each row; NaN is "not
            measured".
        y : (n,) or (n, k) array, Series or DataFrame
            Labels; the index of a Series must be that of ``X``.  Of a panel also (n,
            n_timepoints), or a list of arrays (n_timepoints_i,): a label at each step, see
            ``per_step``.
        sample_weight : (n,) array, optional
            Weights of the rows.  A weight of two is exactly the row given twice, a weight of
            zero exactly the row left out: equal rows count as one, and rows are put into an
            order that depends on what they hold alone.
        X_val, y_val : as X and y, optional
            Validation data for early stopping and the choice of checkpoints, in place of a share
            of the training rows; with ``early_stopping=False`` they are only scored.  Its rows
            weigh what ``class_weight`` says.

        Returns
        -------
        self

        Raises
        ------
        NotNestedError
            ``X`` is a long table with one row for each event.
        DataError
            ``y`` does not fit ``X``, or there is nothing to learn from.
        DeviceError
            There is no such device.
        TrainingError
            Training diverged, or another process of the job has failed or ended.

        Warns
        -----
        TrainingWarning
            Ctrl-C ended training after the first epoch.  The estimator is fitted with what was
            best so far.
        """
        tasks = begin_tasks(self, self.n_ensemble)
        with restored_on_failure(self), shown_once(), fitted_together(self) as processes:
            going_on = self.warm_start and hasattr(self, "nets_")
            check_settings(self, going_on=going_on)
            device = resolve_device(self.device)
            ready = self._make_ready(X, y, sample_weight, going_on=going_on)
            held_out = self._validation_data(X_val, y_val, ready)
            ready.require_same(processes)
            if self.pretrain and not going_on:
                own = pretrained_here(self, ready.preparation, ready.data, device)
                ready = replace(ready, pretrained=own)
            done = self.n_iter_ if going_on else 0
            plan = self._plan(
                ready, device, has_validation=held_out is not None, going_on=going_on, done=done
            )
            if self.weigh_heads and not going_on:
                plan = plan.with_own_share(ready.data)
            plan = replace(plan, checkpoint_dir=checkpoint_folder(self.checkpoint_dir))
            arguments = {"estimator": self, "X": X, "y": y, "metadata": None}
            if sample_weight is not None:
                arguments["metadata"] = {"sample_weight": sample_weight}
            watchers: list[ReportEpochs] = []
            if tasks is not None and getattr(self, "_skl_callbacks", None):
                tasks.call_on_fit_task_begin(**arguments)
                watchers = [
                    ReportEpochs(tasks, arguments, lambda net: self._state(ready, device, [net]))
                    for _ in plan.seeds
                ]
            nets = plan.train(
                ready.data,
                held_out,
                beginnings=None
                if plan.head_only or not going_on
                else self._beginnings(plan, optimizer=False),
                watchers=watchers,
            )
            self.__dict__.update(self._state(ready, device, nets, going_on))
            remember_weights(self, nets, ready.data)
            self._after_training(ready, held_out, plan)
            if watchers:
                tasks.call_on_fit_task_end(
                    **arguments, reconstruction_attributes=lambda: dict(vars(self))
                )
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, target: Target | None) -> Self:
        """One pass over some rows, with what is known from earlier ones."""
        with restored_on_failure(self), shown_once(), fitted_together(self) as processes:
            going_on = hasattr(self, "nets_")
            check_settings(self, going_on=going_on)
            device = resolve_device(self.device)
            if self.modalities is not None and self.modality_training == "staged":
                raise ValueError(
                    'Expected modality_training="joint" in partial_fit. Got "staged", which '
                    "trains on all rows first: call fit with all of them."
                )
            if self.pretrain:
                raise ValueError(
                    "Expected pretrain=False in partial_fit. Got True, which learns from all "
                    "histories first: call fit with all of them."
                )
            if self.fine_tune == "head":
                raise ValueError(
                    'Expected fine_tune="full" or "gradual" in partial_fit. Got "head", which '
                    "is solved from all labels at once: call fit with all of them."
                )
            ready = self._make_ready(X, y, sample_weight, going_on=going_on, target=target)
            ready.require_same(processes)
            plan = self._plan(ready, device, has_validation=False, going_on=going_on)
            recipe = replace(plan.recipe, max_epochs=1, min_steps=0, n_average=1, incremental=True)
            done = self.n_iter_ if going_on else 0
            n_members = len(self.nets_) if going_on else self.n_ensemble
            plan = replace(
                plan,
                recipe=recipe,
                validation_fraction=0.0,
                seeds=self._seeds(done + 1, n_members),  # each pass draws other numbers
            )
            beginnings = self._beginnings(plan, optimizer=True) if going_on else None
            nets = plan.train(ready.data, beginnings=beginnings)
            if going_on:
                nets = with_curves_of(self.nets_[0], nets)
            self.__dict__.update(self._state(ready, device, nets, going_on))
            remember_weights(self, nets, ready.data)
        return self

    def _make_ready(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        going_on: bool,
        target: Target | None = None,
    ) -> Ready:
        """Read, check, and learn everything that comes before the network.

        Parameters
        ----------
        going_on : bool
            Vocabulary, scaling and labels are those of the last fit.
        target : Target, optional
            Of labels that are known beforehand.
        """
        known = self.preparation_ if going_on else None
        pretrained: Pretrained | Continued | None = None
        if going_on:
            pretrained = self._continued()
        elif self.pretrained is not None:
            pretrained = read_pretrained(self.pretrained)
            check_shape(self, pretrained)
        frame, form = read_rows(self, X, known)
        if isinstance(pretrained, Pretrained):
            pretrained.preparation.check_form(form)
        if going_on:
            per_step = isinstance(self._known_target(), StepTarget)
        else:
            per_step = is_per_step(y, frame, form, self.per_step)
        if per_step:
            labels = read_step_labels(y, X, frame, classes=is_classifier(self))
            require_labels(labels)
            self._refuse_for_steps()
            if isinstance(target, ClassTarget):  # the classes of steps, known beforehand
                target = StepTarget(target, float(labelled(labels).sum() / len(labels)))
        else:
            labels = read_labels(y, X, len(frame))
        weights = read_weights(sample_weight, X, len(frame))
        if not weights.all():
            used = np.flatnonzero(weights)
            frame, labels, weights = take_rows(frame, used), labels[used], weights[used]
            if per_step and isinstance(frame, Panel):
                labels = labels[:, labels.shape[1] - frame.lengths.max(initial=0) :]
                require_labels(labels)
        if known is not None:
            if pretrained is None:
                known.check_settings(self, self.sequencer)
            target = self._known_target()
        else:
            require_data(frame)
            known = pretrained.preparation if isinstance(pretrained, Pretrained) else None
        if target is not None:
            labels = target.check(labels)
        else:
            labels = self._check_step_labels(labels) if per_step else self._check_labels(labels)
        modalities = modalities_of(self, known)
        if isinstance(frame, pd.DataFrame):
            modality_columns(frame, modalities)  # which must be there
        rows, weights = distinct_rows(frame, labels, weights, modalities)
        frame, labels = take_rows(frame, rows), labels[rows]
        weights = weights / weights.max()  # so that no sum of them overflows
        if per_step:
            target = self._make_step_target(labels, weights) if target is None else target
        else:
            weights = self._weigh(labels, weights, target)
            target = self._make_target(labels, weights) if target is None else target
        if known is None:
            known, data = prepare(self, frame, form, self.sequencer)
        else:
            data = known.dataset(frame)
        data.target = target.encode(labels)
        data.weight = (weights / weights.mean()).astype(np.float32)
        # Once more, so that it does not matter whether the histories came as tokens.
        return Ready(known, target, data.subset(data.canonical_order()), pretrained)

    def _continued(self) -> Continued | None:
        """What of the last fit was pretrained, to go on with: all of it, or nothing."""
        if is_pretrained(self.nets_[0]):
            return Continued(self.nets_[0])
        if self.pretrained is not None:
            raise ValueError(
                "Expected no pretrained encoder to go on from a fit that started from nothing. "
                f"Got pretrained={type(self.pretrained).__name__}. Set pretrained=None, or "
                "warm_start=False to start anew from the encoder."
            )
        if self.pretrain:
            raise ValueError(
                "Expected pretrain=False to go on from a fit that started from nothing. Got True. "
                "Set it to False, or warm_start=False to pretrain and start anew."
            )
        return None

    def _validation_data(self, X_val: Any, y_val: Any, ready: Ready) -> RowDataset | None:
        if (X_val is None) != (y_val is None):
            given, missing = ("y_val", "X_val") if X_val is None else ("X_val", "y_val")
            raise DataError(f"Expected X_val and y_val together. Got {given} without {missing}.")
        if X_val is None:
            return None
        frame, _ = read_rows(self, X_val, ready.preparation)
        per_step = isinstance(ready.target, StepTarget)
        if per_step:
            labels = read_step_labels(y_val, X_val, frame, "y_val", classes=is_classifier(self))
            labels = ready.target.check(labels)
            require_labels(labels)
        else:
            labels = ready.target.check(read_labels(y_val, X_val, len(frame), "y_val"))
        data = ready.preparation.dataset(frame)
        data.target = ready.target.encode(labels)
        weights = np.ones(len(labels))
        if not per_step:
            weights = self._weigh(labels, weights, ready.target)
        data.weight = (weights / weights.mean()).astype(np.float32)
        return data

    def _state(
        self, ready: Ready, device: torch.device, nets: list[EventNet], going_on: bool = False
    ) -> dict[str, Any]:
        """What an estimator with these nets has that one before ``fit`` has not."""
        history = history_of(nets, self.history_ if going_on else None)
        return {
            "target_": ready.target,
            "preparation_": ready.preparation,
            "device_": device,
            "nets_": nets,
            "history_": history,
            "n_iter_": int(history["epoch"].max()),
        }

    # ---- prediction --------------------------------------------------------------------------

    def _answers(self, X: Any) -> tuple[NDArray[np.float64], Rows]:
        """What the members say together (n, K), and what ``X`` was.

        Log-probabilities, log-odds or numbers; (n, T, K) where steps have labels.
        """
        check_is_fitted(self)
        frame, _ = read_rows(self, X, self.preparation_)
        data = self.preparation_.dataset(frame)
        scores = scores_of(self.nets_, data, rows_at_once(self))
        answers = self.target_.combine(scores)
        if np.isnan(answers).any():
            raise DataError(
                "Expected answers that are numbers. Got NaN: the labels of fit were too large, or "
                "times and values are. Scale them."
            )
        return answers, frame

    def _answer(self) -> Answer:
        return supervised_answer(self.nets_, self.target_, getattr(self, "temperature_", 1.0))

    @property
    def _per_step(self) -> bool:
        """Whether the labels were those of steps."""
        return isinstance(self.target_, StepTarget)

    def _step_score(self, X: Any, y: Any, sample_weight: Any, judge: Callable[..., float]) -> float:
        """What a metric says of all steps that have a label, together."""
        panel, _ = read_rows(self, X, self.preparation_)
        assert isinstance(panel, Panel)
        truth, told, case = paired(y, self.predict(X), X, panel, classes=is_classifier(self))
        weight = None
        if sample_weight is not None:
            weight = read_weights(sample_weight, X, len(panel))[case]
        return float(judge(truth, told, sample_weight=weight))

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> Self:
        estimator = super()._from_saved(state, device)
        if hasattr(estimator, "nets_"):
            estimator.device_ = resolve_device(device)
        return estimator

    def _check_loaded(self) -> None:
        learned = self.preparation_.sizes()
        if not self.nets_:
            raise SaveFileError("Expected networks. Got none.")
        for net in self.nets_:
            built = net.module.keywords["backbone"]
            if odd := [name for name in learned if built[name] != learned[name]]:
                raise SaveFileError(
                    f"Expected networks for the data that were prepared. Got another {odd[0]}."
                )
            if len(net.module.keywords["prior"]) != len(self.target_.prior):
                raise SaveFileError("Expected networks for the labels there are. Got others.")
        if self.n_iter_ != self.history_["epoch"].max():
            raise SaveFileError(f"Expected n_iter_ of the history. Got {self.n_iter_}.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        return tags
