"""The server itself, on a port of its own: attacks, crowds, and its end."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from imagescape.collection.store import Collection
from imagescape.errors import InputError, MissingExtraError
from imagescape.explore import page as page_module
from imagescape.explore.server import Server
from tests.explore.conftest import NASTY, PAGE, encoded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A page where the built one is."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "assets" / "a.js").write_text("export {}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "BUILT", folder)
        yield folder


@pytest.fixture(scope="module")
def server(made, built, tmp_path_factory):
    import shutil

    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(made / "c.scape", folder / "c.scape")
    server = Server(Collection.open(folder / "c.scape"), device="cpu")
    server.start()
    yield server
    server.stop()


def connection(server, timeout=30):
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)


def asked(server, path, method="GET", body=None, headers=None):
    """Status, headers and body of one answer."""
    link = connection(server)
    try:
        link.request(method, path, body, headers or {})
        answer = link.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        link.close()


def is_alive(server):
    status, _, body = asked(server, "/api/state")
    return status == 200 and json.loads(body)["rows"] == 24


def raw(server, data, wait_seconds=5.0):
    """What is answered to bytes that no client of HTTP would send."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_seconds) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := link.recv(65536):
                parts.append(part)
        except TimeoutError:
            pass
        return b"".join(parts)


def order_of(server):
    return json.loads(asked(server, "/api/state")[2])["order"]


