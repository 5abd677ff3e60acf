"""Who may ask: the host and the origin of a request, the token, and what every answer tells the browser to refuse.

* A name that someone else's DNS points at this machine (DNS rebinding) is not one of ours: `Host` is refused.
* Another site's page may send requests here, with the cookie: `Origin` and `Sec-Fetch-Site` tell; they are refused.
* Beyond this machine a random token is needed, given once in the address, then kept in a cookie that scripts cannot
  read.
"""

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagescape.explore.answers import Refused, problem

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {frames}"
)
# Where a notebook may show the page.
_NOTEBOOKS = "'self' http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview:"
_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_READS = frozenset({"GET", "HEAD"})


def is_local(host: str) -> bool:
    """Whether an address to bind is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks requests before `app` sees them, and adds to all answers what keeps a browser from harm.

    Args:
        app: What is guarded.
        host: The address that the server binds.
        token: What must be known to be let in; None: nothing.
        names: Names besides those of this machine by which it is reached, as behind a proxy.
        in_notebook: Whether a local notebook may show the page in a frame.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, token: str | None, names: Sequence[str] = (), in_notebook: bool = False
    ) -> None:
        self._app, self._token = app, token
        self._is_local = is_local(host)
        own = {socket.gethostname(), socket.getfqdn(), host} if not self._is_local else set()
        self._names = {name.lower() for name in {*LOCAL_NAMES, *own, *names} if name}
        self._cookie = "imagescape_" + hashlib.sha256((token or "").encode()).hexdigest()[:8]
        self._headers = {
            "Content-Security-Policy": _POLICY.format(frames=_NOTEBOOKS if in_notebook else "'none'"),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets are spoken here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                message["headers"] = headers.raw
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead of the app; None to let the request through."""
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_origin(headers, scope)
        except Refused as refused:
            return problem(refused)
        return None if self._token is None else self._check_token(headers, scope)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(_name(hosts[0])):
            raise Refused(403, "host", "this server is not called so; open the address that it printed")

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            # An address is what it says it is, unlike a name; it only has to be one that can lead here.
            return ipaddress.ip_address(name).is_loopback or not self._is_local
        except ValueError:
            return False

    def _check_origin(self, headers: Headers, scope: Scope) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        is_page = scope["method"] in _READS and not scope["path"].startswith("/api/")
        if origin is not None:
            there, here = origin.partition("://")[2].lower(), headers["host"].lower()
            # Behind a proxy that speaks TLS the scheme differs, and the port may.
            is_ours = _name(there) in self._names - LOCAL_NAMES and not self._is_local
            if there != here and not is_ours and not (is_page and site == "same-origin"):
                raise Refused(403, "origin", "another site's page may not ask this server for anything")
        if site not in ("same-origin", "none") and not is_page:
            raise Refused(403, "origin", "another site's page may not ask this server for anything")

    def _check_token(self, headers: Headers, scope: Scope) -> Response | None:
        assert self._token is not None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and scope["method"] in _READS and asked:
            if not self._is_right(asked):
                return PlainTextResponse("This token is not that of the server that runs now.\n", 401)
            answer = Response(status_code=303, headers={"Location": "./", "Cache-Control": "no-store"})
            answer.set_cookie(self._cookie, self._token, path="/", httponly=True, samesite="lax")
            return answer
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_right(bearer.strip()):
            return None
        if self._is_right(self._cookie_of(headers)):
            return None
        if scope["path"] == "/":
            return PlainTextResponse("Open the address that the server printed, with its token.\n", 401)
        return problem(Refused(401, "token", "open the address that the server printed, with its token"))

    def _cookie_of(self, headers: Headers) -> str:
        try:
            found = SimpleCookie("; ".join(headers.getlist("cookie"))).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), (self._token or "").encode())


def _name(netloc: str) -> str:
    """The host of `host:port`, in lower case; "" where it is none."""
    found = _NETLOC.fullmatch(netloc.lower())
    return found[1].strip("[]") if found else ""
