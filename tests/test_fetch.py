"""Claims about `hypernas data fetch`, against a server of the test on this machine."""

import errno
import hashlib
import threading
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import official
import pytest
from click.testing import CliRunner

from hypernas import cli
from hypernas.data import catalogue, fetch
from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark

RAW = "nasbench101-official-108"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`, in part where asked and able; `server.cut` bytes an answer, then it hangs up."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        rest = server.content[start:]
        self.send_response(206 if asked and server.ranges else 200)
        if asked and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def payloads():
    return official.modules(12)[0]


@pytest.fixture
def server(payloads, tmp_path, monkeypatch):
    """A server of the official file, and the sources that know its address and checksum; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HYPERNAS_DATA", raising=False)
    monkeypatch.setattr(fetch, "PART", 64)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.content = b"".join(map(official.frame, payloads))
        running.cut, running.ranges, running.status, running.asked = None, True, 200, []
        entry = replace(
            catalogue.get_source(RAW),
            url=f"http://127.0.0.1:{running.server_port}/nasbench_only108.tfrecord",
            sha256=hashlib.sha256(running.content).hexdigest(),
            size=len(running.content),
        )
        known = tuple(entry if source.name == RAW else source for source in catalogue.sources())
        monkeypatch.setattr(catalogue, "sources", lambda: known)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hypernas" / "nasbench101"


def files(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_the_command_downloads_converts_and_the_benchmark_opens(server, folder):
    done = CliRunner().invoke(cli.main, ["data", "fetch", "nasbench101"])
    assert (done.exit_code, done.output.strip()) == (0, str(folder / "nasbench101_official.npz"))
    assert files(folder) == ["nasbench101_official.npz"]
    benchmark = Benchmark("nasbench101")
    assert len(benchmark) == 12
    assert benchmark.validation.isfinite().all()
    assert "12 cells, 12 of them with validation" in benchmark.table.source
    fetch.fetch("nasbench101", progress=False)
    assert len(server.asked) == 1


def test_keep_keeps_the_official_file_and_it_is_not_downloaded_again(server, folder):
    fetch.fetch("nasbench101", keep=True, progress=False)
    assert files(folder) == ["nasbench101_official.npz", "nasbench_only108.tfrecord"]
    (folder / "nasbench101_official.npz").unlink()
    fetch.fetch("nasbench101", progress=False)
    assert len(server.asked) == 1


def test_a_download_cut_in_the_middle_goes_on_where_it_stopped(server, folder):
    server.cut = len(server.content) // 3
    path = fetch.download(catalogue.get_source(RAW), folder / "file", progress=False)
    assert path.read_bytes() == server.content
    assert server.asked[0] is None
    assert server.asked[1] == f"bytes={server.cut}-"
    assert files(folder) == ["file"]


def test_a_download_that_never_ends_is_told_and_the_next_command_goes_on(server, folder):
    server.cut = 100
    with pytest.raises(UserError, match=r"stopped after 500 bytes \(the connection was closed early\).*goes on from"):
        fetch.fetch("nasbench101", progress=False)
    assert files(folder) == ["nasbench_only108.tfrecord.part"]
    server.cut = None
    fetch.fetch("nasbench101", progress=False)
    assert server.asked[-1] == "bytes=500-"
    assert files(folder) == ["nasbench101_official.npz"]


def test_a_server_that_cannot_resume_sends_everything_again(server, folder):
    folder.mkdir(parents=True)
    (folder / "file.part").write_bytes(b"x" * 50)
    server.ranges = False
    assert fetch.download(catalogue.get_source(RAW), folder / "file", progress=False).read_bytes() == server.content


def test_a_whole_part_is_accepted_without_a_byte(server, folder):
    folder.mkdir(parents=True)
    (folder / "file.part").write_bytes(server.content)
    fetch.download(catalogue.get_source(RAW), folder / "file", progress=False)
    assert files(folder) == ["file"]


def test_an_altered_download_is_refused_and_removed(server, folder):
    server.content = server.content[:-1] + b"!"
    with pytest.raises(UserError, match=r"sha256 of nasbench101-official-108 must be .*the download was removed"):
        fetch.fetch("nasbench101", progress=False)
    assert files(folder) == []


@pytest.mark.parametrize(("status", "times"), [(404, 1), (503, fetch.ATTEMPTS)])
def test_an_answer_that_is_no_file_is_told(server, folder, status, times):
    server.status = status
    with pytest.raises(UserError, match=f"status {status}"):
        fetch.fetch("nasbench101", progress=False)
    assert files(folder) == []
    assert len(server.asked) == times


def test_no_server_is_told(server, folder, monkeypatch):
    entry = replace(catalogue.get_source(RAW), url="http://127.0.0.1:9/nasbench_only108.tfrecord")
    with pytest.raises(UserError, match="refused"):
        fetch.download(entry, folder / "file", progress=False)


def test_too_little_room_is_told_before_a_byte_is_asked_for(server, folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage(9, 1, 8))
    with pytest.raises(UserError, match=r"needs [\d,]+ bytes under .*, got 8 free"):
        fetch.fetch("nasbench101", progress=False)
    assert server.asked == []
    assert files(folder) == []


def test_a_disk_that_fills_leaves_nothing(server, folder, monkeypatch):
    def full(read, write, update):
        write(read(200))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_copy", full)
    with pytest.raises(UserError, match="the disk is full"):
        fetch.fetch("nasbench101", progress=False)
    assert files(folder) == []


def test_an_altered_official_file_is_refused_and_leaves_no_table(server, folder):
    fetch.fetch("nasbench101", keep=True, progress=False)
    (folder / "nasbench101_official.npz").unlink()
    (folder / "nasbench_only108.tfrecord").write_bytes(server.content[:50] + b"!" + server.content[51:])
    with pytest.raises(UserError, match="sha256 of nasbench101-official-108 must be"):
        fetch.fetch("nasbench101", progress=False)
    assert files(folder) == ["nasbench_only108.tfrecord"]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["nothing"], "source must be one of"),
        (["analog-nasbench"], "a source to fetch must be one of nasbench101"),
        (["nasbench101", "--from", "digits"], "--from must name an official file"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(server, words, rule):
    done = CliRunner().invoke(cli.main, ["data", "fetch", *words])
    assert done.exit_code == 2
    assert rule in done.output
    assert done.output.count("\n") == 1
