"""Downloads against a server on this machine that cuts, lies, forbids and forgets."""

import hashlib
import re
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from imagescape.collection.readers.download import DATASETS, Source, fetch_dataset
from imagescape.errors import InputError
from imagescape.fetch import DownloadError, RemoteFile, default_cache_dir

CONTENT = np.random.default_rng(0).bytes(3_000_000)


@dataclass
class Server:
    """What to answer, and what was asked."""

    ranges: bool = True
    cut_after_bytes: int | None = None  # the connection drops after so much of each answer
    cuts: int = 0  # how many answers to cut
    status: int | None = None  # answer everything with this error
    down_after: int | None = None  # answers, then error 503 for ever
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        down = self.down_after is not None and len(self.asked) > self.down_after
        if self.status is not None or down:
            request.send_error(self.status or 503)
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if wanted and self.ranges and begin >= len(CONTENT):
            request.send_error(416)
            return
        request.send_response(206 if wanted and self.ranges else 200)
        request.send_header("Content-Length", str(len(CONTENT) - begin))
        request.end_headers()
        body = CONTENT[begin:]
        if self.cuts:
            self.cuts -= 1
            body = body[: self.cut_after_bytes]
        request.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour.answer(self)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    behaviour.url = f"http://127.0.0.1:{http.server_port}/data.bin"
    yield behaviour
    http.shutdown()
    http.server_close()
    thread.join(timeout=5)


def published(*urls: str, checksum: str = "", size_bytes: int | None = len(CONTENT)) -> dict[str, Source]:
    checksum = checksum or f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    return {"noise": Source((RemoteFile("data.bin", urls, checksum, size_bytes),))}


def fetch(tmp_path, datasets, attempts=3):
    return fetch_dataset("noise", tmp_path, datasets=datasets, attempts=attempts, wait_seconds=0.001)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_brings_the_file_and_does_not_ask_twice(server, tmp_path):
    datasets = published(server.url)
    path = fetch(tmp_path, datasets)
    assert path == tmp_path / "noise" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["data.bin"]
    assert fetch(tmp_path, datasets) == path
    assert server.asked == [None]


def test_md5_and_an_unknown_size_will_do(server, tmp_path):
    datasets = published(server.url, checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}", size_bytes=None)
    assert fetch(tmp_path, datasets).read_bytes() == CONTENT


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_a_cut_connection_is_taken_up_where_it_stopped(server, tmp_path, size_bytes):
    server.cuts, server.cut_after_bytes = 2, 1_000_000
    path = fetch(tmp_path, published(server.url, size_bytes=size_bytes))
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=2000000-"]


def test_tries_are_counted_from_the_last_new_byte(server, tmp_path):
    server.cuts, server.cut_after_bytes = 6, 500_000
    assert fetch(tmp_path, published(server.url), attempts=2).read_bytes() == CONTENT


def test_a_server_that_cannot_resume_is_asked_for_all_of_it(server, tmp_path):
    server.ranges, server.cuts, server.cut_after_bytes = False, 1, 1_000_000
    assert fetch(tmp_path, published(server.url)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]


def test_an_interrupted_run_goes_on_in_the_next(server, tmp_path):
    server.cuts, server.cut_after_bytes, server.down_after = 1, 1_000_000, 1
    with pytest.raises(DownloadError, match=r"HTTP 503.*run the same command again"):
        fetch(tmp_path, published(server.url))
    assert (tmp_path / "noise" / "data.bin.part").read_bytes() == CONTENT[:1_000_000]
    server.down_after = None
    assert fetch(tmp_path, published(server.url)).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=1000000-"


def test_a_complete_part_of_unknown_size_is_recognised(server, tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "data.bin.part").write_bytes(CONTENT)
    assert fetch(tmp_path, published(server.url, size_bytes=None)).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_wrong_checksum_is_told_and_kept_and_the_next_run_starts_anew(server, tmp_path):
    with pytest.raises(DownloadError, match=r"published md5 0000, got [0-9a-f]{32}.*data\.bin\.rejected.*run again"):
        fetch(tmp_path, published(server.url, checksum="md5:0000"))
    folder = tmp_path / "noise"
    assert [entry.name for entry in folder.iterdir()] == ["data.bin.rejected"]
    assert (folder / "data.bin.rejected").read_bytes() == CONTENT
    assert fetch(tmp_path, published(server.url)).read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_bytes_left_by_another_file_do_not_pass(server, tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "data.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="got"):
        fetch(tmp_path, published(server.url))


def test_a_file_of_another_size_is_not_even_begun(server, tmp_path):
    with pytest.raises(DownloadError, match=r"it has 3000000 bytes there, 2999999 were expected"):
        fetch(tmp_path, published(server.url, size_bytes=len(CONTENT) - 1))
    assert list((tmp_path / "noise").iterdir()) == []


def test_more_than_the_published_bytes_are_not_the_file(server, tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "data.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DownloadError, match=r"data\.bin must have 3000000 bytes, got 3000004.*data\.bin\.rejected"):
        fetch(tmp_path, published(server.url))


def test_the_next_server_is_asked_when_one_has_not_got_it(server, tmp_path):
    nowhere = f"http://127.0.0.1:{closed_port()}/data.bin"
    assert fetch(tmp_path, published(nowhere, server.url)).read_bytes() == CONTENT


def test_without_a_network_the_addresses_and_the_way_out_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = f"http://127.0.0.1:{closed_port()}/data.bin"
    with pytest.raises(DownloadError, match=rf"{re.escape(url)} \(.*refused.*give its path instead of the name"):
        fetch(tmp_path, published(url), attempts=2)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_only_passing_errors_are_tried_again(server, tmp_path, status, requests):
    server.status = status
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        fetch(tmp_path, published(server.url), attempts=3)
    assert len(server.asked) == requests


def test_several_files_come_as_a_folder(server, tmp_path):
    one = published(server.url)["noise"].files[0]
    both = {"noise": Source((one, RemoteFile("more.bin", one.urls, one.checksum)))}
    folder = fetch(tmp_path, both)
    assert sorted(entry.name for entry in folder.iterdir()) == ["data.bin", "more.bin"]


def test_unknown_names_and_unusable_places(tmp_path):
    with pytest.raises(InputError, match=r"no data set 'cifar-10' to download; did you mean 'cifar10'\?"):
        fetch_dataset("cifar-10", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="set IMAGESCAPE_CACHE"):
        fetch_dataset("mnist", tmp_path / "file")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGESCAPE_CACHE", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here"
    monkeypatch.delenv("IMAGESCAPE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "imagescape"


def test_the_list_is_well_formed():
    files = [file for source in DATASETS.values() for file in source.files]
    digits = {"md5": 32, "sha256": 64}
    for file in files:
        algorithm, _, checksum = file.checksum.partition(":")
        assert re.fullmatch(rf"[0-9a-f]{{{digits[algorithm]}}}", checksum)
        assert all(re.search(rf"/{re.escape(file.name)}(\?download=1)?$", url) for url in file.urls)
    assert max(Counter(file.checksum for file in files).values()) == 1
    assert len(DATASETS) == 6 + 12 * 4
