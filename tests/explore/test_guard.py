"""Who is let in: hosts, origins, tokens; and what every answer says to a browser."""

import pytest
from starlette.testclient import TestClient

from imagescape.explore.app import make_app
from imagescape.explore.guard import is_local
from tests.explore.conftest import NASTY, encoded

TOKEN = "s3cret-s3cret"


@pytest.fixture
def serve(explorer, page):
    def made(base="http://localhost:8170", **options):
        app = make_app(explorer, page=page, **options)
        return TestClient(app, base_url=base, follow_redirects=False, raise_server_exceptions=False)

    return made


class TestHost:
    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8170", "127.0.0.1:9", "[::1]:8170", "LOCALHOST:1", "127.3.2.1"]
    )
    def test_names_of_this_machine(self, serve, host):
        assert serve().get("/api/state", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8170",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8170",
            "192.168.1.5:8170",
            "0.0.0.0:8170",
            "169.254.169.254",
            "localhost@evil.example",
            "evil.example#localhost",
            "",
            "[::1",
            "localhost:8170, evil.example",
        ],
    )
    def test_a_rebound_name_is_refused(self, serve, refused, host):
        client = serve()
        for path in ("/api/about", "/", "/assets/a.js", "/api/image/x"):
            refused(client.get(path, headers={"Host": host}), 403, "host")
        refused(client.post("/api/undo", headers={"Host": host}, json={}), 403, "host")

    def test_beyond_this_machine_addresses_and_own_names(self, serve, refused):
        client = serve(host="0.0.0.0", token=TOKEN, names=["photos.example"])
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for host in ("192.168.1.5:8170", "photos.example", "localhost:1"):
            assert client.get("/api/state", headers={"Host": host, **bearer}).status_code == 200
        refused(client.get("/api/state", headers={"Host": "evil.example", **bearer}), 403, "host")

    def test_what_is_local(self):
        assert all(is_local(host) for host in ("localhost", "127.0.0.1", "::1", "127.9.9.9"))
        assert not any(is_local(host) for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", ""))


class TestOrigin:
    ACT = {"kind": "tag", "tag": "x"}  # noqa: RUF012

    def test_the_page_itself(self, serve, ids):
        headers = {"Origin": "http://localhost:8170", "Sec-Fetch-Site": "same-origin"}
        answer = serve().post("/api/acts", json={**self.ACT, "ids": ids[:1]}, headers=headers)
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "http://evil.example:8170"},
            {"Origin": "http://localhost:3000"},
            {"Origin": "http://localhost"},
            {"Origin": "http://127.0.0.1:8170"},
            {"Origin": "null"},
            {"Origin": ""},
            {"Origin": "localhost:8170"},
            {"Origin": "http://[::1"},
            {"Origin": "http://localhost:8170.evil.example"},
            {"Origin": "http://evil.example/localhost:8170"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://localhost:8170", "Sec-Fetch-Site": "cross-site"},
        ],
        ids=str,
    )
    def test_another_sites_page_changes_and_reads_nothing(self, serve, scape, ids, refused, headers):
        client, version = serve(), scape.version
        refused(client.post("/api/acts", json={**self.ACT, "ids": ids[:1]}, headers=headers), 403, "origin")
        refused(client.put("/api/selection", json={"ids": []}, headers=headers), 403, "origin")
        image = {"Content-Type": "image/png", **headers}
        refused(client.post("/api/place/M", content=encoded(1), headers=image), 403, "origin")
        refused(client.get("/api/about", headers=headers), 403, "origin")
        refused(client.get(f"/api/image/{ids[0]}", headers=headers), 403, "origin")
        assert scape.version == version

    def test_a_link_from_elsewhere_opens_the_page(self, serve):
        client = serve()
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert client.get("/", headers=headers).status_code == 200
        assert client.get("/assets/a.js", headers=headers).status_code == 200

    def test_no_answer_lets_another_origin_read_it(self, serve):
        answer = serve().options("/api/acts", headers={"Access-Control-Request-Method": "POST"})
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


