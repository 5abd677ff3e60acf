"""What pages are made of: text that can be no markup, pictures as addresses, and a template that is filled."""

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from PIL import Image

from imagescape.errors import InputError

_QUALITY = 75


def text(value: str) -> str:
    """Text that can be no markup, also inside an attribute; what no file may hold is written as an escape."""
    return html.escape(value.encode("utf-8", "backslashreplace").decode())


def picture_address(data: bytes, of: str, side_px: int) -> str:
    """An encoded picture as a `data:` address, made small.

    Args:
        data: Of any kind that Pillow reads.
        of: Whose picture, for the message.
        side_px: Its longest side.

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            kind = opened.format
            image = opened.convert("RGBA" if "A" in opened.getbands() or "transparency" in opened.info else "RGB")
    except (OSError, ValueError) as error:
        raise InputError(f"the picture of {of} cannot be decoded ({error}); leave it out") from error
    if kind != "WEBP" or max(image.size) > side_px:
        image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        image.save(out, "WEBP", quality=_QUALITY)
        data = out.getvalue()
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def write_page(path: str | Path, page: str) -> Path:
    """Write a page into a folder that exists; InputError where it does not."""
    path = check_page_path(path)
    path.write_text(page, encoding="utf-8")
    return path


def check_page_path(path: str | Path) -> Path:
    """`path`, where a page can be written to; for those who compute long before they write.

    Raises:
        InputError: its folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    return path


def filled(template: str, parts: Mapping[str, str], *, script: str = "") -> str:
    """The template `web/<template>.html` with its style, its program if any, and `parts`, which must be markup.

    The page's security policy knows the program by its SHA-256.
    """
    web = files("imagescape.report") / "web"
    every = {**parts, "style": (web / f"{template}.css").read_text(encoding="utf-8")}
    if script:
        every["script"] = (web / script).read_text(encoding="utf-8")
        digest = hashlib.sha256(every["script"].encode()).digest()
        every["script_hash"] = f"sha256-{base64.b64encode(digest).decode()}"
    page = (web / f"{template}.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: every[found[1]], page)
