"""PhysioNet/Computing in Cardiology Challenge 2012: two days of intensive care, and who died."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from tawt_sklearn.datasets import _physionet2012_files as files
from tawt_sklearn.datasets._description import load_description
from tawt_sklearn.datasets._download import (
    DatasetNotFoundError,
    DownloadError,
    download_file,
    get_data_home,
    read_checksums,
    sha256_of,
)

BASE_URL = "https://physionet.org/files/challenge-2012/1.0.0/"
FOLDER = "physionet2012"
SETS = ("a", "b", "c")
HORIZON = 48.0
CHECKSUMS = "SHA256SUMS.txt"
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
    if target not in files.TARGETS:
        raise ValueError(f"target must be one of {', '.join(files.TARGETS)}. Got {target!r}.")
    if static and not as_frame:
        raise ValueError(
            "static=True makes columns of several kinds, which need as_frame=True. Got "
            "as_frame=False."
        )
    source = _Source(_locate(get_data_home(data_home)), base_url or BASE_URL, n_retries, delay)
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


class _Source:
    """One folder of data and the address from which it can be completed."""

    def __init__(self, folder: Path, base_url: str, n_retries: int, delay: float) -> None:
        self.folder = folder
        self.base_url = base_url.rstrip("/") + "/"
        self.n_retries = n_retries
        self.delay = delay
        self.files_read: list[Path] = []
        self._shared: files.Frames | None = None
        self._checksums: dict[str, str] | None = None

    def load(self, set_names: Sequence[str], *, download: bool) -> files.Frames:
        parts = [self._load_set(name, download=download) for name in set_names]
        if len(parts) == 1:
            return parts[0]
        codes = sorted({code for events, _ in parts for code in events["code"].cat.categories})
        events = pd.concat(
            [part.assign(code=part["code"].cat.set_categories(codes)) for part, _ in parts],
            ignore_index=True,
        )
        return events, pd.concat([outcomes for _, outcomes in parts])

    def _load_set(self, name: str, *, download: bool) -> files.Frames:
        frames = self._read_parsed(name)
        if frames is None:
            frames = self._read_records(name)
        if frames is None:
            frames = self._read_archive(name, download=download)
        return frames

    def _read_parsed(self, name: str) -> files.Frames | None:
        frames = files.read_cache(self.folder, name)
        if frames is not None:
            self.files_read += sorted(self.folder.glob(f"*-{name}.parquet")) or [
                self.folder / f"set-{name}.npz"
            ]
            return frames
        if self._shared is None and files.has_pyarrow():
            self._shared = files.read_parquet_layout(self.folder)
        if self._shared is None or not (self._shared[1]["set"] == name).any():
            return None
        events, outcomes = self._shared
        outcomes = outcomes[outcomes["set"] == name]
        events = events[events["subject_id"].isin(outcomes.index)].reset_index(drop=True)
        code = events["code"].cat.remove_unused_categories()
        for stem in ("events", "outcomes"):
            if (path := self.folder / f"{stem}.parquet") not in self.files_read:
                self.files_read.append(path)
        return events.assign(code=code), outcomes

    def _read_records(self, name: str) -> files.Frames | None:
        folder, outcomes = self.folder / f"set-{name}", self.folder / f"Outcomes-{name}.txt"
        if not (folder.is_dir() and outcomes.is_file()):
            return None
        self.files_read += [folder, outcomes]
        return self._parse(name, list(files.read_folder(folder)), folder)

    def _read_archive(self, name: str, *, download: bool) -> files.Frames:
        archive, outcomes = self._archive_files(name)
        if download:
            if not all(self._is_intact(path) for path in (archive, outcomes)):
                self._download(name)
        else:
            self._check_there(name)
        frames = self._parse(name, list(files.read_archive(archive)), archive)
        self.files_read += [archive, outcomes]
        try:
            files.write_cache(self.folder, name, frames)
        except OSError:
            pass  # a read-only copy is parsed anew each time
        return frames

    def _parse(self, name: str, records: list[tuple[str, bytes]], where: Path) -> files.Frames:
        events = files.read_text_records(records, str(where))
        outcomes = files.read_text_outcomes(
            self.folder / f"Outcomes-{name}.txt", name, events
        )
        record_ids = [int(Path(file_name).stem) for file_name, _ in records]
        files.check_complete(record_ids, outcomes, str(where))
        return events, outcomes

    def _archive_files(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"set-{name}.tar.gz", self.folder / f"Outcomes-{name}.txt"

    def _is_intact(self, path: Path) -> bool:
        """Whether a file is there and has its published checksum, as far as that is known here."""
        if not path.is_file():
            return False
        listing = self.folder / CHECKSUMS
        known = read_checksums(listing) if listing.is_file() else {}
        return path.name not in known or known[path.name] == sha256_of(path)

    def _check_there(self, name: str) -> None:
        for path in self._archive_files(name):
            if path.is_file() and not self._is_intact(path):
                raise DownloadError(
                    f"{path} does not have the checksum that {CHECKSUMS} lists for it. Replace "
                    "the file, or call with download=True."
                )
            if not path.is_file():
                raise DatasetNotFoundError(
                    f"PhysioNet 2012, set {name}, was expected in {self.folder}. Got no "
                    f"{path.name} and download=False. {self._hint(name)}"
                )

    def _download(self, name: str) -> None:
        hint = self._hint(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._checksums is None:
                listing = self._fetch(CHECKSUMS, None, hint)
                self._checksums = read_checksums(listing)
            for path in self._archive_files(name):
                digest = self._checksums.get(path.name)
                if digest is None:
                    raise DownloadError(
                        f"{self.base_url}{CHECKSUMS} was expected to list {path.name}. Got no "
                        f"checksum for it, so a download could not be verified. {hint}"
                    )
                if not path.is_file() or sha256_of(path) != digest:
                    self._fetch(path.name, digest, hint)
        except DownloadError:
            raise
        except OSError as error:
            raise DownloadError(
                f"Files cannot be written to {self.folder}. Got: {error}. Give another data_home. "
                f"{hint}"
            ) from error

    def _fetch(self, name: str, digest: str | None, hint: str) -> Path:
        return download_file(
            self.base_url + name,
            self.folder / name,
            sha256=digest,
            n_retries=self.n_retries,
            delay=self.delay,
            hint=hint,
        )

    def _hint(self, name: str) -> str:
        hint = (
            f"To place the data by hand, put set-{name}.tar.gz (or its unpacked folder set-{name}) "
            f"and Outcomes-{name}.txt from {BASE_URL} into {self.folder}, or point data_home= or "
            "the environment variable TAWT_DATA to a folder that has them in its subfolder "
            f"{FOLDER}."
        )
        if (self.folder / "events.parquet").is_file() and not files.has_pyarrow():
            hint += " Parquet files are there, but reading them needs pyarrow."
        return hint


def _check_sets(sets: str | Sequence[str]) -> tuple[str, ...]:
    names = (sets,) if isinstance(sets, str) else tuple(sets)
    if not names or len(set(names)) < len(names) or not set(names) <= set(SETS):
        raise ValueError(f"sets must name some of {', '.join(SETS)}, each once. Got {sets!r}.")
    return names


def _locate(data_home: Path) -> Path:
    """Return the data set's folder: the subfolder, unless the files lie in `data_home` itself."""
    folder = data_home / FOLDER
    if not folder.is_dir() and data_home.is_dir():
        known = ("events.parquet", "Outcomes-?.txt", "events-?.parquet", "set-?.npz")
        if any(True for pattern in known for _ in data_home.glob(pattern)):
            return data_home
    return folder


def _nest(events: pd.DataFrame, stays: pd.Index, *, static: bool) -> pd.DataFrame:
    from tawt_sklearn.events.ingest import nest_events

    columns = pd.DataFrame(index=stays)
    if static:
        moved = events["code"].isin(STATIC_CODES) & (events["time"] == 0)
        columns = _static_columns(events[moved], stays)
        events = events[~moved]
    X = nest_events(
        events,
        subject="subject_id",
        time="time",
        code="code",
        value="value",
        static=columns,
        until=HORIZON,
    )
    return X.loc[stays]


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
