"""The loader of C-MAPSS, on made-up engines and on the real ones."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

from tawt_sklearn.datasets import _tables, cmapss, fetch_cmapss
from tawt_sklearn.datasets._download import DatasetNotFoundError, DownloadError
from tawt_sklearn.datasets.cmapss import ARCHIVE, COLUMNS, FEATURES
from tawt_sklearn.exceptions import DataError

# Cycles of each made-up unit, and the life that is left after the last one.
CYCLES = {
    ("FD002", "train"): [5, 3, 4],
    ("FD002", "test"): [2, 4],
    ("FD004", "train"): [2, 2],
    ("FD004", "test"): [3],
}
LEFT = {"FD002": [7, 2], "FD004": [150]}


def made_up_rows(subset: str, split: str) -> pd.DataFrame:
    """The frame that should come out for one half of a subset."""
    rng = np.random.default_rng([int(subset[-1]), len(split)])
    cycles = CYCLES[subset, split]
    left = LEFT[subset] if split == "test" else [0] * len(cycles)
    counted = [
        (unit, cycle, last - cycle + after)
        for unit, (last, after) in enumerate(zip(cycles, left, strict=True), start=1)
        for cycle in range(1, last + 1)
    ]
    table = pd.DataFrame(counted, columns=["unit", "cycle", "rul"], dtype="int32")
    values = rng.uniform(-1, 9000, (len(table), len(FEATURES))).round(4).astype("float32")
    table[list(FEATURES)] = values
    return table.assign(subset=subset, split=split)[list(COLUMNS)]


def as_published(rows: pd.DataFrame) -> dict[str, bytes]:
    """The text files of one half of a subset; lines end with two spaces, as published."""
    subset, split = rows["subset"].iloc[0], rows["split"].iloc[0]
    columns = ["unit", "cycle", *FEATURES]
    text = rows[columns].to_csv(sep=" ", header=False, index=False, lineterminator="  \n")
    texts = {f"{split}_{subset}.txt": text.encode()}
    if split == "test":
        last = rows.groupby("unit")["rul"].min()
        texts[f"RUL_{subset}.txt"] = "".join(f"{life} \n" for life in last).encode()
    return texts


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def published_zip(texts: dict[str, bytes]) -> bytes:
    """A zip in a zip, and what else is in there."""
    inner = zipped({**texts, "readme.txt": b"Data Set: FD001\n", "Paper.pdf": b"%PDF"})
    title = "6. Turbofan Engine Degradation Simulation Data Set"
    return zipped({f"{title}/CMAPSSData.zip": inner, f"{title}/": b""})


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch):
    """Let the made-up subsets pass for complete ones."""
    for key, cycles in CYCLES.items():
        monkeypatch.setitem(cmapss.SHAPES, key, (len(cycles), sum(cycles)))


@pytest.fixture(scope="module")
def rows():
    """Made-up rows by subset and split."""
    return {key: made_up_rows(*key) for key in CYCLES}


@pytest.fixture(scope="module")
def texts(rows):
    return {name: text for table in rows.values() for name, text in as_published(table).items()}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The data set's folder in an empty data home."""
    folder = tmp_path / "home" / "cmapss"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def unpacked(folder, texts) -> Path:
    """The same folder with the text files of the made-up subsets."""
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return folder


@pytest.fixture
def load(folder):
    """Load a made-up subset from the folder, without a download unless told."""

    def fetch(**changes):
        given = {"data_home": folder.parent, "subset": "FD002", "download": False, "delay": 0.0}
        return fetch_cmapss(**{**given, **changes})

    return fetch


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"subset": object, "split": object})


def stacked(rows, *keys) -> pd.DataFrame:
    return plain(pd.concat([rows[key] for key in keys], ignore_index=True))


# What is in the result