class TestAttacks:
    @pytest.mark.parametrize(
        "path",
        [
            "/../../../../etc/passwd",
            "/assets/../../../../../etc/passwd",
            "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/..%5c..%5cwindows",
            "//etc/passwd",
            "/assets/..\\..\\x",
            "http://169.254.169.254/latest/meta-data",
            "/api/image/../../../etc/passwd",
            "/api/image/%2fetc%2fpasswd",
            "/api/image//etc/passwd",
            "/api/image/file:%2f%2f%2fetc%2fpasswd",
            "/" + "a" * 60_000,
        ],
    )
    def test_paths(self, server, path):
        answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ", 2)[1] in (b"400", b"404", b"431")
        assert b"root:" not in answer
        assert is_alive(server)

    @pytest.mark.parametrize("path", ["/api/find/image?features=net", "/api/place/M?x=1", "/api/acts", "/api/export"])
    def test_ten_gigabytes_are_refused_by_what_is_claimed(self, server, path):
        """At once, and with nothing of the body asked for."""
        began = time.monotonic()
        kind = "image/png" if "image" in path or "place" in path else "application/json"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {10 << 30}\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
            link.sendall(head.encode())
            answer = b"".join(iter(lambda: link.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"too_large" in answer
        assert time.monotonic() - began < 5
        assert is_alive(server)

    @pytest.mark.parametrize("length", ["-1", "abc", "1e9", "9" * 100, "0x10", "5, 6"])
    def test_lengths_that_are_none(self, server, length):
        kind = "Host: localhost\r\nContent-Type: application/json"
        head = f"POST /api/acts HTTP/1.1\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{{}}"
        assert raw(server, head.encode()).split(b" ", 2)[1] in (b"400", b"413")
        assert is_alive(server)

    def test_a_body_that_does_not_end_is_cut_off(self, server):
        """Chunked, so that nothing is claimed; more than the limit is not taken in."""
        kind = b"Host: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked"
        head = b"POST /api/place/M HTTP/1.1\r\n" + kind + b"\r\n\r\n"
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as link:
            link.sendall(head)
            sent = 0
            try:
                while sent < 400 << 20:
                    link.sendall(chunk)
                    sent += len(chunk)
            except (ConnectionError, TimeoutError):
                pass
            assert sent < 200 << 20  # 64 MiB, and what lies in buffers
        assert is_alive(server)

    def test_a_picture_of_a_thousand_million_pixels(self, server):
        """A PNG of 20 kB that says it is 40,000 x 40,000."""
        order = order_of(server)

        def chunk(kind, data):
            return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

        side = 40_000
        header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
        rows = zlib.compress(b"\0" * (20 << 20), 9)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        for path in (f"/api/find/image?features=net&order={order}", f"/api/place/M?order={order}"):
            status, _, body = asked(server, path, "POST", bomb, {"Content-Type": "image/png"})
            assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
        assert is_alive(server)

    def test_small_pictures_that_unfold(self, server):
        """Within the limit of pixels they are decoded, one at a time, whoever sends them."""
        order = order_of(server)
        out = io.BytesIO()
        Image.new("L", (5_000, 5_000)).save(out, "PNG", compress_level=9)
        with ThreadPoolExecutor(4) as pool:
            path = f"/api/find/image?features=net&order={order}"
            sent = [pool.submit(asked, server, path, "POST", out.getvalue(), {"Content-Type": "x/y"}) for _ in range(4)]
            assert [one.result()[0] for one in sent] == [200] * 4
        assert is_alive(server)

    def test_foreign_hosts_and_origins(self, server):
        status, _, body = asked(server, "/api/about", headers={"Host": "evil.example"})
        assert (status, json.loads(body)["error"]["code"]) == (403, "host")
        headers = {"Origin": "http://evil.example", "Content-Type": "application/json"}
        status, _, body = asked(server, "/api/undo", "POST", b"{}", headers)
        assert (status, json.loads(body)["error"]["code"]) == (403, "origin")
        assert raw(server, b"GET /api/about HTTP/1.0\r\n\r\n").split(b" ", 2)[1] in (b"400", b"403")
        two = b"GET /api/about HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        assert raw(server, two).split(b" ", 2)[1] in (b"400", b"403")

    @pytest.mark.parametrize(
        "data", [b"\0" * 1000, b"GET\r\n\r\n", b"\x16\x03\x01" + b"x" * 200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    )
    def test_noise(self, server, data):
        answer = raw(server, data)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert is_alive(server)

    def test_no_web_sockets(self, server):
        head = (
            "GET /api/about HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" not in raw(server, head.encode()).split(b"\r\n")[0]

    def test_uploads_that_stop_in_the_middle_leave_room_for_others(self, server):
        head = (
            b"POST /api/place/M?order=x HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 60000000\r\n\r\n" + b"x" * 1000
        )
        links = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
        try:
            for link in links:
                link.sendall(head)
            time.sleep(0.2)
            assert is_alive(server)
            order = order_of(server)
            status, _, _ = asked(
                server, f"/api/place/M?order={order}", "POST", encoded(1), {"Content-Type": "image/png"}
            )
            assert status == 200  # a small picture needs no turn
        finally:
            for link in links:
                link.close()
        assert is_alive(server)

    def test_html_in_names_and_tags_comes_back_as_text(self, server):
        ids = list(server.explorer.scape.ok_ids())
        content = json.dumps({"kind": "tag", "tag": NASTY, "ids": ids[:1]}).encode()
        status, _, _ = asked(server, "/api/acts", "POST", content, {"Content-Type": "application/json"})
        assert status == 200
        for path in ("/api/tags", f"/api/row/{ids[0]}?order={order_of(server)}", "/api/acts"):
            status, headers, _ = asked(server, path)
            assert (status, headers["content-type"]) == (200, "application/json")
            assert headers["x-content-type-options"] == "nosniff"
        asked(server, "/api/undo", "POST", b"{}", {"Content-Type": "application/json"})

    def test_nothing_tells_what_serves(self, server):
        _, headers, _ = asked(server, "/api/about")
        assert "server" not in headers


class TestCrowds:
    def test_two_hundred_clients_at_once(self, server):
        """All are served, each its own."""
        order = order_of(server)
        ids = list(server.explorer.scape.ok_ids())
        known = {path: asked(server, path)[2] for path in (f"/api/map/M?order={order}", "/api/tags")}
        begin, got = threading.Barrier(200), []

        def client(number):
            begin.wait()
            if number % 4 == 3:
                image_id = ids[number % len(ids)]
                status, _, body = asked(server, f"/api/row/{image_id}?order={order}")
                got.append((status, json.loads(body)["id"] == image_id))
            elif number % 4 == 2:
                some = ",".join(ids[number % 20 : number % 20 + 3])
                status, _, body = asked(server, f"/api/thumbnails?ids={some}")
                got.append((status, body[:4] == (3).to_bytes(4, "little")))
            else:
                path = list(known)[number % 2]
                status, _, body = asked(server, path)
                got.append((status, body == known[path]))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert got == [(200, True)] * 200

    def test_writers_at_once(self, server):
        """Every act is written, one after another, and all of them can be taken back."""
        scape = server.explorer.scape
        ids = list(scape.ok_ids())
        before = scape.read(["image_id", "label"]).to_pylist()

        def act(number):
            content = json.dumps({"kind": "tag", "tag": f"t{number}", "ids": ids[number % 5 :: 5]}).encode()
            return asked(server, "/api/acts", "POST", content, {"Content-Type": "application/json"})[0]

        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(act, range(24))) == [200] * 24
        tags = dict(
            zip(scape.read(["image_id"])["image_id"].to_pylist(), scape.read(["tags"])["tags"].to_pylist(), strict=True)
        )
        for place, image_id in enumerate(ids):
            assert tags[image_id] == sorted(f"t{number}" for number in range(24) if number % 5 == place % 5)
        for _ in range(24):
            asked(server, "/api/undo", "POST", b"{}", {"Content-Type": "application/json"})
        assert scape.count("tags IS NOT NULL") == 0
        assert scape.read(["image_id", "label"]).to_pylist() == before

    def test_slow_readers_do_not_hold_up_others(self, server):
        order = order_of(server)
        links = []
        for _ in range(30):
            link = socket.create_connection(("127.0.0.1", server.port))
            link.sendall(f"GET /api/map/M?order={order} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            links.append(link)  # and nothing is read
        try:
            assert is_alive(server)
        finally:
            for link in links:
                link.close()


class TestStart:
    def test_the_first_free_port(self, made, built):
        scape = Collection.open(made / "c.scape")
        first = Server(scape, read_only=True)
        second = Server(scape, read_only=True)
        try:
            assert second.port != first.port
            assert second.url == f"http://127.0.0.1:{second.port}/"
            with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1, port {first.port}"):
                Server(scape, port=first.port)
        finally:
            first._socket.close()
            second._socket.close()

    def test_beyond_this_machine_there_is_a_token(self, made, built):
        scape = Collection.open(made / "c.scape")
        servers = [Server(scape, host="0.0.0.0"), Server(scape, token=True), Server(scape, names=["x.example"])]
        tokens = {server.url.partition("?token=")[2] for server in servers}
        for server in servers:
            server._socket.close()
        assert len(tokens) == 3
        assert all(len(token) >= 32 for token in tokens)

    def test_addresses_that_are_none(self, made, built):
        with pytest.raises(InputError, match=r"cannot listen at 203\.0\.113\.7"):
            Server(Collection.open(made / "c.scape"), host="203.0.113.7")

    def test_without_the_page(self, made, monkeypatch, tmp_path, fails):
        monkeypatch.setattr(page_module, "BUILT", tmp_path / "nothing")
        assert "Node.js" in fails("explore", made / "c.scape", "--no-browser")

    def test_without_the_packages(self, made, monkeypatch, fails):
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        with pytest.raises(MissingExtraError):
            Server(Collection.open(made / "c.scape"))
        assert "pip install 'imagescape[explore]'" in fails("explore", made / "c.scape", "--no-browser")

    def test_no_collection(self, fails, tmp_path):
        assert "is not a collection" in fails("explore", tmp_path / "no.scape", "--no-browser")

    def test_the_program_serves_until_it_is_stopped(self, scape, built):
        """Prints the address, answers, and ends with 0 and no word on Ctrl-C."""
        code = (
            "import sys, pathlib; from imagescape.explore import page; "
            f"page.BUILT = pathlib.Path({str(built)!r}); "
            f"sys.argv = ['imagescape', 'explore', {str(scape.path)!r}, '--no-browser']; "
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from imagescape.cli.app import main; main()"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            url = done.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            for _ in range(200):
                try:
                    with urllib.request.urlopen(url + "api/state", timeout=10) as answer:
                        assert json.load(answer)["rows"] == 24
                    break
                except OSError:
                    time.sleep(0.05)
            done.send_signal(signal.SIGINT)
            out, err = done.communicate(timeout=30)
        finally:
            done.kill()
        assert (done.returncode, out, err) == (0, "", "")
