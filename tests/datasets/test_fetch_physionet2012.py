"""The loader of PhysioNet 2012, on made-up files of the original's form and on the real ones."""

from __future__ import annotations

import io
import socket
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

from tawt_sklearn import EventsArray
from tawt_sklearn.datasets import _physionet2012_files as files
from tawt_sklearn.datasets import fetch_physionet2012
from tawt_sklearn.datasets._download import DatasetNotFoundError, DownloadError
from tawt_sklearn.exceptions import DataError


def long(bunch) -> pd.DataFrame:
    return bunch.data["events"].events.to_long().astype({"code": str})


def assert_same(left, right) -> None:
    assert left.data.index.equals(right.data.index)
    assert_frame_equal(long(left), long(right))
    assert_series_equal(left.target, right.target)
    assert_frame_equal(left.outcomes, right.outcomes)
    assert left.codes == right.codes


@pytest.fixture
def fetch(site, tmp_path):
    """Load from the test site into an empty folder."""

    def load(**changes):
        given = {"data_home": tmp_path / "home", "base_url": site.url, "delay": 0.0}
        return fetch_physionet2012(**{**given, **changes})

    return load


def without_pyarrow(monkeypatch) -> None:
    monkeypatch.setattr(files, "has_pyarrow", lambda: False)


# What is in the result


def test_rows_of_the_text_files(raw_home):
    bunch = fetch_physionet2012(data_home=raw_home, download=False)
    assert bunch.data.index.tolist() == [132539, 132540, 140501, 142675, 142676]
    assert bunch.data.index.name == "subject_id"
    events = long(bunch).set_index("subject_id")
    first = events.loc[132539]
    assert first["code"].tolist() == [
        "Age", "Gender", "ICUType", "HR", "Platelets", "K", "Urine", "Urine", "pH",
    ]  # fmt: skip
    expected = [0, 0, 0, 7 / 60, 7 / 60, 7 / 60, 27 + 37 / 60, 27 + 37 / 60, 47 + 59 / 60]
    np.testing.assert_array_equal(first["time"], expected)
    np.testing.assert_array_equal(first["value"], np.float32([60, 1, 4, 73, 221, 4.4, 400, 0, 735]))
    assert events.loc[132540, "code"].tolist() == ["Age", "Gender", "Height", "ICUType", "HR"]
    assert events.loc[140501, "code"].tolist() == ["Age", "ICUType"]
    assert 142676 not in events.index, "a stay without any event keeps its row"
    assert bunch.data["events"].events.lengths.tolist() == [9, 5, 2, 5, 0]


def test_histories_end_at_48_hours(raw_home):
    data = fetch_physionet2012(data_home=raw_home, download=False).data
    np.testing.assert_array_equal(data["events"].events.end, 48.0)
    assert data["events"].events.flat("time").max() == 48.0


def test_target_and_outcomes(raw_home):
    bunch = fetch_physionet2012(data_home=raw_home, download=False)
    assert bunch.target.tolist() == [0, 0, 1, 1, 0]
    assert bunch.target.name == "in_hospital_death"
    assert bunch.target.dtype.kind == "i"
    assert bunch.target_names == ["survived", "died"]
    assert bunch.outcomes["set"].tolist() == ["a", "a", "a", "b", "b"]
    assert bunch.outcomes["has_timeseries"].tolist() == [True, True, False, True, False]
    assert bunch.outcomes["sofa"].tolist() == [1, 8, -1, 8, 2]
    assert bunch.frame.columns.tolist() == ["events", "in_hospital_death"]
    assert "Silva" in bunch.DESCR
    assert "ODC-BY" in bunch.DESCR


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("length_of_stay", [5, 8, np.nan, 22, 7]),
        ("survival_days", [np.nan, np.nan, 3, 4, 80]),
        ("saps_i", [6, 16, np.nan, 16, 9]),
        ("sofa", [1, 8, np.nan, 8, 2]),
    ],
)
def test_unknown_targets_are_nan(raw_home, target, expected):
    bunch = fetch_physionet2012(data_home=raw_home, target=target, download=False)
    np.testing.assert_array_equal(bunch.target, expected)
    assert bunch.target_names == [target]


