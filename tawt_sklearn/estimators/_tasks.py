"""A fit as scikit-learn's callbacks see it: a tree of tasks, members and their epochs.

The callbacks came with scikit-learn 1.9; before it there are none, and nothing is reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

from tawt_sklearn.training.net import EventNet

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands where scikit-learn has its own from 1.9 on."""


def begin_tasks(estimator: BaseEstimator, n_subtasks: int | None) -> Any:
    """The root of the tree, None without support by scikit-learn; it is torn down by sklearn."""
    if not hasattr(estimator, "_init_callback_context"):
        return None
    return estimator._init_callback_context(max_subtasks=n_subtasks)


class ReportEpochs(Callback):
    """Tell scikit-learn's callbacks of every epoch, and stop when one of them asks for it.

    Parameters
    ----------
    task : CallbackContext
        Root of the tree; the training of one net is a branch, its epochs are the leaves.
    arguments : dict
        ``estimator``, ``X``, ``y`` and ``metadata``, as in ``fit``.
    fitted : callable
        A net -> what an estimator has after ``fit`` with this net alone.
    """

    def __init__(
        self, task: Any, arguments: dict[str, Any], fitted: Callable[[EventNet], dict[str, Any]]
    ) -> None:
        self.task = task
        self.arguments = arguments
        self.fitted = fitted

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.member_ = self.task.subcontext(task_name="member", max_subtasks=net.max_epochs)
        self.member_.call_on_fit_task_begin(**self.arguments)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.epoch_ = self.member_.subcontext(task_name="epoch")
        self.epoch_.call_on_fit_task_begin(**self.arguments)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self._end(self.epoch_, net):
            raise KeyboardInterrupt  # as callbacks of skorch do

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self._end(self.member_, net)

    def _end(self, task: Any, net: EventNet) -> bool:
        return task.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(_as_it_is(net))
        )


def _as_it_is(net: EventNet) -> EventNet:
    """A copy of a net in training that can predict; the net itself goes on undisturbed."""
    snapshot = copy.copy(net)
    snapshot.__dict__["module_"] = copy.deepcopy(net.module_)
    return snapshot.prepare_for_prediction()
