"""A folder of broken and unusual image files, and what each of them must come to."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw

RED = (200, 30, 60)


def write_broken_files(folder: Path) -> dict[str, str]:
    """Write every kind of trouble into `folder`: {path below the folder, "/" between names: expected status}.

    Decoding goes with the default pixel limit and without salvaging. Every picture that is "ok" can be told by
    its content, see `PICTURES` in tests/images.
    """
    files: dict[str, tuple[bytes, str]] = {}
    for group in (_sound, _unusual_pixels, _cut_short, _broken):
        for name, entry in group().items():
            assert name not in files
            files[name] = entry
    long_folders = "/".join(["a_folder_with_a_rather_long_name_" + "x" * 60] * 4)
    for name in ("cafe\N{COMBINING ACUTE ACCENT} \N{SNOWMAN} 雪.png", "two\nlines.png", f"{long_folders}/deep.png"):
        files[name] = png(), "ok"
    files[os.fsdecode(b"latin1_caf\xe9.png")] = png(), "ok"
    files["hash#row=3.png"] = png(), "ok"
    for name, (data, _) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    expected = {name: status for name, (_, status) in files.items()}
    (folder / "link_to_nothing.jpg").symlink_to("moved_away.jpg")
    expected["link_to_nothing.jpg"] = "vanished"
    os.mkfifo(folder / "pipe.png")
    expected["pipe.png"] = "unreadable"
    return expected


def picture(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Left half red, right half a gradient with fine structure, so that no two rows and columns are alike."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 5 % 256, y * 7 % 256, (x * y) % 256], axis=2).astype(np.uint8)
    pixels[:, : width // 2] = RED
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(image: Image.Image | None = None, **options: object) -> bytes:
    return encoded(image or picture(), "PNG", **options)


def noise(size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture that does not compress, so that a cut falls into the pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(
    pixels: bytes, size: tuple[int, int], bits: int, *, white_is_zero: bool = False, deflate: bool = False
) -> bytes:
    """A grey TIFF of one strip, written out: header, one directory, then the pixels (big-endian 12 bits packed)."""
    data = zlib.compress(pixels) if deflate else pixels
    tags = {256: size[0], 257: size[1], 258: bits, 259: 8 if deflate else 1, 262: 0 if white_is_zero else 1}
    begin = 8 + 2 + 12 * 9 + 4
    tags |= {273: begin, 277: 1, 278: size[1], 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def png_bomb(width: int, height: int) -> bytes:
    """The header of a PNG of any size, with a few bytes of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 99)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def with_orientation(orientation: int, format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(), format, exif=exif)


def cmyk_jpeg() -> bytes:
    """As Photoshop writes it: Pillow too writes an Adobe marker and inverted inks."""
    return encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", quality=95)  # pure magenta and yellow: red


def animation(format: str) -> bytes:
    frames = [Image.new("RGB", (20, 10), color) for color in (RED, "blue", "green")]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, lossless=True)


def palette_with_transparency() -> Image.Image:
    """Colour 0 is black and transparent, colour 1 red: a transparent left half, a red right half."""
    image = Image.new("P", (20, 10), 0)
    image.putpalette([0, 0, 0, *RED])
    image.paste(1, (10, 0, 20, 10))
    return image


def half_transparent() -> Image.Image:
    """Black with alpha 0, 51, 255 in three stripes: over white that is 255, 204, 0."""
    image = Image.new("RGBA", (30, 10), (0, 0, 0, 0))
    image.paste((0, 0, 0, 51), (10, 0, 20, 10))
    image.paste((0, 0, 0, 255), (20, 0, 30, 10))
    return image


def grey16(top: int = 65535) -> Image.Image:
    """A 16-bit ramp 0 … top, 256 pixels wide."""
    ramp = np.linspace(0, top, 256).round().astype(np.uint16)
    return Image.fromarray(np.tile(ramp, (4, 1)))


def lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(Image.new("RGB", (20, 10), RED), *profiles, outputMode="LAB")
    assert converted is not None
    converted.info.clear()
    return converted


def one_bit() -> Image.Image:
    image = Image.new("1", (20, 10), 0)
    ImageDraw.Draw(image).rectangle((10, 0, 19, 9), fill=1)
    return image


