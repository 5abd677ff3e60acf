"""The explorer in a notebook: the page in a frame, its selection in Python."""

from collections.abc import Sequence
from html import escape

from imagescape.collection.store import Collection
from imagescape.explore.server import Server


class View:
    """A collection shown in a notebook. A server runs on a thread of this process until `stop`.

    Args:
        scape: The collection.
        height_px: Of the frame.
        address: Where the browser finds the server, if not at this machine: such as "/proxy/{port}/" of
            jupyter-server-proxy, {port} being the server's.
        names: Names by which the browser reaches it then.
        read_only: Refuse every change.
        device: Where networks and exact search run.

    Attributes:
        url: The address of the page.
    """

    def __init__(
        self,
        scape: Collection,
        *,
        height_px: int = 720,
        address: str | None = None,
        names: Sequence[str] = (),
        read_only: bool = False,
        device: str = "auto",
    ) -> None:
        self._server = Server(scape, names=names, read_only=read_only, in_notebook=True, device=device)
        self._server.start()
        self._height_px = height_px
        # By the same name as a notebook on this machine, so that the browser takes both for one site.
        at_home = self._server.url.replace("127.0.0.1", "localhost")
        self.url = at_home if address is None else address.format(port=self._server.port) + _query(self._server.url)

    @property
    def selection(self) -> list[str]:
        """Ids of the images that are selected in the page now, in the order of the page."""
        return list(self._server.selection.as_dict()["ids"])

    def stop(self) -> None:
        """End the server; the page stays as it is and answers no more."""
        self._server.stop()

    def __repr__(self) -> str:
        return f"View('{self._server.scape.path}', at {self.url})"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{escape(self.url)}" title="imagescape" allow="clipboard-write" '
            f'style="width: 100%; height: {self._height_px}px; border: 0"></iframe>'
        )


def _query(url: str) -> str:
    _, sign, query = url.partition("?")
    return sign + query
