"""The loader of the Beijing air quality, on made-up stations and on the real ones."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tawt_sklearn.datasets import _tables, fetch_beijing_air
from tawt_sklearn.datasets._download import DatasetNotFoundError, DownloadError
from tawt_sklearn.datasets.beijing_air import (
    ARCHIVE,
    COLUMNS,
    FEATURES,
    HOURS,
    RANGES,
    STATIONS,
    TEXT_NAME,
    WIND_DIRECTIONS,
)
from tawt_sklearn.exceptions import DataError

# Stations whose published rows are not known here can be made up.
MADE_UP = ["Gucheng", "Shunyi"]


def made_up_rows(station: str) -> pd.DataFrame:
    rng = np.random.default_rng(len(station))
    columns: dict[str, object] = {"station": station, "time": HOURS}
    for name, (low, high) in RANGES.items():
        values = rng.uniform(low, high, len(HOURS)).round(1)
        columns[name] = np.where(rng.random(len(HOURS)) < 0.03, np.nan, values)
    wind = rng.choice([*WIND_DIRECTIONS, ""], len(HOURS))
    columns["wd"] = pd.Series(wind, dtype=object).replace("", np.nan)
    return pd.DataFrame(columns).astype(dict.fromkeys(RANGES, "float32"))


def as_published(rows: pd.DataFrame) -> bytes:
    """The CSV file of one station."""
    time = rows["time"].dt
    clock = {"year": time.year, "month": time.month, "day": time.day, "hour": time.hour}
    table = rows.assign(No=range(1, len(rows) + 1), **clock)
    numbers = [name for name in RANGES if name != "WSPM"]
    columns = ["No", *clock, *numbers, "wd", "WSPM", "station"]
    return table[columns].to_csv(index=False, na_rep="NA").encode()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def published_zip(texts: dict[str, bytes]) -> bytes:
    """A zip in a zip, and what else is in there."""
    folder = "PRSA_Data_20130301-20170228"
    inner = zipped({f"{folder}/{TEXT_NAME.format(name)}": text for name, text in texts.items()})
    return zipped({"PRSA2017_Data_20130301-20170228.zip": inner, "data.csv": b"x,y\n", "a/": b""})


@pytest.fixture(scope="module")
def rows():
    """Made-up rows by station."""
    return {station: made_up_rows(station) for station in MADE_UP}


@pytest.fixture(scope="module")
def texts(rows):
    return {station: as_published(table) for station, table in rows.items()}


@pytest.fixture(scope="module")
def archive(texts):
    return published_zip(texts)


@pytest.fixture
def folder(tmp_path) -> Path:
    """The data set's folder in an empty data home."""
    folder = tmp_path / "home" / "beijing_air"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def load(folder):
    """Load from the folder, without a download unless told."""

    def fetch(**changes):
        given = {"data_home": folder.parent, "download": False, "delay": 0.0}
        return fetch_beijing_air(**{**given, **changes})

    return fetch


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"station": object, "wd": object}).replace({"wd": {None: np.nan}})


def assert_same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """As `assert_frame_equal`, which takes seconds for long categorical columns."""
    assert left.dtypes.equals(right.dtypes)
    assert left.equals(right)


# What is in the result


def test_frame(load, folder, rows, texts):
    (folder / TEXT_NAME.format("Gucheng")).write_bytes(texts["Gucheng"])
    air = load()
    assert air.frame.columns.tolist() == list(COLUMNS)
    assert_frame_equal(plain(air.frame), plain(rows["Gucheng"]))
    assert (air.frame.dtypes[list(RANGES)] == "float32").all()
    assert air.frame["time"].dtype == "datetime64[us]"
    assert air.frame["wd"].cat.categories.tolist() == list(WIND_DIRECTIONS)
    assert air.frame["station"].cat.categories.tolist() == ["Gucheng"]
    assert air.feature_names == list(FEATURES)
    assert air.categorical_names == ["wd"]
    assert air.filename == [str(folder / TEXT_NAME.format("Gucheng"))]
    assert "Zhang" in air.DESCR and "CC BY 4.0" in air.DESCR


