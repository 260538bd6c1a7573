"""Saving and loading estimators: files of JSON and safetensors, without pickle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tawt_sklearn.persistence.savable import load_estimator

if TYPE_CHECKING:
    from tawt_sklearn.persistence.archive import Location

__all__ = ["load"]


def load(path: Location, device: Any = "auto") -> Any:
    """Load the estimator that a file holds, of whatever class it is.

    Nothing in the file is run: it holds no code, and names only classes of this library.

    Parameters
    ----------
    path : str or path
        A file that the ``save`` method of an estimator wrote.
    device : str or torch.device, default="auto"
        Where to put networks, whatever they were trained on; ``"auto"`` takes a GPU if there is
        one.  Estimators without a network ignore it.

    Returns
    -------
    estimator
        Gives exactly what the saved one gave.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    SaveFileError
        The file is damaged, or was written by a newer release or another program.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from tawt_sklearn import TripletSequencer, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "sequencer.tawt"
    ...     TripletSequencer(min_count=20).save(path)
    ...     load(path)
    TripletSequencer(min_count=20)
    """
    return load_estimator(path, device)
