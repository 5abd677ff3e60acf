"""Bytes of any image -> an upright RGB picture, or a plain reason why there is none.

A collection of a million files has every kind of broken file in it, so a bad image is an answer here (`Decoded` with
a status), never an exception. Everything is safe to call from many threads: no global setting of Pillow is touched.

What is done to get to 8-bit RGB:

* EXIF orientation is applied.
* Transparency (alpha channels, and transparent colours of palette, grey and RGB images) is composited over white.
* 16-bit grey is scaled by its range (65535 -> 255), 12-bit TIFF likewise (4095 -> 255); 16-bit colour keeps its high
  bytes. Images of 32-bit integers or floats, as microscopes and telescopes write, have no natural white: they are
  stretched from their smallest finite value (black) to their largest (white), each image by itself.
* CMYK becomes RGB by the plain formula, with Adobe's inversion of CMYK JPEGs undone; Lab is converted too.
  Embedded colour profiles are not applied.
* The first frame of an animation, the first page of a TIFF, the flattened picture of a PSD is taken.
"""

import importlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile

from imagescape.errors import InputError

Status = Literal["ok", "empty", "truncated", "not_an_image", "too_large", "unreadable", "vanished"]
Fit = Literal["crop", "pad", "squash"]
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

DEFAULT_MAX_PIXELS = 178_956_970
"""Pillow's own refusal limit: half a gigabyte as RGB. Anything above is taken for a decompression bomb."""

# Pillow's modules for the formats we read, most frequent first. Left out on purpose: formats that run another program
# (EPS starts Ghostscript) and those so loosely defined that any bytes may pass for them.
_PLUGINS = {
    "JPEG": "Jpeg",
    "PNG": "Png",
    "WEBP": "WebP",
    "GIF": "Gif",
    "TIFF": "Tiff",
    "BMP": "Bmp",
    "AVIF": "Avif",
    "JPEG2000": "Jpeg2K",
    "PPM": "Ppm",
    "PSD": "Psd",
    "ICO": "Ico",
    "ICNS": "Icns",
    "QOI": "Qoi",
    "DDS": "Dds",
    "FITS": "Fits",
    "TGA": "Tga",
}
for _plugin in _PLUGINS.values():
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")  # registers itself in Image.OPEN

# Signatures of one or two letters, or none: a text file may carry them, so a bad header means that it is no image.
_WEAK_SIGNATURE = {"BMP", "PPM", "ICO", "TGA"}

# Plugins that read the whole file before they look at it, so that coming to its end means nothing.
_READ_WHOLE = {"WEBP", "AVIF"}

# Real images that we cannot read, by a test of their first bytes: better named than called "not an image".
_UNSUPPORTED: dict[str, Callable[[bytes], bool]] = {
    "HEIC": lambda head: head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"),
    "JPEG XL": lambda head: head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    "SVG": lambda head: b"<svg" in head,
    "EPS": lambda head: head.startswith(b"%!PS"),
}

# Tags of TIFF 6.0.
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one image.

    Attributes:
        image: Upright 8-bit RGB picture; None unless `status` is "ok".
        status: "ok", or what is wrong.
        reason: One plain sentence; "" when all is well, not empty for a salvaged image.
        width: Pixels across after EXIF rotation, of the original (not of a reduced decode); 0 when unknown.
        height: Pixels down, likewise.
        format: Pillow's name ("JPEG", "PNG"); "ARRAY" for pixels that came as an array; "" when unknown.
    """

    image: Image.Image | None
    status: Status
    reason: str = ""
    width: int = 0
    height: int = 0
    format: str = ""


def read_file(path: str | os.PathLike[str]) -> bytes | Decoded:
    """The bytes of a file, or a `Decoded` with status "vanished" or "unreadable". Never raises for a bad file."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # opening a pipe would wait for its writer for ever
            what = "a folder" if stat.S_ISDIR(kind) else "not a regular file"
            return Decoded(None, "unreadable", f"this is {what}")
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        broken_link = os.path.islink(path)
        return Decoded(None, "vanished", "the link points to a missing file" if broken_link else "the file is gone")
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        return Decoded(None, "unreadable", f"the file cannot be read: {getattr(error, 'strerror', None) or error}")