def test_static_moves_four_descriptors(raw_home):
    bunch = fetch_physionet2012(data_home=raw_home, static=True, download=False)
    data = bunch.data
    assert bunch.feature_names == ["Age", "Gender", "Height", "ICUType", "events"]
    np.testing.assert_array_equal(data["Age"], [60, 60, 60, 90, np.nan])
    np.testing.assert_allclose(data["Height"], [np.nan, 175.3, np.nan, np.nan, np.nan], rtol=1e-6)
    assert data["Gender"].iloc[:2].tolist() == ["male", "male"]
    assert data["Gender"].isna().tolist() == [False, False, True, False, True]
    assert data["ICUType"].iloc[0] == "surgical"
    assert not set(long(bunch)["code"]) & {"Age", "Gender", "Height", "ICUType"}
    assert data["events"].events.lengths.tolist() == [6, 1, 0, 2, 0]


def test_return_X_y(raw_home):
    X, y = fetch_physionet2012(data_home=raw_home, return_X_y=True, download=False)
    assert X.columns.tolist() == ["events"]
    assert X.index.equals(y.index)


def test_arrays_instead_of_frames(raw_home):
    bunch = fetch_physionet2012(data_home=raw_home, as_frame=False, download=False)
    assert isinstance(bunch.data, EventsArray)
    assert isinstance(bunch.target, np.ndarray)
    assert bunch.frame is None
    with pytest.raises(ValueError, match=r"static=True .* Got as_frame=False"):
        fetch_physionet2012(data_home=raw_home, as_frame=False, static=True)


def test_sets_come_in_the_order_asked_for(raw_home):
    whole = fetch_physionet2012(data_home=raw_home, download=False)
    turned = fetch_physionet2012(data_home=raw_home, sets=["b", "a"], download=False)
    assert turned.data.index.tolist() == [142675, 142676, 132539, 132540, 140501]
    assert turned.target.tolist() == whole.target.loc[turned.data.index].tolist()
    only = fetch_physionet2012(data_home=raw_home, sets="b", download=False)
    assert only.data.index.tolist() == [142675, 142676]
    assert only.codes == ["Age", "Gender", "ICUType", "Temp", "Weight"]


# Where it comes from


def test_all_sources_give_the_same(raw_home, archive_home, fetch, tmp_path, monkeypatch):
    expected = fetch_physionet2012(data_home=raw_home, download=False)
    assert_same(fetch_physionet2012(data_home=archive_home, download=False), expected)
    assert_same(fetch(), expected)
    assert_same(fetch(download=False), expected)

    shared = tmp_path / "shared" / "physionet2012"
    shared.mkdir(parents=True)
    table = long(expected).astype({"subject_id": "int32", "time": "float32", "code": "category"})
    table.to_parquet(shared / "events.parquet")
    expected.outcomes.drop(columns="has_timeseries").reset_index().to_parquet(
        shared / "outcomes.parquet"
    )
    found = fetch_physionet2012(data_home=shared.parent, download=False)
    assert_same(found, expected)
    assert found.filename == [str(shared / "events.parquet"), str(shared / "outcomes.parquet")]
    only = fetch_physionet2012(data_home=shared.parent, sets="a", download=False)
    assert_same(only, fetch_physionet2012(data_home=raw_home, sets="a", download=False))

    without_pyarrow(monkeypatch)
    bare = fetch(data_home=tmp_path / "bare")
    assert_same(bare, expected)
    assert (tmp_path / "bare" / "physionet2012" / "set-a.npz").is_file()
    assert_same(fetch(data_home=tmp_path / "bare", download=False), expected)


def test_environment_variable_names_the_data_home(raw_home, monkeypatch):
    monkeypatch.setenv("TAWT_DATA", str(raw_home))
    assert len(fetch_physionet2012(download=False).data) == 5


def test_files_may_lie_in_data_home_itself(raw_home):
    bunch = fetch_physionet2012(data_home=raw_home / "physionet2012", download=False)
    assert len(bunch.data) == 5


def test_downloads_once(fetch, site):
    fetch()
    asked = [name for name, _ in site.asked]
    assert asked == [
        "SHA256SUMS.txt", "set-a.tar.gz", "Outcomes-a.txt", "set-b.tar.gz", "Outcomes-b.txt",
    ]  # fmt: skip
    fetch()
    assert len(site.asked) == len(asked)


