"""The explorer's server: a free port, an address to open, an end on Ctrl-C."""

import logging
import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from imagescape.collection.store import Collection
from imagescape.errors import ImagescapeError, InputError, require
from imagescape.explore.explorer import Explorer

FIRST_PORT = 8170

_PORTS = 20  # tried one after another where none is asked for
_BACKLOG = 512
_START_SECONDS = 20.0

_log = logging.getLogger(__name__)


@dataclass
class Server:
    """A server that listens already, and answers once it runs.

    Args:
        scape: The collection.
        host: Address to bind; beyond this machine a token is needed.
        port: None: the first free one from 8170.
        token: Whether a token is needed on this machine too.
        names: Further names by which the server is reached, as behind a proxy; a token is needed then.
        read_only: Refuse every change.
        in_notebook: Whether a local notebook may show the page in a frame.
        engine, device: Of searches, see `Explorer`.

    Attributes:
        explorer: What it serves.
        selection: What is selected in the page.

    Raises:
        InputError: the page is not built, or the port is taken.
        MissingExtraError: starlette or uvicorn is not installed.
    """

    scape: Collection
    host: str = "127.0.0.1"
    port: int | None = None
    token: bool = False
    names: Sequence[str] = ()
    read_only: bool = False
    in_notebook: bool = False
    engine: str = "exact"
    device: str = "auto"
    explorer: Explorer = field(init=False)
    selection: Any = field(init=False)

    def __post_init__(self) -> None:
        uvicorn = require("uvicorn", extra="explore")
        require("starlette", extra="explore")
        from imagescape.explore.app import make_app
        from imagescape.explore.guard import is_local
        from imagescape.explore.routes.acting import Selection

        self.explorer = Explorer(self.scape, read_only=self.read_only, engine=self.engine, device=self.device)
        self.selection = Selection()
        needs_token = self.token or bool(self.names) or not is_local(self.host)
        self._secret = secrets.token_urlsafe(24) if needs_token else None
        app = make_app(
            self.explorer,
            host=self.host,
            token=self._secret,
            names=self.names,
            in_notebook=self.in_notebook,
            selection=self.selection,
        )
        self._socket = _listening(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # addresses may hold the token
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
            limit_concurrency=2000,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to open, with the token where one is needed."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + (f"?token={self._secret}" if self._secret else "")

    def run(self, *, open_browser: bool = False) -> None:
        """Serve until Ctrl-C."""
        threading.Thread(target=self._warm_up, daemon=True).start()
        if open_browser:
            threading.Thread(target=self._open, daemon=True).start()
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:
            pass  # uvicorn has ended what was under way
        finally:
            self._socket.close()

    def start(self) -> None:
        """Serve on a thread, until `stop`; returns once it answers.

        Raises:
            InputError: it does not start.
        """
        self._thread = threading.Thread(target=self.run, daemon=True, name="imagescape explore")
        self._thread.start()
        began = time.monotonic()
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() - began > _START_SECONDS:
                raise InputError(f"the server did not start at {self.host}:{self.port}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server that `start` started."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _warm_up(self) -> None:
        """Work out what every page asks for first, while the browser opens."""
        from imagescape.explore.about import about

        try:
            told = about(self.explorer)
            if told["tiled"]:
                self.explorer.tiles(self.explorer.orders.now()[0], told["maps"][-1]["name"])
        except (ImagescapeError, IndexError) as error:
            _log.info("nothing was worked out ahead: %s", error)  # the page will be told

    def _open(self) -> None:
        while not self._server.started and not self._server.should_exit:
            time.sleep(0.02)
        if has_display():
            webbrowser.open(self.url)


def has_display() -> bool:
    """Whether a browser can show itself; one within the terminal would take the place of our own lines."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in [port] if port is not None else [*range(FIRST_PORT, FIRST_PORT + _PORTS), 0]:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, attempt))
            one.listen(_BACKLOG)
            return one
        except (OSError, OverflowError) as error:
            one.close()
            problem = error
    reason = getattr(problem, "strerror", None) or problem
    raise InputError(f"cannot listen at {host}, port {port if port is not None else 'any'}: {reason}") from problem