def test_frame(load, unpacked, rows):
    engines = load()
    expected = stacked(rows, ("FD002", "train"), ("FD002", "test"))
    assert_frame_equal(plain(engines.frame), expected)
    assert engines.frame["subset"].cat.categories.tolist() == ["FD002"]
    assert engines.frame["split"].cat.categories.tolist() == ["train", "test"]
    assert (engines.frame.dtypes[list(FEATURES)] == "float32").all()
    assert (engines.frame.dtypes[["unit", "cycle", "rul"]] == "int32").all()
    assert len(engines.feature_names) == 24
    assert engines.target_names == ["rul"]
    assert_series_equal(engines.target, engines.frame["rul"])
    names = ("train_FD002.txt", "test_FD002.txt", "RUL_FD002.txt")
    assert engines.filename == [str(unpacked / name) for name in names]
    assert "Saxena" in engines.DESCR and "United States Government" in engines.DESCR


def test_remaining_life(load, unpacked):
    train, test = load(split="train").frame, load(split="test").frame
    assert train.loc[train["unit"] == 1, "rul"].tolist() == [4, 3, 2, 1, 0]
    assert test.loc[test["unit"] == 1, "rul"].tolist() == [8, 7]
    assert test.loc[test["unit"] == 2, "rul"].tolist() == [5, 4, 3, 2]


def test_cap(load, unpacked):
    engines = load(subset="FD004", max_rul=125)
    assert engines.target.tolist() == [1, 0, 1, 0, 125, 125, 125]
    assert_series_equal(engines.target, engines.frame["rul"])
    assert engines.target.dtype == "int32"
    assert load(subset="FD004").target.max() == 152


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_split(load, unpacked, rows, split):
    frame = load(split=split).frame
    assert_frame_equal(plain(frame), stacked(rows, ("FD002", split)))
    assert frame["split"].cat.categories.tolist() == [split]


def test_subsets_come_in_the_order_asked_for(load, unpacked, rows):
    frame = load(subset=["FD004", "FD002"]).frame
    halves = [(name, half) for name in ("FD004", "FD002") for half in ("train", "test")]
    assert_frame_equal(plain(frame), stacked(rows, *halves))
    assert frame["subset"].cat.categories.tolist() == ["FD004", "FD002"]


# Where it comes from


def test_all_sources_give_the_same(load, unpacked, rows, texts, site):
    def emptied() -> None:
        shutil.rmtree(unpacked)
        unpacked.mkdir()

    both = ["FD002", "FD004"]
    expected = load(subset=both).frame

    emptied()
    (unpacked / "CMAPSSData").mkdir()
    for name, text in texts.items():
        (unpacked / "CMAPSSData" / name).write_bytes(text)
    assert_frame_equal(load(subset=both).frame, expected)

    emptied()
    (unpacked / "CMAPSSData.zip").write_bytes(zipped(texts))
    assert_frame_equal(load(subset=both).frame, expected)

    emptied()
    site.content[ARCHIVE] = published_zip(texts)
    found = load(subset=both, download=True, base_url=site.url)
    assert_frame_equal(found.frame, expected)
    assert found.filename == [str(unpacked / ARCHIVE)]

    emptied()
    table = pd.concat(rows.values()).sample(frac=1.0, random_state=0)
    table.astype({"subset": "category", "split": "category"}).to_parquet(
        unpacked / "cmapss.parquet"
    )
    found = load(subset=both)
    assert_frame_equal(found.frame, expected)
    assert found.filename == [str(unpacked / "cmapss.parquet")]


def test_parquet_is_completed_from_the_text_files(load, unpacked, rows):
    expected = load(subset=["FD002", "FD004"]).frame
    for name in ("train_FD004.txt", "test_FD004.txt", "RUL_FD004.txt"):
        (unpacked / name).unlink()
    pd.concat([rows["FD004", "train"], rows["FD004", "test"]]).to_parquet(
        unpacked / "cmapss.parquet"
    )
    assert_frame_equal(load(subset=["FD002", "FD004"]).frame, expected)
    assert len(load(subset=["FD002", "FD004"]).filename) == 4
    assert len(load(subset="FD002").filename) == 3


