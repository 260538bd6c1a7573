"""Beijing multi-site air quality: four years of hourly measurements at up to twelve stations."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from tawt_sklearn.datasets._description import load_description
from tawt_sklearn.datasets._download import DownloadError, get_data_home
from tawt_sklearn.datasets._tables import TableSource, check_digest, check_names
from tawt_sklearn.exceptions import DataError

BASE_URL = "https://archive.ics.uci.edu/static/public/501/"
ARCHIVE = "beijing+multi+site+air+quality+data.zip"
TEXT_NAME = "PRSA_Data_{}_20130301-20170228.csv"

#: Station -> SHA-256 of its rows (`content_digest`). The publisher lists no checksums: these were
#: computed once from a copy of the published files, None where that copy had no such station.
STATIONS: dict[str, str | None] = {
    "Aotizhongxin": "f99aadb6072711804c93bc25de05826f17a7915de26a5c77fd96a5ae68dd0f10",
    "Changping": "6d51ddb3d35cff4f8818f07abf0f577da54bfd5d1a0ebcd11d6ea74215b49904",
    "Dingling": "38138acf971e59fda44d99ea4a449eb7f714f472d98ed80edc951824904a72c3",
    "Dongsi": "d3582e5c152046cd5232dae40189904dc4bb84a9f3643dd49520418ce5a99360",
    "Guanyuan": "0e42a6b6585a30959f09c0e9b2f31c009c3f9764d8f78918823bf8167b3247db",
    "Gucheng": None,
    "Huairou": None,
    "Nongzhanguan": "1fbab5815ce8a249fe74cc0eb018863ff16bb587c0bcffc1ecd6fa20c94cf82a",
    "Shunyi": None,
    "Tiantan": "52b772075568c8ad58a94cab7348affca88e6ce802194ec97a20b892d3a19e9b",
    "Wanliu": None,
    "Wanshouxigong": "9c33c9b71c529feac9dc6e2e83cf6810c7780c0c230c674fd3d32338bf7e9b14",
}
HOURS = pd.date_range("2013-03-01", "2017-02-28 23:00", freq="h", unit="us", name="time")

#: Numeric column -> lowest and highest value that is believed; beyond it, columns are mixed up.
RANGES = {
    "PM2.5": (0, 2000),
    "PM10": (0, 2000),
    "SO2": (0, 2000),
    "NO2": (0, 1000),
    "CO": (0, 50_000),
    "O3": (0, 2000),
    "TEMP": (-40, 50),
    "PRES": (900, 1100),
    "DEWP": (-60, 40),
    "RAIN": (0, 200),
    "WSPM": (0, 60),
}
WIND_DIRECTIONS = (
    "N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE",
    "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW",
)  # fmt: skip
FEATURES = (*RANGES, "wd")
COLUMNS = ("station", "time", *FEATURES)


def fetch_beijing_air(
    *,
    data_home: str | os.PathLike[str] | None = None,
    stations: str | Sequence[str] | None = None,
    download: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch:
    """Load the hourly air quality and weather of Beijing (regression, forecasting, panels).

    ==============   ==================================================
    Stations         12
    Hours            35,064 per station, March 2013 to February 2017
    Channels         6 pollutants, 5 numbers of weather, wind direction
    Missing          0 to 5 % per channel
    ==============   ==================================================

    Read more in the data set's description, ``DESCR``.

    Parameters
    ----------
    data_home : str or path, default=None
        Folder whose subfolder ``beijing_air`` holds the files or receives them (the files may also
        lie in `data_home` itself). By default the environment variable ``TAWT_DATA``, else
        ``~/tawt_sklearn_data``.
    stations : str or sequence of str, default=None
        Stations to load, in this order. By default all that are on this machine, or all 12 where
        none is.
    download : bool, default=True
        Download what is not on this machine. With False, raise instead.
    n_retries : int, default=3
        Further attempts after a lost connection or a passing server error.
    delay : float, default=1.0
        Seconds between attempts.
    base_url : str, default=None
        Address of a mirror that has the zip of https://archive.ics.uci.edu/static/public/501/.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        frame : DataFrame of shape (n_stations * 35064, 14)
            One row per station and hour, by station and time: ``station`` (category), ``time``
            (datetime, local), the 11 numeric channels (float32) and ``wd`` (category).
        feature_names : list of str
            The 12 channels, numeric ones first.
        categorical_names : list of str
            Those of them that are categorical: ``["wd"]``.
        stations : list of str
            Stations in `frame`, in its order.
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
        If `stations` names one that does not exist.

    Notes
    -----
    For each station, the first of these that has it is read:

    1. ``beijing_air.parquet``, where pyarrow is installed;
    2. ``PRSA_Data_<Station>_20130301-20170228.csv``, in the folder or one below it;
    3. any zip in the folder that holds that file, also in a zip inside the zip, as published.

    All give the same result. Else the published zip is downloaded. It comes without a checksum, so
    its content is checked: every station must have its 35,064 hours and believable values, and the
    rows of eight stations must have the SHA-256 that was computed once from a copy of the
    published files. For the same reason only a connection that is lost during a call is resumed;
    the next call begins anew.

    The values are taken as they are.

    References
    ----------
    .. [1] Zhang, S., Guo, B., Dong, A., He, J., Xu, Z., & Chen, S. X. (2017). "Cautionary tales on
       air-quality improvement in Beijing". Proceedings of the Royal Society A 473(2205), 20170457.

    Examples
    --------
    >>> from tawt_sklearn.datasets import fetch_beijing_air
    >>> air = fetch_beijing_air(stations="Dongsi")  # doctest: +SKIP
    >>> air.frame.shape  # doctest: +SKIP
    (35064, 14)

    Days as a panel of shape (days, channels, hours), the wind direction as a code:

    >>> import numpy as np
    >>> codes = air.frame["wd"].cat.codes.replace(-1, np.nan)  # doctest: +SKIP
    >>> days = air.frame[air.feature_names].assign(wd=codes)  # doctest: +SKIP
    >>> days.to_numpy(float).reshape(-1, 24, 12).transpose(0, 2, 1).shape  # doctest: +SKIP
    (1461, 12, 24)
    """
    wanted = None if stations is None else check_names("stations", stations, list(STATIONS))
    source = TableSource(
        title="The Beijing air-quality data",
        data_home=get_data_home(data_home),
        name="beijing_air",
        base_url=base_url or BASE_URL,
        archive=ARCHIVE,
        text_pattern=TEXT_NAME.format("*"),
        n_retries=n_retries,
        delay=delay,
    )
    with source.only_good_downloads():
        parts = _load(source, wanted, download=download)
    names = list(parts)
    frame = pd.concat(parts.values(), ignore_index=True)
    frame["station"] = pd.Categorical(np.repeat(names, len(HOURS)), categories=names)
    return Bunch(
        frame=frame[list(COLUMNS)],
        feature_names=list(FEATURES),
        categorical_names=["wd"],
        stations=names,
        filename=[str(path) for path in source.files_read],
        DESCR=load_description("beijing_air.rst"),
    )


def _load(
    source: TableSource, wanted: list[str] | None, *, download: bool
) -> dict[str, pd.DataFrame]:
    """Station -> its checked rows, in the order asked for."""
    parts = {}
    stored = source.read_parquet(COLUMNS)
    if stored is not None:
        for name in wanted or STATIONS:
            rows = stored[stored["station"] == name]
            if len(rows):
                parts[name] = _canonical(rows, f"{source.parquet}, station {name}")
    if parts:
        source.files_read.append(source.parquet)

    files = {name: TEXT_NAME.format(name) for name in STATIONS}
    texts: dict[str, bytes] = {}
    if wanted is None and not parts:
        texts = source.find_texts(files.values())
        wanted = [name for name in STATIONS if files[name] in texts] or list(STATIONS)
    wanted = wanted or list(parts)
    absent = [name for name in wanted if name not in parts]
    unread = [files[name] for name in absent if files[name] not in texts]
    if unread:
        texts |= source.require_texts(unread, download=download)
    for name in absent:
        parts[name] = _canonical(_read_text(texts[files[name]], files[name], name), files[name])
    for name in wanted:
        check_digest(parts[name], STATIONS[name], f"Station {name}")
    return {name: parts[name] for name in wanted}


def _read_text(text: bytes, file: str, station: str) -> pd.DataFrame:
    """Parse one published CSV file."""
    clock = ["year", "month", "day", "hour"]
    kinds: dict[str, Any] = {
        **dict.fromkeys(RANGES, np.float64),
        **dict.fromkeys(["wd", "station"], "category"),
    }
    try:
        table = pd.read_csv(io.BytesIO(text), dtype=kinds)
        absent = [name for name in (*clock, *FEATURES, "station") if name not in table]
        if absent:
            raise ValueError(f"no column {', '.join(absent)}")
        table["time"] = pd.to_datetime(table[clock])
    except ValueError as error:
        raise DataError(
            f"{file} should be the published table of one station. Got: {error}. Replace it."
        ) from error
    if not (table["station"] == station).all():
        raise DataError(
            f"{file} should hold the station of its name. Got {table['station'].iloc[0]}. Replace "
            "it."
        )
    return table


def _canonical(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Bring the rows of one station to one form, and check that they can be what they should."""
    table = table.sort_values("time", kind="stable", ignore_index=True)
    time = pd.DatetimeIndex(table["time"]).as_unit("us")
    if not time.equals(HOURS):
        raise DownloadError(
            f"{what}: each of the {len(HOURS):,} hours from {HOURS[0]} to {HOURS[-1]} was expected "
            f"once. Got {len(time):,} rows of {time.nunique():,} hours. Replace the file."
        )
    columns: dict[str, object] = {"time": time}
    for name, (low, high) in RANGES.items():
        values = table[name].to_numpy(dtype=np.float32)
        known = values[~np.isnan(values)]
        if 2 * len(known) < len(values) or known.min() < low or known.max() > high:
            span = f"{known.min()} to {known.max()}" if len(known) else "nothing"
            raise DownloadError(
                f"{what}: {name} was expected to lie between {low} and {high} and to be known most "
                f"of the time. Got {span} and {len(values) - len(known):,} missing. Replace the "
                "file."
            )
        columns[name] = values
    strange = sorted(set(table["wd"].dropna()) - set(WIND_DIRECTIONS))
    if strange:
        raise DownloadError(
            f"{what}: wd should be one of {', '.join(WIND_DIRECTIONS)}. Got "
            f"{', '.join(map(str, strange))}. Replace the file."
        )
    columns["wd"] = pd.Categorical(table["wd"], categories=WIND_DIRECTIONS)
    return pd.DataFrame(columns)