def test_stations_come_in_the_order_asked_for(load, folder, archive):
    (folder / ARCHIVE).write_bytes(archive)
    air = load(stations=["Shunyi", "Gucheng"])
    assert air.stations == ["Shunyi", "Gucheng"]
    assert air.frame["station"].unique().tolist() == ["Shunyi", "Gucheng"]
    assert load(stations="Shunyi").stations == ["Shunyi"]
    assert load().stations == ["Gucheng", "Shunyi"], "by default all that are there"


# Where it comes from


def test_all_sources_give_the_same(load, folder, rows, texts, archive, site):
    def emptied() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    for station, text in texts.items():
        (folder / TEXT_NAME.format(station)).write_bytes(text)
    expected = load().frame

    emptied()
    (folder / "unpacked").mkdir()
    for station, text in texts.items():
        (folder / "unpacked" / TEXT_NAME.format(station)).write_bytes(text)
    assert_same(load().frame, expected)

    emptied()
    (folder / "renamed by hand.zip").write_bytes(archive)
    assert_same(load().frame, expected)

    emptied()
    site.content[ARCHIVE] = archive
    found = load(stations=MADE_UP, download=True, base_url=site.url)
    assert_same(found.frame, expected)
    assert found.filename == [str(folder / ARCHIVE)]

    emptied()
    table = pd.concat(rows.values()).sample(frac=1.0, random_state=0)
    table.astype({"station": "category"}).to_parquet(folder / "beijing_air.parquet")
    found = load()
    assert_same(found.frame, expected)
    assert found.filename == [str(folder / "beijing_air.parquet")]


def test_parquet_is_completed_from_the_text_files(load, folder, rows, texts):
    rows["Gucheng"].to_parquet(folder / "beijing_air.parquet")
    (folder / TEXT_NAME.format("Shunyi")).write_bytes(texts["Shunyi"])
    air = load(stations=MADE_UP)
    assert air.stations == MADE_UP
    assert len(air.filename) == 2
    assert load(stations="Shunyi").filename == [str(folder / TEXT_NAME.format("Shunyi"))]


def test_files_may_lie_in_data_home_itself(load, folder, texts):
    (folder / TEXT_NAME.format("Gucheng")).write_bytes(texts["Gucheng"])
    assert load(data_home=folder).stations == ["Gucheng"]


def test_environment_variable_names_the_data_home(folder, texts, monkeypatch):
    (folder / TEXT_NAME.format("Gucheng")).write_bytes(texts["Gucheng"])
    monkeypatch.setenv("TAWT_DATA", str(folder.parent))
    assert fetch_beijing_air(download=False).stations == ["Gucheng"]


def test_downloads_once(load, site, archive):
    site.content[ARCHIVE] = archive
    for _ in range(2):
        load(stations="Gucheng", download=True, base_url=site.url)
    assert site.asked_for(ARCHIVE) == [None]


def test_lost_connection_is_resumed(load, folder, site, archive):
    site.content[ARCHIVE] = archive
    site.stop_after = 1000
    load(stations="Gucheng", download=True, base_url=site.url)
    assert site.asked_for(ARCHIVE) == [None, "bytes=1000-"]
    assert (folder / ARCHIVE).read_bytes() == archive


def test_file_that_the_server_does_not_have(load, site):
    with pytest.raises(DownloadError, match=r"Got: Not Found\. To place the data by hand, put"):
        load(download=True, base_url=site.url)


def test_nothing_there_and_not_to_download(tmp_path):
    message = r"Got no PRSA_Data_Aotizhongxin.*download=False.*put beijing\+multi.*TAWT_DATA"
    with pytest.raises(DatasetNotFoundError, match=message):
        fetch_beijing_air(data_home=tmp_path / "home", download=False)
    assert not (tmp_path / "home").exists()


