"""NASA's simulated turbofan engines, run until they fail."""

from __future__ import annotations

import io
import numbers
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from tawt_sklearn.datasets._description import load_description
from tawt_sklearn.datasets._download import DownloadError, get_data_home
from tawt_sklearn.datasets._tables import TableSource, check_digest, check_names
from tawt_sklearn.exceptions import DataError

BASE_URL = "https://phm-datasets.s3.amazonaws.com/NASA/"
ARCHIVE = "6.+Turbofan+Engine+Degradation+Simulation+Data+Set.zip"

SUBSETS = ("FD001", "FD002", "FD003", "FD004")
SPLITS = ("train", "test")
#: Subset and split -> units and rows.
SHAPES = {
    ("FD001", "train"): (100, 20_631),
    ("FD001", "test"): (100, 13_096),
    ("FD002", "train"): (260, 53_759),
    ("FD002", "test"): (259, 33_991),
    ("FD003", "train"): (100, 24_720),
    ("FD003", "test"): (100, 16_596),
    ("FD004", "train"): (249, 61_249),
    ("FD004", "test"): (248, 41_214),
}
#: Subset and split -> SHA-256 of its rows (`content_digest`), computed once from a copy of the
#: published files, as NASA lists no checksums.
DIGESTS = {
    ("FD001", "train"): "176afe73b4bdd267519188831710c3abc017463ba6e3058681327ec7ff6469f6",
    ("FD001", "test"): "7d6a0b4a5824b89300c6509d0562b5e3e7f7c707189954650a5b584f4efeb28d",
    ("FD003", "train"): "0d9e465c230e0e4c631459e98b67eba42dbb500014fdb7edabecfbf8b0583483",
    ("FD003", "test"): "2ade80a366c0fc120ea3ba26d63b1f0a7ecf90de96dfadf391ce0a916d4601be",
}

FEATURES = (*(f"op{i}" for i in range(1, 4)), *(f"s{i}" for i in range(1, 22)))
ROW_COLUMNS = ("unit", "cycle", *FEATURES, "rul")
COLUMNS = ("subset", "split", *ROW_COLUMNS)


