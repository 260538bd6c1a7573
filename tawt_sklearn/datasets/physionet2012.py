"""PhysioNet/Computing in Cardiology Challenge 2012: two days of intensive care, and who died."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from tawt_sklearn.datasets._description import load_description
from tawt_sklearn.datasets._download import get_data_home
from tawt_sklearn.datasets._physionet2012_files import TARGETS
from tawt_sklearn.datasets._physionet2012_source import Source

SETS = ("a", "b", "c")
HORIZON = 48.0
STATIC_CODES = ("Age", "Gender", "Height", "ICUType")
GENDERS = {0: "female", 1: "male"}
ICU_TYPES = {
    1: "coronary care",
    2: "cardiac surgery recovery",
    3: "medical",
    4: "surgical",
}


def fetch_physionet2012(
    *,
    data_home: str | os.PathLike[str] | None = None,
    sets: str | Sequence[str] = ("a", "b"),
    target: str = "in_hospital_death",
    static: bool = False,
    download: bool = True,
    return_X_y: bool = False,
    as_frame: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Any:
    """Load the intensive-care stays of the PhysioNet 2012 challenge (classification, regression).

    ==============   ==================================================
    Stays            4,000 in each of the sets a, b and c
    Events           1.75 million per set, 41 codes
    Time             hours since admission, 0 to 48, whole minutes
    Target           in-hospital death (14 %), length of stay, scores
    ==============   ==================================================

    Read more in the data set's description, ``DESCR``.

    Parameters
    ----------
    data_home : str or path, default=None
        Folder whose subfolder ``physionet2012`` holds the files or receives them (the files may
        also lie in `data_home` itself). By default the environment variable ``TAWT_DATA``, else
        ``~/tawt_sklearn_data``.
    sets : str or sequence of {"a", "b", "c"}, default=("a", "b")
        Parts of the challenge to load, in this order.
    target : {"in_hospital_death", "length_of_stay", "survival_days", "saps_i", "sofa"}, \
            default="in_hospital_death"
        Column of the outcomes to return as target. In all but the first, values below 0 mean
        "unknown" (for ``survival_days``: no death on record) and become NaN.
    static : bool, default=False
        By default the data come as published: age, gender, height and ICU type are events at time
        0. With ``static=True`` those four move to static columns: ``Age`` (years), ``Height``
        (cm), ``Gender`` and ``ICUType`` (words), missing where not recorded. Weight is measured
        repeatedly and stays an event.
    download : bool, default=True
        Download what is not on this machine. With False, raise instead.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=True
        With False, `data` is the bare :class:`~tawt_sklearn.EventsArray` of the events column,
        `target` a NumPy array and `frame` None; not possible with ``static=True``.
    n_retries : int, default=3
        Further attempts after a lost connection or a passing server error.
    delay : float, default=1.0
        Seconds between attempts.
    base_url : str, default=None
        Address of a mirror that has the files of https://physionet.org/files/challenge-2012/1.0.0/
        with their ``SHA256SUMS.txt``.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : DataFrame of shape (n_stays, 1) or (n_stays, 5)
            Column ``events`` (ending at 48 h), and the static columns if asked for; index
            ``subject_id``. Stays without any measurement are there, too.
        target : Series of shape (n_stays,)
        frame : DataFrame
            `data` and `target` in one.
        outcomes : DataFrame of shape (n_stays, 7)
            All outcomes as published (-1 = unknown), the set of each stay, and whether it has any
            measurement.
        feature_names : list of str
            Columns of `data`.
        target_names : list of str
            Names of the two classes, or of the target.
        codes : list of str
            Codes that occur in the events.
        filename : list of str
            Files that were read.
        DESCR : str
            Description, citation and licence.
    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    DatasetNotFoundError
        If ``download=False`` and the data are not there. It is a :class:`FileNotFoundError`.
    DownloadError
        If they cannot be downloaded or have the wrong checksum. It is an :class:`OSError`.
    DataError
        If files are there but cannot be read. It is a :class:`ValueError`.
    ValueError
        If a parameter is not one of its options.

    Notes
    -----
    For each set, the first of these that is found in the folder is read:

    1. what an earlier call has parsed: ``events-a.parquet`` and ``outcomes-a.parquet``, or
       ``set-a.npz`` where pyarrow is not installed;
    2. ``events.parquet`` and ``outcomes.parquet``, holding one or several sets;
    3. the unpacked records ``set-a/*.txt`` with ``Outcomes-a.txt``;
    4. the archive ``set-a.tar.gz`` with ``Outcomes-a.txt``, which is then parsed once and stored
       as in 1.

    All give the same result. Else 4. is downloaded. Each file is checked against the
    ``SHA256SUMS.txt`` that PhysioNet publishes beside it, and which is fetched first over the same
    https connection: that detects damaged and incomplete files, not a forged server. Interrupted
    downloads are resumed.

    The records are taken as they are, impossible values and duplicates included. Left out are only
    the ``RecordID`` and values of -1, which the files use for "not recorded".

    References
    ----------
    .. [1] Silva, I., Moody, G., Scott, D. J., Celi, L. A., & Mark, R. G. (2012). "Predicting
       in-hospital mortality of ICU patients: The PhysioNet/Computing in Cardiology Challenge
       2012". Computing in Cardiology 39, 245-248.

    Examples
    --------
    >>> from tawt_sklearn.datasets import fetch_physionet2012
    >>> X, y = fetch_physionet2012(sets="a", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y.sum()  # doctest: +SKIP
    ((4000, 1), 554)
    """
    set_names = _check_sets(sets)
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}. Got {target!r}.")
    if static and not as_frame:
        raise ValueError(
            "static=True makes columns of several kinds, which need as_frame=True. Got "
            "as_frame=False."
        )
    source = Source(get_data_home(data_home), base_url, n_retries, delay)
    events, outcomes = source.load(set_names, download=download)
    codes = events["code"].cat.categories.tolist()
    X = _nest(events, outcomes.index, static=static)
    y = _target(outcomes, target)
    data: Any = X if as_frame else X["events"].array
    target_values: Any = y if as_frame else y.to_numpy()
    if return_X_y:
        return data, target_values
    return Bunch(
        data=data,
        target=target_values,
        frame=X.assign(**{target: y}) if as_frame else None,
        outcomes=outcomes,
        feature_names=X.columns.tolist(),
        target_names=["survived", "died"] if target == "in_hospital_death" else [target],
        codes=codes,
        filename=[str(path) for path in source.files_read],
        DESCR=load_description("physionet2012.rst"),
    )


def _check_sets(sets: str | Sequence[str]) -> tuple[str, ...]:
    names = (sets,) if isinstance(sets, str) else tuple(sets)
    if not names or len(set(names)) < len(names) or not set(names) <= set(SETS):
        raise ValueError(f"sets must name some of {', '.join(SETS)}, each once. Got {sets!r}.")
    return names


def _nest(events: pd.DataFrame, stays: pd.Index, *, static: bool) -> pd.DataFrame:
    from tawt_sklearn.events.ingest import nest_events

    columns = pd.DataFrame(index=stays)
    if static:
        moved = events["code"].isin(STATIC_CODES) & (events["time"] == 0)
        columns = _static_columns(events[moved], stays)
        events = events[~moved]
    return nest_events(
        events,
        subject="subject_id",
        time="time",
        code="code",
        value="value",
        static=columns,
        until=HORIZON,
    )


def _static_columns(events: pd.DataFrame, stays: pd.Index) -> pd.DataFrame:
    first = events.drop_duplicates(["subject_id", "code"]).set_index("subject_id")
    columns = {}
    for code in STATIC_CODES:
        columns[code] = first.loc[first["code"] == code, "value"].astype(np.float64).reindex(stays)
    columns["Gender"] = columns["Gender"].map(GENDERS)
    columns["ICUType"] = columns["ICUType"].map(ICU_TYPES)
    return pd.DataFrame(columns)


def _target(outcomes: pd.DataFrame, target: str) -> pd.Series:
    y = outcomes[target]
    if target == "in_hospital_death":
        return y
    return y.astype(np.float64).where(y >= 0)
