"""The mixin that gives estimators ``save`` and ``load``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

from tawt_sklearn.exceptions import DataWarning, SaveFileError

if TYPE_CHECKING:
    from tawt_sklearn.persistence.archive import Location

_METHODS = (
    "fit",
    "partial_fit",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score",
    "transform",
    "inverse_transform",
    "split",
)
"""Methods that scikit-learn routes metadata to."""


class Savable:
    """Saving and loading for an estimator; stands before ``BaseEstimator`` among its bases.

    Saved are the parameters, and the attributes whose names end with an underscore or stand in
    ``_saved_private``.  Annotations of these attributes in the class are checked.  The class must
    have an entry in :data:`tawt_sklearn.persistence.registry.TABLE`.

    A class may have ``_check_loaded``, which raises where fitted attributes do not fit each other.

    Attributes
    ----------
    _saved_private : tuple of str
        Fitted attributes with private names.
    _unsavable_params : tuple of str
        Parameters that become None, with a warning, where they cannot be saved.
    _local_params : tuple of str
        Parameters that are None in files: no file says where a later ``fit`` writes.
    """

    _saved_private: tuple[str, ...] = ()
    _unsavable_params: tuple[str, ...] = ()
    _local_params: tuple[str, ...] = ()

    def save(self, path: Location) -> None:
        """Save the estimator, fitted or not, to a file.

        The file is a zip of JSON and safetensors without any code in it, so that loading one from
        a stranger runs nothing.  It is written at one go: on an error, or when the machine goes
        down, a file that was there before is still there.  Of several processes that have trained
        a network together the first one writes, and the others return at once.

        Parameters
        ----------
        path : str or path
            The suffix is up to you; ``.tawt`` is usual.

        Raises
        ------
        FileNotFoundError
            The folder does not exist.
        SaveFileError
            The path is that of a folder.
        TypeError
            A parameter cannot be saved, such as a function; nothing is written.
        """
        from tawt_sklearn.persistence.archive import write_archive
        from tawt_sklearn.persistence.codec import encode

        if not self._writes():
            return
        node, arrays = encode(self)
        write_archive(path, {"estimator": node}, arrays)

    @classmethod
    def load(cls, path: Location, device: Any = "auto") -> Self:
        """Load an estimator that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path
        device : str or torch.device, default="auto"
            Where to put networks, whatever they were trained on.  Estimators without a network
            ignore it.

        Returns
        -------
        estimator
            Gives exactly what the saved one gave.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        SaveFileError
            The file is damaged, holds another class, or was written by a newer release or another
            program.
        """
        return load_estimator(path, device, expected=cls)

    def _writes(self) -> bool:
        """Whether this process writes files."""
        return True

    def _to_saved(self) -> dict[str, Any]:
        """The state: ``params``, ``fitted`` and, where they were set, settings of scikit-learn."""
        from tawt_sklearn.persistence.hints import check_hints

        params = self.get_params(deep=False)  # type: ignore[attr-defined]
        for name in self._unsavable_params:
            params[name] = self._savable_or_none(name, params[name])
        params |= dict.fromkeys(self._local_params)
        fitted = {name: value for name, value in vars(self).items() if self._is_saved(name)}
        check_hints(type(self), fitted)  # better now than when loading
        state = {"params": params, "fitted": fitted}
        settings = vars(self)
        if "_sklearn_output_config" in settings:
            state["output"] = dict(settings["_sklearn_output_config"])
        if (request := settings.get("_metadata_request")) is not None:
            methods = [method for method in _METHODS if hasattr(request, method)]
            state["requests"] = {
                method: dict(getattr(request, method).requests) for method in methods
            }
        return state

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> Self:
        """Build the estimator; a subclass with networks moves them to ``device`` afterwards."""
        from tawt_sklearn.persistence.hints import check_hints

        if unknown := set(state) - {"params", "fitted", "output", "requests"}:
            raise SaveFileError(f"Expected the state of an estimator. Got {sorted(unknown)}, too.")
        params, fitted = state["params"], state["fitted"]
        # Fewer come from an older release, which lacked what is left at its default.
        if unknown := set(params) - set(cls._get_param_names()):  # type: ignore[attr-defined]
            raise SaveFileError(
                f"It has parameters that {cls.__name__} lacks: {sorted(unknown)}. It was written "
                "by another version of tawt_sklearn; use that one."
            )
        if unknown := {name for name in fitted if not cls._is_saved(name) or hasattr(cls, name)}:
            raise SaveFileError(
                f"It has attributes that {cls.__name__} does not learn: {sorted(unknown)}. It was "
                "changed, or written by another version of tawt_sklearn."
            )
        check_hints(cls, fitted)
        estimator = cls(**params | dict.fromkeys(cls._local_params))
        vars(estimator).update(fitted)
        # A nested estimator is not checked before it is fitted anew, and that may be never.
        if hasattr(cls, "_parameter_constraints"):
            estimator._validate_params()  # type: ignore[attr-defined]
        if fitted and hasattr(estimator, "_check_loaded"):
            estimator._check_loaded()
        if "output" in state:
            estimator.set_output(**state["output"])  # type: ignore[attr-defined]
        if "requests" in state:
            estimator._set_requests(state["requests"])
        return estimator

    @classmethod
    def _is_saved(cls, name: str) -> bool:
        """Whether an attribute of that name is saved."""
        return name in cls._saved_private or (name.endswith("_") and not name.startswith("_"))

    def _savable_or_none(self, name: str, value: Any) -> Any:
        from tawt_sklearn.persistence.codec import encode

        try:
            encode(value)
        except TypeError:
            warnings.warn(
                f"{name} is not saved: the loaded estimator predicts the same and has "
                f"{name}=None. Set it again with set_params before fitting anew.",
                DataWarning,
                stacklevel=8,  # the caller of save
            )
            return None
        return value

    def _set_requests(self, requests: dict[str, dict[str, Any]]) -> None:
        """Restore what set_fit_request and the like set."""
        request = self._get_metadata_request()  # type: ignore[attr-defined]
        for method, wanted in requests.items():
            if method not in _METHODS:
                raise SaveFileError(f"Expected a method that takes metadata. Got {method[:40]!r}.")
            for param, alias in wanted.items():
                getattr(request, method).add_request(param=param, alias=alias)
        self._metadata_request = request


def load_estimator(path: Location, device: Any, expected: type | None = None) -> Any:
    """Load the estimator in a file, of the class expected or of any.

    Raises
    ------
    FileNotFoundError, SaveFileError
        As :meth:`Savable.load`.
    TypeError
        The class expected is not one that files may hold.
    """
    from tawt_sklearn.persistence.archive import naming, read_archive
    from tawt_sklearn.persistence.codec import decode
    from tawt_sklearn.persistence.registry import class_of, name_of

    if expected is not None and name_of(expected) is None:
        raise TypeError(
            f"Files hold estimators of tawt_sklearn, not {expected.__qualname__}. Use "
            "tawt_sklearn.load, or pickle for a subclass of yours."
        )
    document, arrays = read_archive(path)
    with naming(path):
        node = document.get("estimator")
        held = node.get("class") if isinstance(node, dict) else None
        cls = class_of(held)
        if not issubclass(cls, Savable):
            raise SaveFileError(f"It holds a {held}, which is no estimator.")
        if expected is not None and cls is not expected:
            raise SaveFileError(
                f"Expected a {expected.__name__}. Got a file that holds a {held}; use {held}.load "
                "or tawt_sklearn.load."
            )
        return decode(node, arrays, device)