def fetch_cmapss(
    *,
    data_home: str | os.PathLike[str] | None = None,
    subset: str | Sequence[str] = "FD001",
    split: Literal["train", "test"] | None = None,
    max_rul: int | None = None,
    download: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch:
    """Load the turbofan engines of C-MAPSS with their remaining useful life (regression).

    ==============   ==================================================
    Units            100 + 100 (train + test) in FD001, 709 + 707 in all
    Cycles           33,727 in FD001, 265,256 in all
    Channels         3 operational settings, 21 sensors
    Target           cycles left until the engine fails
    ==============   ==================================================

    Read more in the data set's description, ``DESCR``.

    Parameters
    ----------
    data_home : str or path, default=None
        Folder whose subfolder ``cmapss`` holds the files or receives them (the files may also lie
        in `data_home` itself). By default the environment variable ``TAWT_DATA``, else
        ``~/tawt_sklearn_data``.
    subset : str or sequence of {"FD001", "FD002", "FD003", "FD004"}, default="FD001"
        Subsets to load, in this order.
    split : {"train", "test"}, default=None
        The half to load. By default both, the training units first. The training units run until
        they fail, the test units stop some time before.
    max_rul : int, default=None
        Largest remaining life; longer ones are set to it, as an engine that is still sound does
        not show how long it will last. 125 is usual. By default nothing is changed.
    download : bool, default=True
        Download what is not on this machine. With False, raise instead.
    n_retries : int, default=3
        Further attempts after a lost connection or a passing server error.
    delay : float, default=1.0
        Seconds between attempts.
    base_url : str, default=None
        Address of a mirror that has the zip of https://phm-datasets.s3.amazonaws.com/NASA/.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        frame : DataFrame of shape (n_cycles, 29)
            One row per flight of an engine, by subset, split, unit and cycle: ``subset`` and
            ``split`` (category), ``unit`` and ``cycle`` (int32, from 1), ``op1`` to ``op3`` and
            ``s1`` to ``s21`` (float32), and ``rul`` (int32, at most `max_rul`). Units are numbered
            anew in each subset and split.
        target : Series of shape (n_cycles,)
            The column ``rul``.
        feature_names : list of str
            The 24 channels.
        target_names : list of str
            ``["rul"]``.
        filename : list of str
            Files that were read.
        DESCR : str
            Description, citation and licence.

    Raises
    ------
    DatasetNotFoundError
        If ``download=False`` and the data are not there. It is a :class:`FileNotFoundError`.
    DownloadError
        If they cannot be downloaded or are not what was published. It is an :class:`OSError`.
    DataError
        If files are there but cannot be read. It is a :class:`ValueError`.
    ValueError
        If a parameter is not one of its options.

    Notes
    -----
    For each subset, the first of these that has it is read:

    1. ``cmapss.parquet``, where pyarrow is installed;
    2. ``train_FD001.txt``, ``test_FD001.txt`` and ``RUL_FD001.txt`` and so on, in the folder or one
       below it;
    3. any zip in the folder that holds those files, also in a zip inside the zip, as published.

    All give the same result. Else the published zip is downloaded. It comes without a checksum, so
    its content is checked: every subset must have the published numbers of units and rows, and
    the rows of FD001 and FD003 must have the SHA-256 that was computed once from a copy of the
    published files. For the same reason only a connection that is lost during a call is resumed;
    the next call begins anew.

    The remaining life of a training unit is the number of cycles until its last one. For a test
    unit, the published life after its last cycle is added.

    References
    ----------
    .. [1] Saxena, A., & Goebel, K. (2008). "Turbofan Engine Degradation Simulation Data Set". NASA
       Prognostics Data Repository, NASA Ames Research Center, Moffett Field, CA.
    .. [2] Saxena, A., Goebel, K., Simon, D., & Eklund, N. (2008). "Damage propagation modeling for
       aircraft engine run-to-failure simulation". International Conference on Prognostics and
       Health Management (PHM08), 1-9.

    Examples
    --------
    >>> from tawt_sklearn.datasets import fetch_cmapss
    >>> engines = fetch_cmapss(split="train", max_rul=125)  # doctest: +SKIP
    >>> engines.frame.shape, engines.target.max()  # doctest: +SKIP
    ((20631, 29), 125)

    One array of shape (channels, cycles) per engine:

    >>> units = engines.frame.groupby("unit")  # doctest: +SKIP
    >>> X = [unit[engines.feature_names].to_numpy().T for _, unit in units]  # doctest: +SKIP
    >>> len(X), X[0].shape  # doctest: +SKIP
    (100, (24, 192))
    """
    subsets = check_names("subset", subset, SUBSETS)
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be 'train', 'test' or None. Got {split!r}.")
    if max_rul is not None and (not isinstance(max_rul, numbers.Integral) or max_rul < 1):
        raise ValueError(f"max_rul must be a whole number of at least 1, or None. Got {max_rul!r}.")
    source = TableSource(
        title="The C-MAPSS turbofan data",
        data_home=get_data_home(data_home),
        name="cmapss",
        base_url=base_url or BASE_URL,
        archive=ARCHIVE,
        text_pattern="*_FD00?.txt",
        n_retries=n_retries,
        delay=delay,
    )
    splits = SPLITS if split is None else (split,)
    with source.only_good_downloads():
        parts = _load(source, [(name, half) for name in subsets for half in splits], download)
    frame = pd.concat(parts.values(), ignore_index=True)
    lengths = [len(part) for part in parts.values()]
    for column, names, place in (("subset", subsets, 0), ("split", list(splits), 1)):
        words = np.repeat([key[place] for key in parts], lengths)
        frame[column] = pd.Categorical(words, categories=names)
    if max_rul is not None:
        frame["rul"] = frame["rul"].clip(upper=int(max_rul))
    frame = frame[list(COLUMNS)]
    return Bunch(
        frame=frame,
        target=frame["rul"],
        feature_names=list(FEATURES),
        target_names=["rul"],
        filename=[str(path) for path in source.files_read],
        DESCR=load_description("cmapss.rst"),
    )


def _load(
    source: TableSource, wanted: list[tuple[str, str]], download: bool
) -> dict[tuple[str, str], pd.DataFrame]:
    """Subset and split -> its checked rows, in the order asked for."""
    parts: dict[tuple[str, str], pd.DataFrame] = {}
    stored = source.read_parquet(COLUMNS)
    if stored is not None:
        for name, half in wanted:
            rows = stored[(stored["subset"] == name) & (stored["split"] == half)]
            if len(rows):
                parts[name, half] = rows
        if parts:
            source.files_read.append(source.parquet)
    absent = [key for key in wanted if key not in parts]
    files = [file for name, half in absent for file in _text_names(name, half)]
    if files:
        texts = source.require_texts(files, download=download)
        for name, half in absent:
            parts[name, half] = _read_texts(texts, name, half)
    return {key: _checked(parts[key], *key) for key in wanted}


def _text_names(subset: str, split: str) -> list[str]:
    names = [f"{split}_{subset}.txt"]
    return names if split == "train" else [*names, f"RUL_{subset}.txt"]


def _read_texts(texts: dict[str, bytes], subset: str, split: str) -> pd.DataFrame:
    names = _text_names(subset, split)
    values = _read_numbers(texts[names[0]], names[0], len(ROW_COLUMNS) - 1)
    table = pd.DataFrame(values, columns=list(ROW_COLUMNS[:-1]))
    cycle = table.groupby("unit")["cycle"]
    table["rul"] = cycle.transform("max") - table["cycle"]
    if split == "test":
        # The n-th number is the life of unit n after its last cycle.
        left = pd.Series(_read_numbers(texts[names[1]], names[1], 1)[:, 0])
        left.index += 1
        units = table["unit"].drop_duplicates()
        if not left.index.equals(pd.Index(units.sort_values(), dtype=left.index.dtype)):
            raise DataError(
                f"{names[1]} should have one number per unit of {names[0]}. Got {len(left)} "
                f"numbers for {len(units)} units. Replace both files."
            )
        table["rul"] += table["unit"].map(left)
    return table


def _read_numbers(text: bytes, file: str, n_columns: int) -> np.ndarray:
    """Parse lines of numbers between spaces."""
    try:
        table = pd.read_csv(io.BytesIO(text), sep=r"\s+", header=None, dtype=np.float64).to_numpy()
    except ValueError as error:
        raise DataError(f"{file} cannot be parsed. Got: {error}. Replace it.") from error
    if table.shape[1] != n_columns or np.isnan(table).any():
        raise DataError(
            f"{file} should have {n_columns} numbers in each line. Got {table.shape[1]} columns "
            f"and {np.isnan(table).sum()} gaps. Replace it."
        )
    return table


def _checked(table: pd.DataFrame, subset: str, split: str) -> pd.DataFrame:
    """Bring rows to one form, and check that they are the published ones as far as is known."""
    what = f"{subset}, {split}"
    whole = dict.fromkeys(["unit", "cycle", "rul"], np.int32)
    table = table[list(ROW_COLUMNS)].astype({**dict.fromkeys(FEATURES, np.float32), **whole})
    table = table.sort_values(["unit", "cycle"], ignore_index=True)
    found = (table["unit"].nunique(), len(table))
    n_units, n_rows = SHAPES[subset, split]
    if found != (n_units, n_rows):
        raise DownloadError(
            f"{what}: {n_units} units and {n_rows:,} rows were expected. Got {found[0]} units and "
            f"{found[1]:,} rows. Replace the file."
        )
    # Units 1, 2, ... each with the cycles 1, 2, ... up to its last
    numbered = table["unit"].iloc[-1] == n_units and table["unit"].iloc[0] == 1
    counted = table.groupby("unit").cumcount() + 1
    if not numbered or not (counted == table["cycle"]).all():
        raise DownloadError(
            f"{what}: units and cycles were expected to count from 1 without a gap. Got another "
            "numbering. Replace the file."
        )
    if table["rul"].min() < 0:
        raise DownloadError(
            f"{what}: the remaining life was expected to be 0 or more. Got {table['rul'].min()}. "
            "Replace the file."
        )
    check_digest(table, DIGESTS.get((subset, split)), what)
    return table