class _Bad(Exception):
    """Why a picture cannot be had; turned into a `Decoded` by `decode`."""

    def __init__(self, status: Status, reason: str, format: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.format = status, reason, format


def decode(
    data: bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    salvage_truncated: bool = False,
    at_least_px: int | None = None,
) -> Decoded:
    """Decode one encoded image. Never raises for bad data; safe to call from many threads.

    Args:
        data: The whole file.
        max_pixels: Images with more pixels are refused by their header, before memory is taken for them. (Beyond
            the default, Pillow still refuses GIF and WebP above the default.)
        salvage_truncated: Of a file that ends early, return what can be decoded, the rest being a flat colour, with
            status "ok" and a reason that says so. Formats whose decoders give nothing of an incomplete file (WebP,
            AVIF, compressed TIFF) stay "truncated".
        at_least_px: Allow JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, much faster, as long as the shorter
            side keeps this many pixels. `width` and `height` still tell the original size.
    """
    if not data:
        return Decoded(None, "empty", "the file is empty")
    found = Decoded(None, "ok")
    try:
        opened = _open(data)
        size = opened.size
        found = _found(opened, size)
        _check_pixels(size, max_pixels)
        _allow_smaller(opened, at_least_px)
        reduced = opened.size != size
        loaded, note = _load(data, opened, salvage_truncated, at_least_px)
        if not reduced:  # an ICO or ICNS may hold a larger picture than it announces
            size = loaded.size
            _check_pixels(size, max_pixels)
        found = _found(loaded, size)  # again: a PNG may carry its EXIF block behind the pixels
        image = _to_rgb_or_bad(loaded)
        turn = _TRANSPOSE.get(_orientation(loaded))
        return replace(found, image=image if turn is None else image.transpose(turn), reason=note)
    except _Bad as bad:
        return replace(found, status=bad.status, reason=bad.reason, format=found.format or bad.format)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB: alpha over white, deep pixels scaled by range (see the module's head).

    EXIF orientation is not applied: it belongs to files, not to pictures in memory.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_grey_by_range(image)).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=alpha)
    return white