def test_interrupted_download_is_resumed_by_the_next_call(fetch, site, tmp_path):
    folder = tmp_path / "home" / "physionet2012"
    folder.mkdir(parents=True)
    (folder / "set-a.tar.gz.part").write_bytes(site.content["set-a.tar.gz"][:60])
    assert len(fetch(sets="a").data) == 3
    assert site.asked_for("set-a.tar.gz") == ["bytes=60-"]


def test_only_what_is_damaged_is_downloaded_again(fetch, site, tmp_path):
    fetch(sets="a")
    folder = tmp_path / "home" / "physionet2012"
    for path in folder.glob("*.parquet"):
        path.unlink()
    (folder / "set-a.tar.gz").write_bytes(b"damaged")
    site.asked.clear()
    with pytest.raises(DownloadError, match=r"set-a\.tar\.gz does not have the checksum"):
        fetch(sets="a", download=False)
    assert (folder / "set-a.tar.gz").read_bytes() == b"damaged", "the user's file is left alone"
    assert len(fetch(sets="a").data) == 3
    assert [name for name, _ in site.asked] == ["SHA256SUMS.txt", "set-a.tar.gz"]


def test_wrong_checksum(fetch, site, tmp_path):
    site.content["set-a.tar.gz"] = site.content["set-b.tar.gz"]
    with pytest.raises(DownloadError, match="wrong SHA-256"):
        fetch()
    assert not list((tmp_path / "home" / "physionet2012").glob("set-a*"))


def test_file_without_published_checksum(fetch, site):
    site.content["SHA256SUMS.txt"] = b"nothing of use\n"
    with pytest.raises(DownloadError, match=r"expected to list set-a\.tar\.gz.*by hand"):
        fetch()


@pytest.mark.parametrize("name", ["SHA256SUMS.txt", "set-a.tar.gz", "Outcomes-a.txt"])
def test_file_that_the_server_does_not_have(fetch, site, name):
    del site.content[name]
    with pytest.raises(DownloadError, match=f"{name}. Got: Not Found. To place the data by hand"):
        fetch()


def test_no_network(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    with pytest.raises(DownloadError, match=r"Connection refused.*put set-a\.tar\.gz.*TAWT_DATA"):
        fetch_physionet2012(data_home=tmp_path, base_url=url, n_retries=1, delay=0.0)


def test_nothing_there_and_not_to_download(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"set a.*Got no set-a\.tar\.gz.*by hand"):
        fetch_physionet2012(data_home=tmp_path / "home", download=False)
    assert not (tmp_path / "home").exists()
    assert issubclass(DatasetNotFoundError, FileNotFoundError)


def test_parquet_without_pyarrow_says_so(tmp_path, monkeypatch):
    (tmp_path / "physionet2012").mkdir()
    (tmp_path / "physionet2012" / "events.parquet").touch()
    without_pyarrow(monkeypatch)
    with pytest.raises(DatasetNotFoundError, match="reading them needs pyarrow"):
        fetch_physionet2012(data_home=tmp_path, download=False)


def test_folder_that_cannot_be_made(site, tmp_path):
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match=r"cannot be written.*Give another data_home"):
        fetch_physionet2012(data_home=tmp_path / "home", base_url=site.url)


def test_copy_that_cannot_be_written_to_is_parsed_each_time(archive_home, monkeypatch):
    def refuse(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "write_cache", refuse)
    assert len(fetch_physionet2012(data_home=archive_home, download=False).data) == 5


# Damaged copies


def damage(home: Path, name: str, text: str) -> None:
    (home / "physionet2012" / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("set-a/132539.txt", "<html>", "132539.txt should begin with .* Got b'<html>'"),
        ("set-a/132539.txt", "Time,Parameter,Value\n00:00,HR,high\n", "cannot be parsed.*high"),
        ("set-a/132539.txt", "Time,Parameter,Value\nnoon,HR,60\n", "HH:MM. Got 'noon'"),
        ("set-a/132539.txt", "Time,Parameter,Value\n00:00,RecordID,7\n", "Got RecordID 7"),
        ("set-a/999.txt", "Time,Parameter,Value\n", "0 stays without a record and 1 records"),
        ("Outcomes-a.txt", "RecordID,Dead\n1,0\n", "should have the columns.*Got RecordID, Dead"),
    ],
)
def test_damaged_text(raw_home, name, text, message):
    damage(raw_home, name, text)
    with pytest.raises(DataError, match=message):
        fetch_physionet2012(data_home=raw_home, download=False)