def test_parquet_without_pyarrow_says_so(load, folder, monkeypatch):
    (folder / "beijing_air.parquet").touch()
    monkeypatch.setattr(_tables, "has_pyarrow", lambda: False)
    with pytest.raises(DatasetNotFoundError, match="reading it needs pyarrow"):
        load()


def test_folder_that_cannot_be_made(site, tmp_path):
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match=r"cannot be written.*Give another data_home"):
        fetch_beijing_air(data_home=tmp_path / "home", base_url=site.url)


# Damaged copies


def change(rows: pd.DataFrame, column: str, value: object, count: int = 1) -> pd.DataFrame:
    values = rows[column].astype(object).to_list()
    return rows.assign(**{column: pd.Series([value] * count + values[count:], index=rows.index)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.iloc[1:], "35,064 hours .* Got 35,063 rows of 35,063 hours"),
        (lambda rows: change(rows, "time", HOURS[1]), "Got 35,064 rows of 35,063 hours"),
        (lambda rows: change(rows, "TEMP", 999.0), "TEMP was expected to lie between -40 and 50"),
        (lambda rows: change(rows, "CO", np.nan, 20_000), r"CO was expected .* \d\d,\d+ missing"),
        (lambda rows: rows.assign(O3=np.float32("nan")), "O3 was .* Got nothing and 35,064 miss"),
        (lambda rows: change(rows, "wd", "up"), "wd should be one of N, NNE.* Got up"),
    ],
)
def test_values_that_cannot_be(load, folder, rows, damage, message):
    text = as_published(damage(rows["Gucheng"]))
    (folder / TEXT_NAME.format("Gucheng")).write_bytes(text)
    with pytest.raises(DownloadError, match=message):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"<html>", "should be the published table.*no column year"),
        (b"", "should be the published table"),
        (b"year,month,day,hour,TEMP\n2013,3,1,0,warm\n", "should be the published table.*warm"),
    ],
)
def test_damaged_text(load, folder, text, message):
    (folder / TEXT_NAME.format("Gucheng")).write_bytes(text)
    with pytest.raises(DataError, match=message):
        load()


def test_file_of_another_station(load, folder, texts):
    (folder / TEXT_NAME.format("Gucheng")).write_bytes(texts["Shunyi"])
    with pytest.raises(DataError, match="hold the station of its name. Got Shunyi"):
        load()


def test_rows_that_were_not_published(load, folder, rows, site):
    """The published rows of Dongsi are known: made-up ones are refused, and removed."""
    text = as_published(rows["Gucheng"].assign(station="Dongsi"))
    site.content[ARCHIVE] = published_zip({"Dongsi": text})
    message = "Station Dongsi: the values are not those that were published"
    with pytest.raises(DownloadError, match=message):
        load(stations="Dongsi", download=True, base_url=site.url)
    assert not list(folder.iterdir())
    (folder / ARCHIVE).write_bytes(site.content[ARCHIVE])
    with pytest.raises(DownloadError, match=message):
        load(stations="Dongsi")
    assert (folder / ARCHIVE).is_file(), "the user's file is left alone"


@pytest.mark.parametrize("cut", [0, 100, -100])
def test_damaged_archive(load, folder, site, archive, cut):
    site.content[ARCHIVE] = archive[:cut]
    with pytest.raises(DataError, match="not a readable zip archive.*download it again"):
        load(stations="Gucheng", download=True, base_url=site.url)
    assert not (folder / ARCHIVE).exists()


def test_flipped_bits_in_an_archive(load, folder, archive):
    middle = len(archive) // 2
    damaged = archive[:middle] + bytes(64) + archive[middle + 64 :]
    (folder / ARCHIVE).write_bytes(damaged)
    with pytest.raises(DataError, match="not a readable zip archive"):
        load(stations=MADE_UP)


def test_archive_without_the_station(load, folder, archive):
    (folder / ARCHIVE).write_bytes(archive)
    with pytest.raises(DataError, match=r"should hold PRSA_Data_Wanliu.*Remove it and download"):
        load(stations="Wanliu", download=True)