def test_files_may_lie_in_data_home_itself(load, unpacked):
    assert len(load(data_home=unpacked).frame) == 18


def test_environment_variable_names_the_data_home(unpacked, monkeypatch):
    monkeypatch.setenv("TAWT_DATA", str(unpacked.parent))
    assert len(fetch_cmapss(subset="FD002", download=False).frame) == 18


def test_downloads_once(load, site, texts):
    site.content[ARCHIVE] = published_zip(texts)
    for _ in range(2):
        load(download=True, base_url=site.url)
    assert site.asked_for(ARCHIVE) == [None]


def test_lost_connection_is_resumed(load, folder, site, texts):
    site.content[ARCHIVE] = published_zip(texts)
    site.stop_after = 100
    load(download=True, base_url=site.url)
    assert site.asked_for(ARCHIVE) == [None, "bytes=100-"]
    assert (folder / ARCHIVE).read_bytes() == site.content[ARCHIVE]


def test_file_that_the_server_does_not_have(load, site):
    with pytest.raises(DownloadError, match=r"Got: Not Found\. To place the data by hand, put"):
        load(download=True, base_url=site.url)


def test_nothing_there_and_not_to_download(tmp_path):
    message = r"Got no train_FD001\.txt, test.*, RUL_FD001.*download=False.*put 6\.\+Turbofan"
    with pytest.raises(DatasetNotFoundError, match=message):
        fetch_cmapss(data_home=tmp_path / "home", download=False)
    assert not (tmp_path / "home").exists()


def test_parquet_without_pyarrow_says_so(load, folder, monkeypatch):
    (folder / "cmapss.parquet").touch()
    monkeypatch.setattr(_tables, "has_pyarrow", lambda: False)
    with pytest.raises(DatasetNotFoundError, match="reading it needs pyarrow"):
        load()


def test_folder_that_cannot_be_made(site, tmp_path):
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match=r"cannot be written.*Give another data_home"):
        fetch_cmapss(data_home=tmp_path / "home", base_url=site.url)


# Damaged copies


def test_rows_are_missing(load, unpacked):
    path = unpacked / "train_FD002.txt"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:-1]) + b"\n")
    with pytest.raises(DownloadError, match="FD002, train: 3 units and 12 rows.* 3 units and 11"):
        load()


def test_cycles_with_a_gap(load, unpacked):
    path = unpacked / "train_FD002.txt"
    path.write_bytes(path.read_bytes().replace(b"\n1 5 ", b"\n1 6 "))
    with pytest.raises(DownloadError, match="count from 1 without a gap"):
        load()


def test_lives_of_other_units(load, unpacked):
    (unpacked / "RUL_FD002.txt").write_text("7\n2\n9\n")
    with pytest.raises(DataError, match="one number per unit .* Got 3 numbers for 2 units"):
        load()
    assert len(load(split="train").frame) == 12, "the training half does not need it"


