"""A made-up PhysioNet 2012 in the layout of the original, and a server that publishes it."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def record(stay: int, *lines: str, age: int = 60, gender: int = 1, height: float = -1) -> str:
    general = [f"00:00,RecordID,{stay}", f"00:00,Age,{age}", f"00:00,Gender,{gender}"]
    general += [f"00:00,Height,{height}", "00:00,ICUType,4", "00:00,Weight,-1"]
    return "\n".join(["Time,Parameter,Value", *general, *lines]) + "\n"


RECORDS = {
    "a": {
        # duplicates, ties that are not in alphabetical order, an impossible value
        132539: record(
            132539, "00:07,HR,73", "00:07,Platelets,221", "00:07,K,4.4", "27:37,Urine,400",
            "27:37,Urine,0", "47:59,pH,735",
        ),
        # -1 among the measurements, an event at the very end, no newline at the end of the file
        132540: record(132540, "01:11,NIDiasABP,-1", "48:00,HR,90", height=175.3).rstrip("\n"),
        # no measurements at all; a row without a parameter
        140501: record(140501, "05:00,,-1", gender=-1),
    },
    "b": {
        142675: record(142675, "10:00,Temp,-17.8", "10:00,Weight,80.5", age=90),
        # not even a descriptor is known
        142676: "Time,Parameter,Value\n00:00,RecordID,142676\n00:00,Age,-1\n",
    },
}  # fmt: skip
RAW_OUTCOMES = {
    "a": OUTCOMES + "132539,6,1,5,-1,0\n132540,16,8,8,-1,0\n140501,-1,-1,-1,3,1\n",
    "b": OUTCOMES + "142675,16,8,22,4,1\n142676,9,2,7,80,0\n",
}


def archive(name: str) -> bytes:
    """``set-a.tar.gz``, the same bytes each time."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for stay, text in RECORDS[name].items():
            member = tarfile.TarInfo(f"./set-{name}/{stay}.txt")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def published_files() -> dict[str, bytes]:
    content = {f"set-{name}.tar.gz": archive(name) for name in RECORDS}
    content |= {f"Outcomes-{name}.txt": text.encode() for name, text in RAW_OUTCOMES.items()}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()} {n}\n" for n, data in content.items())
    return content | {"SHA256SUMS.txt": sums.encode()}


@dataclass
class Site:
    """What the test server holds, how it behaves, and what it was asked for."""

    url: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    honours_range: bool = True
    wrong_range: bool = False
    stop_after: int | None = None  # bytes of the next answer, after which the line is cut
    broken: list[int] = field(default_factory=list)  # status codes of the next answers
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def asked_for(self, name: str) -> list[str | None]:
        """Range headers of the requests for one file."""
        return [header for path, header in self.asked if path == name]


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            wanted = self.headers.get("Range")
            site.asked.append((name, wanted))
            if site.broken:
                return self.send_error(site.broken.pop(0))
            if name not in site.content:
                return self.send_error(404)
            data, start = site.content[name], 0
            if wanted and site.honours_range:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    return self.send_error(416)
                start += int(site.wrong_range)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            body = data[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if site.stop_after is not None:
                body, site.stop_after = body[: site.stop_after], None
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine that publishes the made-up files."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site(content=published_files())
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(site)) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/files/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def raw_home(tmp_path: Path) -> Path:
    """A data home with the unpacked text files."""
    folder = tmp_path / "raw" / "physionet2012"
    for name, records in RECORDS.items():
        (folder / f"set-{name}").mkdir(parents=True)
        (folder / f"Outcomes-{name}.txt").write_text(RAW_OUTCOMES[name])
        for stay, text in records.items():
            (folder / f"set-{name}" / f"{stay}.txt").write_text(text)
    return folder.parent


@pytest.fixture
def archive_home(tmp_path: Path) -> Path:
    """A data home with the archives as downloaded by hand, without the list of checksums."""
    folder = tmp_path / "archives" / "physionet2012"
    folder.mkdir(parents=True)
    for name, data in published_files().items():
        if name != "SHA256SUMS.txt":
            (folder / name).write_bytes(data)
    return folder.parent