def test_archive_cannot_write_anywhere(load, folder, texts):
    name = TEXT_NAME.format("Gucheng")
    (folder / ARCHIVE).write_bytes(zipped({f"../../{name}": texts["Gucheng"]}))
    before = sorted(folder.parents[1].rglob("*"))
    assert load().stations == ["Gucheng"]
    assert sorted(folder.parents[1].rglob("*")) == before


def test_parquet_with_other_columns(load, folder):
    pd.DataFrame({"x": [1]}).to_parquet(folder / "beijing_air.parquet")
    with pytest.raises(DataError, match=r"should have the columns station.*Got no station"):
        load()


def test_parquet_that_is_none(load, folder):
    (folder / "beijing_air.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"not a readable Parquet file.*Replace or remove it"):
        load()


# Parameters


@pytest.mark.parametrize("stations", ["Paris", (), ["Dongsi", "Dongsi"]])
def test_unknown_stations(stations):
    with pytest.raises(ValueError, match="stations must name some of Aotizhongxin"):
        fetch_beijing_air(stations=stations)


# The content digest


def test_digest_is_of_the_content_only():
    table = pd.DataFrame({"v": np.float32([0.0, np.nan]), "w": pd.Categorical(["a", None])})
    odd = pd.DataFrame({
        "v": np.array([-0.0, -np.nan], "float32"),
        "w": pd.Categorical(["a", None], categories=["z", "a"]),
    })  # fmt: skip
    assert _tables.content_digest(table) == _tables.content_digest(odd)
    for other in (
        table.rename(columns={"v": "u"}),
        table.assign(v=np.float32([1e-45, np.nan])),
        table.assign(w=pd.Categorical([None, "a"])),
        table.iloc[::-1],
    ):
        assert _tables.content_digest(other) != _tables.content_digest(table)


# The real thing


@pytest.fixture(scope="module")
def real(data_home):
    if not (data_home / "beijing_air").is_dir():
        pytest.skip(f"no folder beijing_air in {data_home}")
    pytest.importorskip("pyarrow", reason="the local copy is a Parquet file")
    return fetch_beijing_air(data_home=data_home, download=False)


def test_real_counts(real):
    assert real.stations == [name for name, digest in STATIONS.items() if digest]
    assert real.frame.shape == (8 * 35_064, 14)
    assert real.frame["wd"].isna().sum() == 755
    assert real.frame["CO"].isna().mean() == pytest.approx(0.0495, abs=1e-4)


def test_real_first_hours(real):
    first = real.frame.iloc[:2]
    assert first["PM2.5"].tolist() == [4, 8]
    assert first["wd"].tolist() == ["NNW", "N"]
    np.testing.assert_array_equal(first["PRES"], np.float32([1023.0, 1023.2]))


def test_real_rows_survive_as_published(real, load, folder):
    """Written as CSV in a zip in a zip and read again, nothing changes, the digest included."""
    wanted = ["Dongsi", "Tiantan"]
    by_name = {name: real.frame[real.frame["station"] == name] for name in wanted}
    texts = {name: as_published(rows) for name, rows in by_name.items()}
    (folder / ARCHIVE).write_bytes(published_zip(texts))
    again = load(stations=wanted)
    expected = pd.concat(by_name.values(), ignore_index=True)
    assert_frame_equal(plain(again.frame), plain(expected))


def test_one_changed_value_is_noticed(real, load, folder):
    rows = real.frame[real.frame["station"] == "Dongsi"].reset_index(drop=True)
    changed = rows.assign(TEMP=rows["TEMP"].where(rows.index != 1000, rows["TEMP"] + 0.1))
    changed.to_parquet(folder / "beijing_air.parquet")
    with pytest.raises(DownloadError, match="Dongsi: the values are not those that were published"):
        load()
    rows.to_parquet(folder / "beijing_air.parquet")
    assert load().stations == ["Dongsi"]