def test_negative_life(load, unpacked):
    (unpacked / "RUL_FD002.txt").write_text("7\n-20\n")
    with pytest.raises(DownloadError, match=r"remaining life .* Got -20"):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "train_FD002.txt cannot be parsed. Got: .*html"),
        ("", "train_FD002.txt cannot be parsed. Got: No columns"),
        ("1 1 0.5\n", "26 numbers in each line. Got 3 columns and 0 gaps"),
        ("1 " * 26 + "\n1 2\n", "26 numbers in each line. Got 26 columns and 24 gaps"),
        ("1 1 1\n" + "1 " * 26 + "\n", "train_FD002.txt cannot be parsed"),
    ],
)
def test_damaged_text(load, unpacked, text, message):
    (unpacked / "train_FD002.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load()


def test_rows_that_were_not_published(load, folder, texts, site, monkeypatch):
    monkeypatch.setitem(cmapss.DIGESTS, ("FD002", "test"), "0" * 64)
    site.content[ARCHIVE] = published_zip(texts)
    message = r"FD002, test: the values are not those that were published.*0{64}\. Got [0-9a-f]{64}"
    with pytest.raises(DownloadError, match=message):
        load(download=True, base_url=site.url)
    assert not list(folder.iterdir())
    (folder / ARCHIVE).write_bytes(site.content[ARCHIVE])
    with pytest.raises(DownloadError, match=message):
        load()
    assert (folder / ARCHIVE).is_file(), "the user's file is left alone"


def test_damaged_archive(load, folder, texts, site):
    site.content[ARCHIVE] = published_zip(texts)[:-50]
    with pytest.raises(DataError, match="not a readable zip archive.*download it again"):
        load(download=True, base_url=site.url)
    assert not (folder / ARCHIVE).exists()


def test_archive_without_the_subset(load, folder, texts):
    (folder / ARCHIVE).write_bytes(published_zip(texts))
    with pytest.raises(DataError, match=r"should hold train_FD001.*Got no train_FD001"):
        load(subset="FD001", download=True)


def test_parquet_with_other_columns(load, folder):
    pd.DataFrame({"x": [1]}).to_parquet(folder / "cmapss.parquet")
    with pytest.raises(DataError, match=r"should have the columns subset, split.*Got no subset"):
        load()


# Parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"subset": "FD005"}, "subset must name some of FD001, FD002.* Got 'FD005'"),
        ({"subset": []}, r"subset must name some of .* Got \[\]"),
        ({"subset": ["FD001", "FD001"]}, "each once"),
        ({"split": "valid"}, "split must be 'train', 'test' or None. Got 'valid'"),
        ({"max_rul": 0}, "max_rul must be a whole number of at least 1, or None. Got 0"),
        ({"max_rul": 12.5}, "max_rul must be a whole number .* Got 12.5"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        fetch_cmapss(**parameters)


# The real thing


@pytest.fixture(scope="module")
def real(data_home):
    if not (data_home / "cmapss").is_dir():
        pytest.skip(f"no folder cmapss in {data_home}")
    pytest.importorskip("pyarrow", reason="the local copy is a Parquet file")
    return fetch_cmapss(data_home=data_home, subset=["FD001", "FD003"], download=False)


def test_real_counts(real):
    assert real.frame.shape == (75_043, 29)
    halves = real.frame.groupby(["subset", "split"], observed=True)["unit"]
    assert halves.nunique().tolist() == [100] * 4
    assert halves.size().tolist() == [20_631, 13_096, 24_720, 16_596]
    assert real.target.max() == 524


def test_real_first_cycle(real):
    first = real.frame.iloc[0]
    assert first[["unit", "cycle", "rul"]].tolist() == [1, 1, 191]
    np.testing.assert_allclose(first[["s1", "s2", "s3"]].astype(float), [518.67, 641.82, 1589.7])


def test_real_default_is_the_first_subset(data_home, real):
    engines = fetch_cmapss(data_home=data_home, max_rul=125, download=False)
    assert len(engines.frame) == 33_727
    assert engines.target.max() == 125


def test_real_rows_survive_as_published(real, load, folder):
    """Written as text in a zip in a zip and read again, nothing changes, the digests included."""
    halves = [rows for _, rows in real.frame.groupby(["subset", "split"], observed=True)]
    texts = {name: text for rows in halves for name, text in as_published(rows).items()}
    (folder / ARCHIVE).write_bytes(published_zip(texts))
    again = load(subset=["FD001", "FD003"])
    assert again.frame.dtypes.equals(real.frame.dtypes)
    assert again.frame.equals(real.frame)


def test_one_changed_value_is_noticed(real, load, folder):
    table = real.frame.copy()
    table.loc[1000, "s7"] += np.float32(0.01)
    table.to_parquet(folder / "cmapss.parquet")
    with pytest.raises(DownloadError, match="FD001, train: the values are not those that were"):
        load(subset="FD001")
    assert len(load(subset="FD003").frame) == 41_316