def _sound() -> dict[str, tuple[bytes, str]]:
    formats = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "avif": "AVIF"}
    formats |= {"jp2": "JPEG2000", "ppm": "PPM", "tga": "TGA", "ico": "ICO", "qoi": "QOI"}
    plain = {f"plain.{suffix}": (encoded(picture(), format), "ok") for suffix, format in formats.items()}
    return plain | {
        "progressive.jpg": (encoded(picture(), "JPEG", progressive=True), "ok"),
        "UPPER.JPG": (encoded(picture(), "JPEG"), "ok"),
        "really_a_png.jpg": (png(), "ok"),
        "trailing_garbage.png": (png() + b"\0" * 100, "ok"),
        "one_pixel.png": (png(Image.new("RGB", (1, 1), RED)), "ok"),
        "very_wide.png": (png(Image.new("RGB", (5000, 1), RED)), "ok"),
        "rotated.jpg": (with_orientation(6), "ok"),
        "rotated.png": (with_orientation(8, "PNG"), "ok"),
        "rotated.tif": (with_orientation(6, "TIFF"), "ok"),
        "damaged_exif.jpg": (encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*garbage"), "ok"),
    }


def _unusual_pixels() -> dict[str, tuple[bytes, str]]:
    transparent = palette_with_transparency()
    return {
        "cmyk.jpg": (cmyk_jpeg(), "ok"),
        "cmyk.tif": (encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "TIFF"), "ok"),
        "lab.tif": (encoded(lab(), "TIFF"), "ok"),
        "grey.jpg": (encoded(picture().convert("L"), "JPEG"), "ok"),
        "grey16.png": (png(grey16()), "ok"),
        "grey16.tif": (encoded(grey16(), "TIFF"), "ok"),
        "grey16.pgm": (encoded(grey16().convert("I"), "PPM"), "ok"),
        "float.tif": (encoded(Image.fromarray(np.linspace(-3, 9, 256, dtype=np.float32)[None]), "TIFF"), "ok"),
        "int32.tif": (encoded(Image.fromarray(np.arange(256, dtype=np.int32)[None] * 1000 - 77), "TIFF"), "ok"),
        "palette.png": (png(picture().quantize(16)), "ok"),
        "palette.gif": (encoded(picture(), "GIF"), "ok"),
        "palette_transparent.png": (png(transparent, transparency=0), "ok"),
        "palette_alpha.png": (png(transparent, transparency=b"\0\xff"), "ok"),
        "palette_transparent.gif": (encoded(transparent, "GIF", transparency=0), "ok"),
        "alpha.png": (png(half_transparent()), "ok"),
        "alpha.webp": (encoded(half_transparent(), "WEBP", lossless=True, exact=True), "ok"),
        "grey_alpha.png": (png(half_transparent().convert("LA")), "ok"),
        "rgb_transparent_colour.png": (png(Image.new("RGB", (9, 9), RED), transparency=RED), "ok"),
        "one_bit.png": (png(one_bit()), "ok"),
        "one_bit.tif": (encoded(one_bit(), "TIFF", compression="group4"), "ok"),
        "animated.gif": (animation("GIF"), "ok"),
        "animated.png": (animation("PNG"), "ok"),
        "animated.webp": (animation("WEBP"), "ok"),
    }


def _cut_short() -> dict[str, tuple[bytes, str]]:
    def half(data: bytes) -> bytes:
        return data[: len(data) // 2]

    jp2 = encoded(noise(), "JPEG2000")
    formats = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}
    formats |= {"avif": "AVIF", "jp2": "JPEG2000", "ppm": "PPM"}
    cut = {f"cut.{suffix}": (half(encoded(noise(), format)), "truncated") for suffix, format in formats.items()}
    return cut | {
        "cut_progressive.jpg": (half(encoded(noise(), "JPEG", progressive=True)), "truncated"),
        "cut_lzw.tif": (half(encoded(noise(), "TIFF", compression="tiff_lzw")), "truncated"),
        "cut_behind_directory.tif": (tiff(noise().tobytes()[:9216], (96, 96), 8, deflate=True)[:-2000], "truncated"),
        "cut_before_pixels.jp2": (jp2[: jp2.index(b"jp2c") - 4], "truncated"),
        "cut_in_header.jpg": (encoded(picture(), "JPEG")[:100], "truncated"),
        "cut_in_header.png": (png()[:20], "truncated"),
        "only_signature.jpg": (b"\xff\xd8\xff", "truncated"),
    }


def _broken() -> dict[str, tuple[bytes, str]]:
    flipped = bytearray(png(noise()))
    flipped[2000:2100] = bytes(100)  # inside the compressed pixels
    damaged = encoded(picture(), "WEBP").replace(b"\x9d\x01\x2a", bytes(3), 1)  # the start code
    scrambled = bytearray(encoded(noise(), "WEBP", lossless=True))
    scrambled[25:525] = bytes(range(100)) * 5  # the code tables of the pixels
    return {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"This is not an image, it is a letter to the editor.\n" * 20, "not_an_image"),
        "beginning_like_a_bitmap.bmp": (b"BMW cars are not bitmaps. " * 20, "not_an_image"),
        "beginning_like_a_pgm.pgm": (b"P5ychology of images\n" * 20, "not_an_image"),
        "web_page.png": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_an_image"),
        "random.gif": (np.random.default_rng(1).bytes(4096), "not_an_image"),
        "zeros.tif": (bytes(4096), "not_an_image"),
        "one_byte.png": (b"\x89", "not_an_image"),
        "bomb.png": (png_bomb(60_000, 60_000), "too_large"),
        "bomb.bmp": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 90, 0, 0, 54, 40, 65_000, 65_000, 1, 24, 0, 0, 0, 0, 0, 0)
                     + bytes(36), "too_large"),
        "flipped_bytes.png": (bytes(flipped), "unreadable"),
        "scrambled.webp": (bytes(scrambled), "unreadable"),
        "damaged_header.webp": (damaged, "unreadable"),
        "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "unreadable"),
        "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unreadable"),
        "no_size.png": (png_bomb(0, 0), "unreadable"),
    }  # fmt: skip