def _grey_by_range(image: Image.Image) -> np.ndarray:
    """Grey pixels deeper than 8 bits as uint8 (h, w)."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # only a TIFF has them
    if image.mode in ("I", "F") and image.format != "PPM":
        grey = _stretch(values)
    else:
        grey = _scale_to_uint8(values, white=4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero: Pillow turns this around for 8 bits only
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def _scale_to_uint8(values: np.ndarray, white: int) -> np.ndarray:
    """Integers 0..white to 0..255, rounded to nearest: 65535 is divided by 257 exactly."""
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _stretch(values: np.ndarray) -> np.ndarray:
    """Smallest finite value to 0, largest to 255; what is not a number becomes 0; a flat image becomes 0."""
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = wide[finite].min(), wide[finite].max()
    scaled = (np.where(finite, wide, low) - low) * (255 / (high - low) if high > low else 0)
    return np.rint(scaled).astype(np.uint8)


def _open(data: bytes) -> ImageFile:
    """Read the header: `Image.open` with our list of formats, without its global pixel limit, warnings and locks."""
    failed: _Bad | None = None
    for name in _PLUGINS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is not True:
            continue
        stream = BytesIO(data)
        try:
            return factory(stream, "")
        except Image.DecompressionBombError as error:
            raise _Bad("too_large", _message(error), name) from error
        except Exception as error:  # plugins raise anything, and here the header is at fault
            if name in _WEAK_SIGNATURE:
                continue
            read_to_the_end = name not in _READ_WHOLE and stream.tell() >= len(data)
            if _says_truncated(error) or read_to_the_end or _ends_early(data, name):
                failed = _Bad("truncated", f"the {name} data ends early", name)
            else:
                failed = _Bad("unreadable", f"broken {name} header: {_message(error)}", name)
    if failed is not None:
        raise failed
    for name, test in _UNSUPPORTED.items():
        if test(data[:512]):
            raise _Bad("unreadable", f"{name} is not supported; convert it to PNG or JPEG", name)
    raise _Bad("not_an_image", "the content is no known image format")


def _load(data: bytes, opened: ImageFile, salvage: bool, at_least_px: int | None) -> tuple[Image.Image, str]:
    """Decode the pixels of an opened image: the image, and a note when it was salvaged."""
    name = opened.format or ""
    try:
        opened.load()
        return opened, ""
    except Image.DecompressionBombError as error:  # a picture inside an ICO or ICNS
        raise _Bad("too_large", _message(error)) from error
    except Exception as error:  # malformed data raises almost anything inside Pillow's plugins
        if not _says_truncated(error) and not _ends_early(data, name, opened):
            raise _Bad("unreadable", f"broken {name} data: {_message(error)}") from error
        if not salvage:
            raise _Bad("truncated", f"the {name} data ends early") from error
    try:
        salvaged = _salvage(data, opened, at_least_px)
        if _is_flat(to_rgb(salvaged)):
            raise ValueError("blank")
    except Exception as error:
        raise _Bad("truncated", f"the {name} data ends early, and nothing of the picture could be salvaged") from error
    return salvaged, f"truncated: the {name} data ends early, the missing part is blank"


def _salvage(data: bytes, opened: ImageFile, at_least_px: int | None) -> Image.Image:
    """What was decoded before the data ended, without Pillow's process-wide LOAD_TRUNCATED_IMAGES.

    A JPEG gets the end marker that it lacks, for a progressive one shows nothing before its end. Other decoders write
    row by row into the image, and have left there what they had.
    """
    if opened.format in ("JPEG", "MPO"):
        again = _open(data + b"\xff\xd9")
        _allow_smaller(again, at_least_px)
        again.load()
        return again
    opened.tile = []  # nothing left to load: the pixels are final
    opened.load()
    return opened


def _is_flat(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[0, 0]).all())


def _to_rgb_or_bad(loaded: Image.Image) -> Image.Image:
    try:
        return to_rgb(loaded)
    except Exception as error:  # a bad palette only shows when the pixels are used
        raise _Bad("unreadable", f"broken {loaded.format} data: {_message(error)}") from error


def _allow_smaller(opened: ImageFile, at_least_px: int | None) -> None:
    if at_least_px is not None and opened.format in ("JPEG", "MPO"):
        opened.draft(opened.mode, (at_least_px, at_least_px))


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _Bad("too_large", f"{width} x {height} pixels are more than the limit of {max_pixels}")


def _found(opened: Image.Image, size: tuple[int, int]) -> Decoded:
    """Format and upright size, with the picture still to come."""
    width, height = size if _orientation(opened) < 5 else size[::-1]
    return Decoded(None, "ok", "", width, height, opened.format or "")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8. 1 for a TIFF, which Pillow turns upright itself."""
    if image.format == "TIFF":
        return 1
    if image.format == "PNG" and getattr(image, "tile", None) and "exif" not in image.info:
        return 1  # not loaded yet, and asking for the EXIF block would load it
    try:
        return int(image.getexif().get(ExifTag.Orientation, 1))
    except Exception:  # a damaged EXIF block says nothing about the picture
        return 1


def _says_truncated(error: Exception) -> bool:
    text = str(error).lower()  # "cannot load": the header ended without announcing any pixels
    words = ("truncated", "not enough image data", "incomplete header", "cannot load this image")
    return any(word in text for word in words)