class TestToken:
    def test_it_is_given_once_and_kept_in_a_cookie(self, serve, refused):
        client = serve(base="http://192.168.1.5:8170", host="0.0.0.0", token=TOKEN)
        refused(client.get("/api/about"), 401, "token")
        assert client.get("/").status_code == 401
        assert client.get("/assets/a.js").status_code == 401
        answer = client.get("/", params={"token": TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert TOKEN not in answer.headers["location"]
        assert client.get("/").status_code == 200  # with the cookie
        assert client.get("/api/about").status_code == 200

    @pytest.mark.parametrize("token", ["wrong", "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä", "%00"])
    def test_a_wrong_one(self, serve, refused, token):
        client = serve(host="0.0.0.0", token=TOKEN)
        assert client.get("/", params={"token": token}).status_code == 401
        refused(client.get("/api/about", headers={"Authorization": f"Bearer {token}".encode()}), 401, "token")
        refused(client.get("/api/about", params={"token": TOKEN}), 401, "token")  # in no other address
        name = client.get("/", params={"token": TOKEN}).headers["set-cookie"].partition("=")[0]
        client.cookies.clear()
        for cookie in (f"{name}={token}", f"{name}=", f"{name}", f"imagescape={TOKEN}", '"', f"{token}", "a=b; c"):
            refused(client.get("/api/about", headers={"Cookie": cookie.encode()}), 401, "token")

    def test_programs_send_it_as_a_header(self, serve):
        client = serve(host="0.0.0.0", token=TOKEN)
        assert client.get("/api/about", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200

    def test_another_sites_page_has_no_use_of_the_cookie(self, serve, refused):
        client = serve(base="http://192.168.1.5:8170", host="0.0.0.0", token=TOKEN)
        client.get("/", params={"token": TOKEN})
        refused(client.post("/api/undo", json={}, headers={"Origin": "http://evil.example"}), 403, "origin")

    def test_behind_a_proxy_that_speaks_tls(self, serve, refused):
        client = serve(base="http://127.0.0.1:8170", token=TOKEN, names=["photos.example"], host="0.0.0.0")
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        answer = client.post("/api/undo", json={}, headers={"Origin": "https://photos.example", **bearer})
        assert answer.status_code == 200
        refused(client.post("/api/undo", json={}, headers={"Origin": "https://localhost", **bearer}), 403, "origin")


class TestHeaders:
    def test_every_answer_carries_the_policy(self, serve, ids):
        client = serve()
        for path in ("/", "/assets/a.js", "/api/about", "/api/nothing", "/nothing", f"/api/image/{ids[0]}"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "script-src 'self';" in client.get("/").headers["content-security-policy"]
        assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]

    def test_a_notebook_on_this_machine_may_show_it(self, serve):
        policy = serve(in_notebook=True).get("/").headers["content-security-policy"]
        frames = policy.partition("frame-ancestors ")[2]
        assert "http://localhost:*" in frames
        assert "*" not in frames.split()
        assert "https:" not in frames.split()


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/../pyproject.toml",
            "/assets/../../../etc/passwd",
            "/assets/..%2f..%2findex.html",
            "/assets/%2e%2e/index.html",
            "/assets//etc/passwd",
            "//etc/passwd",
            "/etc/passwd",
            "/assets/",
            "/assets/b.js",
            "/index.html",
            "/scape.json",
            "/data.lance/_versions/1.manifest",
            "/api/../scape.json",
            "/api/column/..%2f..%2fscape.json",
            "/api/map/%00",
            "/api/labels/../../etc/passwd",
        ],
    )
    def test_no_file_but_those_of_the_page(self, serve, path):
        answer = serve().get(path)
        assert answer.status_code in (400, 404), answer.text
        assert set(answer.json()) == {"error"}
        assert "root:" not in answer.text

    def test_the_page_is_served_as_what_it_is(self, serve, page):
        client = serve()
        assert client.get("/").text == page["index.html"].read_text()
        assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
        assert client.get("/assets/a.js").headers["content-type"] == "text/javascript; charset=utf-8"
        assert "immutable" in client.get("/assets/a.js").headers["cache-control"]
        assert client.get("/").headers["cache-control"] == "no-cache"
        assert client.post("/").status_code == 405

    def test_a_bug_is_not_told(self, serve, monkeypatch, caplog):
        def fail(*arguments):
            raise RuntimeError(f"secret {NASTY}")

        monkeypatch.setattr("imagescape.explore.about.state", fail)
        answer = serve().get("/api/state")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "secret" in caplog.text
