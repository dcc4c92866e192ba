"""Pictures and label maps from files, as a person who looks at them expects.

Pillow decodes. It is entered through its decoders and not through ``Image.open``, for two reasons: only the formats of
photographs are tried (no PostScript, no metafiles), and the limit on pixels is the caller's instead of a global.
"""

from __future__ import annotations

import struct
import tokenize
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from delineate.checks import require
from delineate.data.quiet_pillow import quiet_pillow
from delineate.errors import DataError

MAX_PIXELS = 100_000_000
JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))
IMAGE_SUFFIXES = JPEG_SUFFIXES | frozenset((".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".avif", ".npy"))
IMAGE_SUFFIXES |= frozenset((".ppm", ".pgm", ".pbm", ".pnm"))
ORIENTATION_TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width

_PLUGINS = (
    PngImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    PpmImagePlugin,
    Jpeg2KImagePlugin,
    AvifImagePlugin,
    MpoImagePlugin,  # a JPEG with several frames; the JPEG decoder hands over to it
)
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
# what decoders raise on damaged files; each is answered with the file's name
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError)
_DAMAGED = (*_DAMAGE, struct.error, zlib.error, tokenize.TokenError, SyntaxError, Image.DecompressionBombError)


def read_image(path: str | Path, *, channels: int = 3, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """The picture in a file, ``(H, W, channels)`` uint8, upright.

    EXIF orientation is applied; palettes, CMYK and other colour spaces become RGB; transparent parts lie on white, as
    on a page; of an animation the first frame counts. Grey data of 16 bits is scaled by the range it uses: a file whose
    brightest value fits into 8, 12 or 16 bits is read as that many bits (cameras store 12 bits in 16). Floating-point
    data counts as 0..1 or 0..255 where it fits, else its own range is stretched. A ``.npy`` file holds ``(H, W)`` or
    ``(H, W, C)`` values under the same rules, and is the way in for more than four channels.

    Args:
        path: the file.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity); for ``.npy`` the number of channels it holds. One channel is
            repeated where three are asked for.
        max_pixels: the largest height times width that is decoded; None for no limit.

    Raises:
        DataError: naming the file, when it is missing, empty, no picture, cut off, damaged or too large.
        ArgumentError: on a number of channels that picture files do not have.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return _array_image(path, channels, max_pixels)
    require(channels in (1, 3, 4), "channels", "be 1, 3 or 4 for picture files", channels, "Other bands: .npy files.")
    with _opened(path, max_pixels, "image") as picture:
        orientation = _orientation(picture)
        pixels = _pixels(picture, channels, path)
    return np.ascontiguousarray(turned(pixels, orientation))


def image_from_pillow(picture: Image.Image, *, channels: int = 3) -> np.ndarray:
    """A picture that is already open, ``(H, W, channels)`` uint8, upright, by the rules of :func:`read_image`.

    Args:
        picture: any mode; a file that Pillow has opened but not yet read is read.
        channels: 1, 3 or 4.

    Raises:
        DataError: when the picture's file is damaged.
        ArgumentError: on another number of channels.

    Example:
        >>> image_from_pillow(Image.new("L", (3, 2), 7)).shape
        (2, 3, 3)
    """
    require(channels in (1, 3, 4), "channels", "be 1, 3 or 4 for a Pillow image", channels)
    name = Path(str(getattr(picture, "filename", "") or "a Pillow image"))
    with _damage_named(name, "image"), quiet_pillow():
        orientation = _orientation(picture)
        pixels = _pixels(picture, channels, name)
    return np.ascontiguousarray(turned(pixels, orientation))


def read_ids(
    path: str | Path, *, colours: Mapping[int, int] | None = None, max_pixels: int | None = MAX_PIXELS
) -> np.ndarray:
    """The ids in a label map, ``(H, W)`` of the integer type the file has; palette indices are kept.

    Args:
        path: a picture with one value a pixel (8 or 16 bits, palette, 1 bit), a colour picture, or an integer ``.npy``.
        colours: the id of each colour ``red << 16 | green << 8 | blue``; needed for colour pictures. A colour that is
            not among them becomes ``-2 - (red << 16 | green << 8 | blue)``.
        max_pixels: as for :func:`read_image`.

    Raises:
        DataError: naming the file, as for :func:`read_image`; on a colour picture without ``colours`` (unless it is
            grey); on values that are not whole numbers.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        ids = np.array(_array(path, max_pixels, "mask"))
        if ids.ndim != 2:
            raise DataError(f"mask must be one value a pixel; got shape {ids.shape} in {path}.")
        return _whole(ids, path)
    with _opened(path, max_pixels, "mask") as picture:
        orientation = _orientation(picture)
        if picture.mode in ("1", "L", "P", "F") or picture.mode.startswith("I"):
            ids = _whole(np.array(picture), path)
        elif picture.mode in ("LA", "PA"):
            ids = np.array(picture)[..., 0]
        else:
            ids = _colour_ids(np.array(picture.convert("RGB")), colours, path)
    return np.ascontiguousarray(turned(ids, orientation))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header alone.

    Raises:
        DataError: naming the file, when it is missing or no picture.
    """
    return image_header(path)[0]


def image_header(path: str | Path) -> tuple[tuple[int, int], int]:
    """(height, width) of the upright picture, and the EXIF orientation (1 to 8) that was needed for it."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        shape = _array(path, None, "image").shape
        return (shape[0], shape[1]), 1
    with _opened(path, None, "image") as picture:
        orientation = _orientation(picture)
        width, height = picture.size
    return ((width, height) if orientation in SIDEWAYS else (height, width)), orientation


def mask_palette(path: str | Path) -> tuple[tuple[int, int, int], ...] | None:
    """The RGB palette of a palette picture, from its header; None for any other file."""
    if Path(path).suffix.lower() == ".npy":
        return None
    with _opened(Path(path), None, "mask") as picture:
        values = (picture.getpalette("RGB") or []) if picture.mode == "P" else []
    return tuple((values[i], values[i + 1], values[i + 2]) for i in range(0, len(values) - 2, 3)) or None


def is_colour_mask(path: str | Path) -> bool:
    """Whether a mask file stores a colour a pixel rather than one value, from its header."""
    if Path(path).suffix.lower() == ".npy":
        return False
    with _opened(Path(path), None, "mask") as picture:
        return picture.mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``(H, W, ...)`` pixels turned upright from an EXIF orientation; a view.

    Example:
        >>> turned(np.array([[1, 2], [3, 4]]), 6).tolist()
        [[3, 1], [4, 2]]
    """
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 6, 8):
        pixels = np.rot90(pixels, {3: 2, 6: -1, 8: 1}[orientation])
    if orientation == 2:
        pixels = pixels[:, ::-1]
    if orientation == 4:
        pixels = pixels[::-1]
    return pixels[::-1, ::-1] if orientation == 7 else pixels


@contextmanager
def _opened(path: Path, max_pixels: int | None, role: str) -> Iterator[ImageFile.ImageFile]:
    """The file's picture, not yet decoded; whatever a decoder raises inside becomes a DataError naming the file."""
    with _damage_named(path, role), path.open("rb") as file, quiet_pillow():
        decoder = _recognised(file.read(32), path, role)
        file.seek(0)
        picture = decoder(file, str(path))
        width, height = picture.size
        if max_pixels is not None and width * height > max_pixels:
            raise _too_large(path, height, width, max_pixels, role)
        yield picture


@contextmanager
def _damage_named(path: Path, role: str) -> Iterator[None]:
    """A block in which what the system or a decoder raises becomes a DataError naming the file."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{role} must exist; got {path}. Check the name and the folder.") from None
    except _DAMAGED as error:
        # a line of text from a decoder, or from the system: "Permission denied", "image file is truncated"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = "Replace the file, or take it out of the data set."
        raise DataError(f"{role} must be a whole, readable picture; got {path} ({reason}). {advice}") from error


def _recognised(start: bytes, path: Path, role: str) -> Callable[[IO[bytes], str], ImageFile.ImageFile]:
    """The decoder of the format that a file's first bytes announce."""
    if not start:
        raise DataError(f"{role} must be a picture; got {path}, which is empty (0 bytes). Replace or remove it.")
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        answer = accept(start) if accept is not None else False  # a text where Pillow was built without the format
        if answer and not isinstance(answer, str):
            return factory
        if answer:
            raise DataError(f"{role} must be in a format this Pillow decodes; got {path} ({name}). Convert it to PNG.")
    known = ", ".join(_FORMATS)
    raise DataError(f"{role} must be a picture ({known}) or .npy; got {path}, whose content is none of these.")


def _too_large(path: Path, height: int, width: int, max_pixels: int, role: str) -> DataError:
    advice = "If it is meant to be that large, predict it with --tile, or pass a larger max_pixels."
    return DataError(f"{role} must hold at most {max_pixels:,} pixels; got {height} x {width} in {path}. {advice}")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, read from the header alone; 1 where there is none, and for TIFF: Pillow turns it."""
    block = picture.info.get("exif")
    if not isinstance(block, bytes) or isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        orientation = exif.get(ORIENTATION_TAG, 1)
    except (*_DAMAGE, struct.error):  # a damaged EXIF block does not harm the picture
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _pixels(picture: Image.Image, channels: int, path: Path) -> np.ndarray:
    """The picture as ``(H, W, channels)`` uint8, not yet turned."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        return _with_channels(_as_bytes(np.array(picture), path)[..., None], channels)
    if channels == 4:
        return np.array(picture.convert("RGBA"))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        page = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(page, layer).convert("RGB")
    if channels == 1:
        return np.array(picture.convert("RGB").convert("L") if picture.mode == "P" else picture.convert("L"))[..., None]
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _as_bytes(values: np.ndarray, path: Path) -> np.ndarray:
    """Values of any real type as uint8: see :func:`read_image` for the rules."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise DataError(f"image must hold numbers; got {values.dtype} in {path}.")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"image must be finite; got NaN or infinity in {path}. Fill the gaps first.")
    low, full = float(low), float(high)
    if low >= 0 and values.dtype.kind == "f":
        low, full = 0.0, next((limit for limit in (1.0, 255.0) if full <= limit), full)
    elif low >= 0:
        low, full = 0.0, next((limit for limit in (255.0, 4095.0, 65535.0) if full <= limit), full)
    if values.dtype == np.uint16:  # a table instead of a float for every pixel
        return np.clip(np.arange(65536) * (255 / full) + 0.5, 0, 255).astype(np.uint8)[values]
    return ((values - low) * (255 / max(full - low, 1e-12)) + 0.5).astype(np.uint8)


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """One channel as 1, or repeated to 3, or to 4 with full opacity."""
    if channels == 1:
        return pixels
    colour = np.repeat(pixels, 3, axis=2)
    return colour if channels == 3 else np.concatenate([colour, np.full_like(pixels, 255)], axis=2)


def _whole(ids: np.ndarray, path: Path) -> np.ndarray:
    """``ids`` as integers of at most 32 bits, or an error."""
    if ids.dtype == np.bool_:
        return ids.astype(np.uint8)
    if ids.dtype.kind == "f":
        if not np.array_equal(ids, np.round(ids)):  # also false for NaN
            raise DataError(f"mask must hold whole numbers; got fractions in {path}.")
    elif ids.dtype.kind not in "iu":
        raise DataError(f"mask must hold whole numbers; got {ids.dtype} in {path}.")
    if ids.dtype.kind == "u" and ids.dtype.itemsize <= 2:
        return ids.astype(ids.dtype.newbyteorder("="), copy=False)
    limits = np.iinfo(np.int32)
    if ids.size and not (limits.min <= ids.min() and ids.max() <= limits.max):
        raise DataError(f"mask must hold ids of at most 32 bits; got {ids.min()} to {ids.max()} in {path}.")
    return ids.astype(np.int32)


def _colour_ids(pixels: np.ndarray, colours: Mapping[int, int] | None, path: Path) -> np.ndarray:
    """The id of each colour; grey pictures stored as RGB count as plain ids where no colours are known."""
    red = pixels[..., 0]
    if not colours:
        if np.array_equal(red, pixels[..., 1]) and np.array_equal(red, pixels[..., 2]):
            return red
        advice = "Name the colours in classes.txt, one class a line: sky 128 128 128."
        raise DataError(f"mask must hold class ids, or colours that are named; got a colour picture, {path}. {advice}")
    packed = red.astype(np.int32) << 16 | pixels[..., 1].astype(np.int32) << 8 | pixels[..., 2]
    present, places = np.unique(packed, return_inverse=True)
    ids = np.array([colours.get(int(colour), -2 - int(colour)) for colour in present], np.int32)
    return ids[places.reshape(packed.shape)]


def read_map(path: str | Path, *, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """One value a pixel, ``(H, W)``: a picture's grey levels (uint8), or the numbers of a ``.npy`` (uint8, float64).

    Raises:
        DataError: naming the file, when it cannot be read, has several values a pixel or one that is not finite.
    """
    path = Path(path)
    if path.suffix.lower() != ".npy":
        with _opened(path, max_pixels, "map") as picture:
            orientation = _orientation(picture)
            if picture.mode.startswith("I"):  # of 16 bits: not stretched, as a photo would be
                return np.ascontiguousarray(turned(np.array(picture).astype(np.uint16), orientation))
            if "A" in picture.mode or "transparency" in picture.info:  # a map has no page to lie on
                opaque = Image.fromarray(np.array(picture.convert("RGBA"))[..., :3])
                return np.ascontiguousarray(turned(np.array(opaque.convert("L")), orientation))
        return read_image(path, channels=1, max_pixels=max_pixels)[..., 0]
    values = np.array(_array(path, max_pixels, "map"))
    if values.ndim != 2 or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise DataError(f"map must be (H, W) finite numbers; got {values.dtype} {values.shape} in {path}.")
    return values if values.dtype == np.uint8 else values.astype(np.float64)


def _array(path: Path, max_pixels: int | None, role: str) -> np.ndarray:
    """The array of a ``.npy`` file, mapped and not yet read; never unpickled."""
    if not path.is_file():
        raise DataError(f"{role} must exist; got {path}. Check the name and the folder.")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        raise DataError(f"{role} must be a whole .npy array of numbers; got {path} ({error}).") from error
    if not isinstance(values, np.ndarray) or values.ndim not in (2, 3) or values.size == 0:
        raise DataError(f"{role} must be an array (H, W) or (H, W, C); got shape {np.shape(values)} in {path}.")
    if max_pixels is not None and values.shape[0] * values.shape[1] > max_pixels:
        raise _too_large(path, values.shape[0], values.shape[1], max_pixels, role)
    return values


def _array_image(path: Path, channels: int, max_pixels: int | None) -> np.ndarray:
    values = _array(path, max_pixels, "image")
    pixels = values[..., None] if values.ndim == 2 else values
    if pixels.shape[2] == 1 and channels in (3, 4):
        return _with_channels(np.array(_as_bytes(pixels, path)), channels)
    if pixels.shape[2] != channels:
        advice = f"Pass channels={pixels.shape[2]}."
        raise DataError(f"image must have {channels} channels; got {pixels.shape[2]} in {path}. {advice}")
    return np.array(_as_bytes(pixels, path), order="C")
