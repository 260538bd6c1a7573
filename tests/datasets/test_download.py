"""Downloads from a server that fails in all the usual ways."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from tawt_sklearn.datasets import get_data_home
from tawt_sklearn.datasets._download import DownloadError, download_file, read_checksums
from tawt_sklearn.exceptions import TawtError

NAME = "set-a.tar.gz"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def get(site, target):
    """Download the file of the test site."""
    digest = hashlib.sha256(site.content[NAME]).hexdigest()

    def download(**changes):
        given = {"sha256": digest, "n_retries": 0, "delay": 0.0, **changes}
        return download_file(site.url + NAME, target, **given)

    return download


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_downloads_in_one_go(get, site, target):
    assert get() == target
    assert target.read_bytes() == site.content[NAME]
    assert not part_of(target).exists()
    assert site.asked_for(NAME) == [None]


def test_goes_on_where_an_earlier_download_stopped(get, site, target):
    part_of(target).write_bytes(site.content[NAME][:100])
    get()
    assert target.read_bytes() == site.content[NAME]
    assert site.asked_for(NAME) == ["bytes=100-"]


def test_server_that_ignores_ranges_sends_all_anew(get, site, target):
    site.honours_range = False
    part_of(target).write_bytes(site.content[NAME][:100])
    get()
    assert target.read_bytes() == site.content[NAME]


def test_server_that_sends_another_range_is_asked_again(get, site, target):
    site.wrong_range = True
    part_of(target).write_bytes(site.content[NAME][:100])
    get(n_retries=1)
    assert target.read_bytes() == site.content[NAME]
    assert site.asked_for(NAME) == ["bytes=100-", None]


def test_connection_lost_half_way_is_resumed(get, site, target):
    site.stop_after = 50
    get(n_retries=1)
    assert target.read_bytes() == site.content[NAME]
    assert site.asked_for(NAME) == [None, "bytes=50-"]


def test_connection_lost_keeps_the_part_for_the_next_call(get, site, target):
    site.stop_after = 50
    with pytest.raises(DownloadError, match=r"closed after 50 of \d+ bytes"):
        get()
    assert part_of(target).read_bytes() == site.content[NAME][:50]
    assert not target.exists()
    get()
    assert target.read_bytes() == site.content[NAME]


def test_complete_part_is_taken(get, site, target):
    part_of(target).write_bytes(site.content[NAME])
    get()
    assert target.read_bytes() == site.content[NAME]


def test_part_of_another_file_is_thrown_away(get, site, target):
    part_of(target).write_bytes(b"x" * 100)
    get()
    assert target.read_bytes() == site.content[NAME]
    assert site.asked_for(NAME) == ["bytes=100-", None]


def test_part_longer_than_the_file_is_thrown_away(get, site, target):
    part_of(target).write_bytes(site.content[NAME] + b"more")
    get()
    assert target.read_bytes() == site.content[NAME]


def test_wrong_checksum_removes_the_file(get, site, target):
    with pytest.raises(DownloadError, match=r"wrong SHA-256: expected 0{64}\. Got [0-9a-f]{64}"):
        get(sha256="0" * 64, n_retries=5)
    assert not target.exists()
    assert not part_of(target).exists()
    assert len(site.asked) == 1, "a published file with another checksum stays that way"


def test_without_checksum_nothing_is_resumed(get, site, target):
    part_of(target).write_bytes(b"x" * 100)
    get(sha256=None)
    assert target.read_bytes() == site.content[NAME]


def test_passing_server_errors_are_retried(get, site, target):
    site.broken = [503, 500]
    get(n_retries=2)
    assert target.read_bytes() == site.content[NAME]


def test_retries_come_to_an_end(get, site):
    site.broken = [503, 503, 503]
    with pytest.raises(DownloadError, match="Service Unavailable"):
        get(n_retries=2)
    assert len(site.asked) == 3


def test_missing_file_is_not_retried(get, site):
    del site.content[NAME]
    with pytest.raises(DownloadError, match=r"set-a\.tar\.gz\. Got: Not Found"):
        get(n_retries=3)
    assert len(site.asked) == 1


def test_no_network_says_what_to_do(target):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/{NAME}"
    with pytest.raises(DownloadError, match=r"Connection refused.* Do it by hand"):
        download_file(url, target, sha256=None, n_retries=1, delay=0.0, hint="Do it by hand.")


def test_waits_between_attempts(get, site, monkeypatch):
    waited = []
    monkeypatch.setattr("tawt_sklearn.datasets._download.time.sleep", waited.append)
    site.broken = [503, 503]
    get(n_retries=2, delay=7.0)
    assert waited == [7.0, 7.0]


def test_error_is_an_oserror_of_this_library():
    assert issubclass(DownloadError, OSError)
    assert issubclass(DownloadError, TawtError)


def test_checksum_list_in_all_its_spellings(tmp_path):
    digest = "ab" * 32
    listing = tmp_path / "SHA256SUMS.txt"
    listing.write_text(f"{digest} one\n{digest.upper()}  two\n{digest} *./three\n\nnonsense\n")
    assert read_checksums(listing) == dict.fromkeys(["one", "two", "three"], digest)


def test_data_home_is_the_argument_then_the_environment_then_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("TAWT_DATA", str(tmp_path / "env"))
    assert get_data_home(tmp_path / "given") == tmp_path / "given"
    assert get_data_home() == tmp_path / "env"
    monkeypatch.delenv("TAWT_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_data_home() == tmp_path / "tawt_sklearn_data"
    assert list(tmp_path.iterdir()) == [], "asking for the folder does not make it"