def _ends_early(data: bytes, name: str, opened: ImageFile | None = None) -> bool:
    """Whether a container announces more bytes than there are, for formats whose decoders do not tell."""
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name in ("AVIF", "JPEG2000") and data[:4] != b"\xff\x4f\xff\x51":  # boxes; not a bare JPEG 2000 codestream
        return _boxes_end_early(data)
    if name == "JPEG2000":
        return not data.endswith(b"\xff\xd9")
    if name == "TIFF" and opened is not None:
        tags = getattr(opened, "tag_v2", {})
        starts = tags.get(_STRIP_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
        counts = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
        return any(start + count > len(data) for start, count in zip(starts, counts, strict=False))
    return False


def _boxes_end_early(data: bytes) -> bool:
    """Walk the top-level boxes (ISO/IEC 14496-12, section 4.2): 4 bytes of length, 4 of type."""
    at, kinds = 0, set()
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kinds.add(data[at + 4 : at + 8])
        if length == 1:  # the true length follows as 8 bytes
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length < 8:  # 0: up to the end of the file; others: nonsense, not a cut
            return False
        at += length
    return at != len(data) or not kinds & {b"jp2c", b"mdat"}  # the boxes of the pixels


def _message(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def from_array(array: Any) -> Image.Image:
    """Pixels in an array as an RGB image.

    Args:
        array: (h, w), (h, w, 1), (h, w, 3), or (h, w, 4) whose alpha is composited over white; or channels first,
            (1 | 3 | 4, h, w), as torch has it, unless the last side also is 1, 3 or 4. NumPy array or tensor of
            uint8, uint16 (65535 is white), bool, or floats in [0, 1].

    Raises:
        InputError: the shape, type or range is another.
    """
    if hasattr(array, "detach"):  # a tensor, without importing torch to ask
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()  # NumPy has no bfloat16
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4)) or pixels.size == 0:
        raise InputError(f"an image array must be (h, w) or (h, w, 1 | 3 | 4), got shape {np.shape(array)}")
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(_as_uint8(pixels)))
    return to_rgb(image)


def _as_uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return _scale_to_uint8(pixels, 65535)
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise InputError(f"float pixels must lie in [0, 1], got {low:g} to {high:g}; rescale them first")
        return np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
    raise InputError(f"pixels must be uint8, uint16, bool or float in [0, 1], got {pixels.dtype}; convert them first")


def encode_png(image: Image.Image, compress_level: int = 3) -> bytes:
    """The image as PNG, lossless; `compress_level` is from 0 (fast) to 9 (small)."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def thumbnail(image: Image.Image, size_px: int = 96) -> bytes:
    """A WebP whose longer side is at most `size_px`; a smaller image keeps its size."""
    scale = size_px / max(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def square(image: Image.Image, size_px: int, fit: Fit = "crop", *, resample: Resample = "bicubic") -> np.ndarray:
    """Antialiased square copy of an RGB image, uint8 (size_px, size_px, 3).

    Args:
        image: RGB picture of any shape.
        size_px: Side of the result; smaller images are enlarged.
        fit: "crop" keeps the middle square, to half a pixel; "pad" keeps everything and fills with white, as
            transparency is; "squash" keeps everything and changes the proportions.
        resample: Pillow's filter, by its name.

    Raises:
        InputError: `fit` or `resample` is another word.
    """
    width, height = image.size
    side = (size_px, size_px)
    if resample not in get_args(Resample):
        raise InputError(f"resample must be one of {', '.join(get_args(Resample))}, got '{resample}'")
    resize = partial(image.resize, resample=Image.Resampling[resample.upper()], reducing_gap=3.0)
    if fit == "crop":
        # The middle on the pixel grid of the whole image resized, short side to size_px: what resizing everything and
        # then cutting, as networks are evaluated, gives up to its rim, without the work on what is cut away.
        short = min(width, height)
        across, down = (length * size_px // short for length in (width, height))
        left, top = (across - size_px) // 2, (down - size_px) // 2
        x, y = width / across, height / down
        return np.array(resize(side, box=(left * x, top * y, (left + size_px) * x, (top + size_px) * y)))
    if fit == "squash":
        return np.array(resize(side))
    if fit == "pad":
        scale = size_px / max(width, height)
        inside = (max(1, round(width * scale)), max(1, round(height * scale)))
        out = np.full((size_px, size_px, 3), 255, np.uint8)
        left, top = (size_px - inside[0]) // 2, (size_px - inside[1]) // 2
        out[top : top + inside[1], left : left + inside[0]] = np.asarray(resize(inside))
        return out
    raise InputError(f"fit must be 'crop', 'pad' or 'squash', got '{fit}'")
