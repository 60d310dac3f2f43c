"""How an image file becomes RGB pixels, and which files of a folder are images.

Axes: C = 3 channels RGB, H W pixels.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile
from rasterio.enums import ColorInterp

from distill.data.checks import existing_folder
from distill.data.levels import apply_palette, stretch
from distill.data.packed import PackedFile, Source
from distill.data.rasters import BrokenImage as BrokenImage
from distill.data.rasters import Stored, choose_bands, read_raster, turn_upright
from distill.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".bmp", ".img", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LEFTOVERS = ("__macosx", "desktop.ini", "readme.txt", "thumbs.db")

# What Pillow reads, whatever the suffix says, as long as it has 8 bits; GDAL reads everything else.
_PLAIN_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_MEANINGS = {
    "L": (ColorInterp.gray,),
    "LA": (ColorInterp.gray, ColorInterp.alpha),
    "RGB": (ColorInterp.red, ColorInterp.green, ColorInterp.blue),
    "RGBA": (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha),
}


@dataclass(frozen=True)
class Decoded:
    """An image, and notes for a reader of many.

    Args:
        pixels: uint8 RGB (3, H, W).
        turned: Whether its EXIF orientation was applied.
        left_out: What of its bands is shown, as part of a sentence; empty if all are, or the user chose.
        without_data: Whether not a single pixel is data.
    """

    pixels: "Tensor"
    turned: bool
    left_out: str
    without_data: bool


def decode_image(path: str | Source, bands: Sequence[int] | None = None) -> Decoded:
    """Decodes an image file as `read_image` does, with notes about the image."""
    import torch  # here, because the rest of the file serves exported models, which run without it

    stored = read_stored(path if isinstance(path, PackedFile) else Path(path), bands)
    values = apply_palette(stored.values, stored.palette)
    levels = values if values.dtype == np.uint8 else stretch(values, stored.valid)
    if len(levels) == 1:
        levels = np.repeat(levels, 3, axis=0)
    without_data = stored.valid is not None and not stored.valid.any()
    pixels = torch.from_numpy(np.ascontiguousarray(levels))
    return Decoded(pixels, stored.turned, stored.left_out, without_data)


def read_image(path: str | Path, bands: Sequence[int] | None = None) -> "Tensor":
    """Decodes an image file, the first page or frame of several.

    Pixels of 8 bits (uint8) stay as they are stored; a transparency is dropped, a palette applied. Those of every other
    type are stretched linearly from their own 1st to 99th percentile, all channels by the same, so that hues stay; what
    is nodata, masked, transparent or not finite counts for nothing in it and becomes black. The EXIF orientation is
    applied, as labelling tools do. A single band is repeated.

    Args:
        path: The file.
        bands: Numbers, from 1, of one to three bands of the file; by default see `choose_bands`.

    Returns:
        uint8 RGB of shape (3, H, W).

    Raises:
        BrokenImage: The file is missing, empty, truncated, too large to be a single image, not an image, has complex
            values, or lacks one of `bands`.
    """
    return decode_image(path, bands).pixels


def read_label(path: str | Path) -> NDArray[np.bool_]:
    """Decodes a raster that marks one class: 1-bit, 0/1 or 0/255, grey or colour; a transparency is dropped.

    Returns:
        True where the class is, of shape (H, W).

    Raises:
        BrokenImage: As `read_image`; or it has other values, whose meaning would be a guess.
    """
    stored = read_stored(Path(path))
    raster = apply_palette(stored.values, stored.palette)
    values = np.unique(raster).tolist()
    if not (set(values) <= {0, 1} or set(values) <= {0, 255}):
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        raise BrokenImage(
            f"label {str(path)!r} has the values {shown}; a label is 0 and 1, or 0 and 255, and saved without loss "
            "(no JPEG)"
        )
    marked: NDArray[np.bool_] = (raster != 0).any(axis=0)
    return marked


def read_mask(path: str | Path, colours: bool) -> NDArray[Any]:
    """Decodes a raster whose values or colours stand for classes. Nodata is a value as any other.

    Args:
        path: The file.
        colours: Whether classes are colours; a palette is applied then, and its indices are the values otherwise.

    Returns:
        Whole numbers (H, W), of a signed or an unsigned type; a colour is the number 0xRRGGBB.

    Raises:
        BrokenImage: As `read_image`.
        UserError: Colours in a raster that should hold indices, or the reverse; indices that are no whole numbers.
    """
    stored = read_stored(Path(path))
    values = stored.values
    if colours and (stored.palette is not None or (len(values) == 3 and values.dtype == np.uint8)):
        red, green, blue = apply_palette(values, stored.palette).astype(np.uint32)
        codes: NDArray[np.uint32] = red << 16 | green << 8 | blue
        return codes
    if not colours and len(values) == 1:
        return _whole(path, values[0])
    kind = f"{len(values)} band{'s' * (len(values) > 1)} of {values.dtype}"
    shown = "a grey or single-band image" if len(values) == 1 else "a colour image"
    wanted, given = ("one index", "colours") if colours else ("a colour [red, green, blue]", "indices")
    raise UserError(
        f"mask {str(path)!r} is {shown} ({kind}), but data.classes lists {given}; give "
        f"{wanted} for each class, or the masks that these classes belong to"
    )


def _whole(path: str | Path, values: NDArray[Any]) -> NDArray[Any]:
    """The values of a mask as integers, which some tools store as floats."""
    if values.dtype == np.uint64:
        values = values.astype(np.float64)
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):
        broken = ~((values == np.rint(values)) & (np.abs(values) < 2.0**53))
    if broken.any():
        row, column = np.argwhere(broken)[0].tolist()
        raise UserError(
            f"mask {str(path)!r} has the value {values[row, column]:g} at pixel x={column} y={row} "
            f"({int(broken.sum())} such pixels); a class is a whole number: save the mask with one instead, for "
            "example 255, and list it in data.ignore"
        )
    return values.astype(np.int64)


def size_fault(what: str, size: Sequence[int], other: str, expected: Sequence[int], turned: bool = False) -> str | None:
    """The message for two sizes that should be equal and differ; None if they are equal.

    Args:
        what: The one, for example "image 'a.png'".
        size: Its height and width.
        other: Where the other size stands, for example "its mask is".
        expected: Height and width of the other.
        turned: Whether an EXIF orientation was applied to the first, which is said.
    """
    if tuple(size) == tuple(expected):
        return None
    upright = " once EXIF has turned it upright" if turned else ""
    return f"{what} is {size[1]}x{size[0]}{upright}, but {other} {expected[1]}x{expected[0]}"


def is_file(path: Path) -> bool:
    """Whether a file exists; False also for impossible names and broken links."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_leftover(name: str) -> bool:
    """Whether a file or folder of that name is ignored: of a system or an editor, or a readme."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def read_photo(path: Path) -> tuple[Image.Image | None, int]:
    """An image of 8 bits as Pillow has it, upright; None if GDAL is to read it, and the EXIF orientation to apply then.

    Raises:
        BrokenImage: It is missing, empty, truncated or damaged.
    """
    with _damage_in_one_line(path):
        try:
            with Image.open(path, formats=_PLAIN_FORMATS) as image:
                if not _is_deep(image):
                    return ImageOps.exif_transpose(image), 1
                return None, image.getexif().get(Base.Orientation, 1)
        except (UnidentifiedImageError, Image.DecompressionBombError):
            return None, 1


def photo_size(path: Path) -> tuple[int, int] | None:
    """Height and width that `read_photo` would find, without decoding; None if GDAL is to read the image."""
    with _damage_in_one_line(path):
        try:
            with Image.open(path, formats=_PLAIN_FORMATS) as image:
                turned = image.getexif().get(Base.Orientation, 1) >= 5
                size = image.size if turned else image.size[::-1]
                return None if _is_deep(image) else size
        except (UnidentifiedImageError, Image.DecompressionBombError):
            return None


def read_stored(path: Source, bands: Sequence[int] | None = None, key: str = "data.bands") -> Stored:
    """The stored values of an image file, upright; `key` is the name of `bands` in errors. See `read_image`."""
    with _damage_in_one_line(path):
        try:
            with Image.open(path.open("rb") if isinstance(path, PackedFile) else path, formats=_PLAIN_FORMATS) as image:
                if not _is_deep(image):
                    return _plain(path, image, bands, key)
                orientation = image.getexif().get(Base.Orientation, 1)
        except UnidentifiedImageError:
            orientation = 1
        return read_raster(path, bands, orientation, key)


@contextmanager
def _damage_in_one_line(path: Source) -> Iterator[None]:
    """Turns what Pillow's decoders raise into `BrokenImage`; they report damage with whatever their parser met first.

    Raises:
        BrokenImage: The file is empty, or the block failed.
    """
    try:
        if (path.size if isinstance(path, PackedFile) else path.stat().st_size) == 0:
            raise BrokenImage(f"image {str(path)!r} is an empty file")
        yield
    except FileNotFoundError as error:
        raise BrokenImage(f"image {str(path)!r} does not exist") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(
            f"image {str(path)!r} is too large to decode at once; cut it into tiles first, with `distill data tile`"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, TypeError, KeyError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrokenImage(f"image {str(path)!r} is damaged ({reason})") from error


def _is_deep(image: ImageFile) -> bool:
    """Whether colours have 16 bits each, of which Pillow reads the upper eight; asked before it loads the image."""
    stored = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args]
    deep = any(";16" in str(mode) and mode != "BGR;16" for mode in stored)  # those are 16 bits for all three
    return deep or image.mode.startswith("I")


def _plain(path: Source, image: ImageFile, bands: Sequence[int] | None, key: str) -> Stored:
    """An image of 8 bits, as Pillow reads it."""
    palette = None
    if image.mode == "1":
        palette = np.array([[0] * 3, [255] * 3], np.uint8)
        values = np.asarray(image).astype(np.uint8)[:, :, None]
    elif image.mode == "P" and bands is None:
        values = np.asarray(image)[:, :, None]
        palette = np.zeros((256, 3), np.uint8)
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette[: len(colours)] = colours
    else:
        values = np.asarray(image if image.mode in _MEANINGS else image.convert("RGB"))
        values = values.reshape(*values.shape[:2], -1)
    meanings = (ColorInterp.palette,) if palette is not None else list(_MEANINGS.values())[values.shape[2] - 1]
    shown, _ = choose_bands(path, meanings, bands, key)
    orientation = image.getexif().get(Base.Orientation, 1)
    chosen = np.moveaxis(values[:, :, [band - 1 for band in shown]], 2, 0)
    return Stored(turn_upright(chosen, orientation), palette, turned=orientation in range(2, 9))


def find_images(root: str | Path, key: str = "root") -> list[Path]:
    """Every image below `root`, nested folders included, sorted by relative path; hidden ones are left out.

    Args:
        root: The folder.
        key: The recipe key that an error names.

    Raises:
        UserError: `root` is missing or holds no image.
    """
    folder = existing_folder(key, str(root))
    names = image_names(folder)
    if not names:
        raise UserError(
            f"{key} {str(root)!r} holds no images; files must end in {', '.join(SUFFIXES)} and may lie in subfolders"
        )
    return [folder / name for name in names]


def image_names(folder: Path) -> list[str]:
    """The paths of all images below a folder, relative to it and with slashes, sorted; hidden ones are left out.

    Links are followed, but each folder is searched once, so that loops end; below its own name if it has one there.
    """
    found = []
    for parent, files in _files_below(folder):
        place = Path(parent).relative_to(folder).as_posix()
        prefix = "" if place == "." else f"{place}/"
        images = (name for name in files if name.lower().endswith(SUFFIXES) and not is_leftover(name))
        found += [f"{prefix}{name}" for name in images if is_file(Path(parent, name))]
    return sorted(found)


def _files_below(root: Path) -> Iterator[tuple[str, list[str]]]:
    """The folders below `root`, and what each holds beside folders."""
    tops, seen = [root], set()
    while tops:
        for parent, folders, names in os.walk(tops.pop(0)):
            place = os.path.realpath(parent)
            kept = [] if place in seen else sorted(name for name in folders if not is_leftover(name))
            if place not in seen:
                yield parent, names
            seen.add(place)
            folders[:] = kept
            tops += [path for name in kept if (path := Path(parent, name)).is_symlink()]  # which `walk` leaves out