def test_incomplete_copy(raw_home):
    (raw_home / "physionet2012" / "set-a" / "132540.txt").unlink()
    with pytest.raises(DataError, match="1 stays without a record"):
        fetch_physionet2012(data_home=raw_home, download=False)


def test_damaged_archive(archive_home):
    (archive_home / "physionet2012" / "set-a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="not a readable archive"):
        fetch_physionet2012(data_home=archive_home, download=False)


def test_archive_cannot_write_anywhere(archive_home):
    path = archive_home / "physionet2012" / "set-a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("../../escaped.txt", "/escaped.txt", "set-a/../../evil.txt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"bad"))
        link = tarfile.TarInfo("set-a/132539.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(archive_home.parent.rglob("*"))
    with pytest.raises(DataError, match="3 stays without a record"):
        fetch_physionet2012(data_home=archive_home, download=False)
    assert sorted(archive_home.parent.rglob("*")) == before


def test_parquet_with_other_columns(tmp_path):
    folder = tmp_path / "physionet2012"
    folder.mkdir()
    for name in ("events", "outcomes"):
        pd.DataFrame({"x": [1]}).to_parquet(folder / f"{name}.parquet")
    with pytest.raises(DataError, match=r"events\.parquet should have the columns.*Got x"):
        fetch_physionet2012(data_home=tmp_path, download=False)


# Parameters


@pytest.mark.parametrize("sets", ["d", "ab", (), ("a", "a")])
def test_unknown_sets(sets):
    with pytest.raises(ValueError, match="sets must name some of a, b, c"):
        fetch_physionet2012(sets=sets)


def test_unknown_target():
    with pytest.raises(ValueError, match=r"target must be one of .* Got 'death'"):
        fetch_physionet2012(target="death")


# The real thing


@pytest.fixture(scope="module")
def real(data_home):
    if not (data_home / "physionet2012").is_dir():
        pytest.skip(f"no folder physionet2012 in {data_home}")
    return fetch_physionet2012(data_home=data_home, download=False)


def test_real_counts(real):
    assert real.data.shape == (8000, 1)
    assert real.target.groupby(real.outcomes["set"]).sum().tolist() == [554, 568]
    assert real.data["events"].events.offsets[-1] == 3_508_010
    assert len(real.codes) == 41
    assert (~real.outcomes["has_timeseries"]).sum() == 10


def test_real_stay_reads_like_its_published_file(real):
    first = real.data["events"].iloc[0].to_frame().iloc[:6]
    assert first["code"].tolist() == ["Age", "Gender", "ICUType", "GCS", "HR", "NIDiasABP"]
    np.testing.assert_array_equal(first["value"], [54, 0, 4, 15, 73, 65])
    np.testing.assert_array_equal(first["time"], [0, 0, 0, 7 / 60, 7 / 60, 7 / 60])


def test_real_rows_survive_as_text(real, tmp_path):
    """Written in the form of the original files and read again, nothing changes."""
    stays = real.data.iloc[:40]
    folder = tmp_path / "physionet2012"
    (folder / "set-a").mkdir(parents=True)
    minute = (stays["events"].events.to_long()["time"] * 60).round().astype(int)
    table = stays["events"].events.to_long().assign(minute=minute).astype({"code": str})
    for stay, rows in table.groupby("subject_id"):
        lines = ["Time,Parameter,Value", f"00:00,RecordID,{stay}", "00:00,Height,-1"]
        columns = (rows["minute"], rows["code"], rows["value"])
        lines += [f"{m // 60:02d}:{m % 60:02d},{c},{v:.9g}" for m, c, v in zip(*columns)]  # noqa: B905
        (folder / "set-a" / f"{stay}.txt").write_text("\n".join(lines))
    names = {new: old for old, new in files._RAW_OUTCOMES.items()}
    outcomes = real.outcomes.loc[stays.index].reset_index().rename(columns=names)
    outcomes[list(files._RAW_OUTCOMES)].to_csv(folder / "Outcomes-a.txt", index=False)
    again = fetch_physionet2012(data_home=tmp_path, sets="a", download=False)
    assert_frame_equal(long(again), table.drop(columns="minute"))
    assert_frame_equal(again.outcomes, real.outcomes.loc[stays.index])
