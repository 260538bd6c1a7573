"""A training run on disk: a killed fit goes on where its last finished epoch ended.

One file for each run, named by a fingerprint of everything that its result depends on, so that
the fits of a search can share a folder.  The file of a finished run keeps its weights: a search
that was killed finds the fits it had finished, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import PicklingError
from typing import Any

import joblib
import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor

from tawt_sklearn import __version__
from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.persistence.archive import ASK, naming, read_archive, write_archive
from tawt_sklearn.persistence.codec import decode, encode
from tawt_sklearn.training.callbacks import AverageCheckpoints, plain_epochs
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.schedule import FollowSchedule


def fingerprint(settings: Any, *data: RowDataset | None) -> str:
    """Name of a run: a hash of its settings and of all rows with labels and weights."""
    parts = [None if rows is None else rows.content() for rows in data]
    try:
        return str(joblib.hash([__version__, settings, parts], hash_name="sha1", coerce_mmap=True))
    except PicklingError as error:
        raise ValueError(
            "Expected parameters that can be pickled where checkpoint_dir is given: what they hold "
            f"is part of the name of a run. Got one that cannot: {error}. Is there a lambda or a "
            "local class in net_params?"
        ) from error


class Checkpoint(Callback):
    """Write the state of the run after every epoch; the last of the callbacks.

    Of several processes the first one writes, for all of them.

    What a run holds: weights and the optimizer's moments, the weights kept for averaging, the
    number of the step, the history, and the states of the random generators.

    Parameters
    ----------
    path : Path
    schedule : FollowSchedule
    average : AverageCheckpoints
    generator : torch.Generator
        Of the order of the rows.
    """

    def __init__(
        self,
        path: Path,
        schedule: FollowSchedule,
        average: AverageCheckpoints,
        generator: torch.Generator,
    ) -> None:
        self.path = path
        self.schedule = schedule
        self.average = average
        self.generator = generator

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        random = {"cpu": torch.get_rng_state(), "rows": self.generator.get_state()}
        if net.module_device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(net.module_device)
        random, *others = net.processes.gathered(random, "states of random generators")
        if not net.processes.is_first:
            return
        state = {
            "finished": False,
            "history": plain_epochs(net.history),
            "weights": net.weights(),
            "optimizer": net.optimizer_.state_dict()["state"],
            "step": self.schedule.step_,
            "scaler": {} if net.scaler_ is None else net.scaler_.state_dict(),
            "kept": self.average.kept_,
            "random": random,
            **({"random_of_others": others} if others else {}),
        }
        self._write(state)

    def finish(self, net: Any, callbacks: Sequence[Any] = ()) -> None:
        """Keep the result only, and what the user's callbacks were that had a hand in it."""
        state = {"finished": True, "history": plain_epochs(net.history), "weights": net.weights()}
        self._write({**state, "callbacks": _described(callbacks)})

    def read(self, callbacks: Sequence[Any] = ()) -> dict[str, Any] | None:
        """The state of an earlier run, None where there is none.

        A run that other callbacks have seen to the end is none: they may have changed its result.

        Raises
        ------
        SaveFileError
            The file was damaged.
        """
        if not self.path.exists():
            return None
        try:
            document, arrays = read_archive(self.path)
            with naming(self.path):
                state = decode(document.get("run"), arrays)
                if not isinstance(state, dict) or "finished" not in state:
                    raise SaveFileError("It holds no training run.")
        except SaveFileError as error:
            reason = str(error).removesuffix(ASK).strip()
            raise SaveFileError(f"{reason} Delete it to train this member anew.") from error
        if state["finished"] and state.get("callbacks") != _described(callbacks):
            return None
        return _tensors(state)

    def resume(self, net: Any, state: dict[str, Any]) -> None:
        """Put the state into an initialized net whose training has begun."""
        net.history_ = History(state["history"])
        net.module_.load_state_dict(state["weights"])
        if state["finished"]:
            return
        groups = net.optimizer_.state_dict()["param_groups"]
        net.optimizer_.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.schedule.step_ = state["step"]
        if net.scaler_ is not None and state["scaler"]:
            net.scaler_.load_state_dict(state["scaler"])
        device = net.module_device
        self.average.kept_ = [
            (rank, [tensor.to(device) for tensor in weights]) for rank, weights in state["kept"]
        ]
        rank = net.processes.rank
        random = state["random_of_others"][rank - 1] if rank else state["random"]
        torch.set_rng_state(random["cpu"])
        self.generator.set_state(random["rows"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], device)

    def _write(self, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        node, arrays = encode(_arrays(state))
        write_archive(self.path, {"run": node}, arrays)


def _described(callbacks: Sequence[Any]) -> str:
    """A hash of what callbacks are and of their settings, not of what they have seen."""
    settings = []
    for given in callbacks:
        callback = given[-1] if isinstance(given, tuple) else given
        kind = callback if isinstance(callback, type) else type(callback)
        own = {k: v for k, v in getattr(callback, "__dict__", {}).items() if not k.endswith("_")}
        settings.append((kind.__module__, kind.__qualname__, {} if kind is callback else own))
    try:
        return str(joblib.hash(settings))
    except PicklingError:
        return str(joblib.hash([names for *names, _ in settings]))


def _arrays(value: Any) -> Any:
    """Nested containers with arrays in place of tensors."""
    return _mapped(value, Tensor, lambda tensor: tensor.detach().cpu().numpy())


def _tensors(value: Any) -> Any:
    """Nested containers with tensors in place of arrays."""
    return _mapped(value, np.ndarray, lambda array: torch.from_numpy(np.array(array)))


def _mapped(value: Any, kind: type, change: Any) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, kind, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, kind, change) for item in value)
    return value
