"""How an image file becomes RGB pixels, and which files of a folder are images.

Axes: C = 3 channels RGB, H W pixels.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from distill.data.checks import existing_folder
from distill.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LEFTOVERS = ("__macosx", "desktop.ini", "readme.txt", "thumbs.db")

# Radar and multispectral products use 10 to 13 of their 16 bits and hold a few extreme scatterers, so neither dividing
# by 65535 (nearly black) nor by the maximum (one corner reflector darkens the scene) shows the content.
_STRETCH_PERCENTILES = (1.0, 99.0)


class BrokenImage(UserError):
    """A file that should be an image and cannot be decoded; the message names the file and the reason."""


def read_image(path: str | Path) -> Tensor:
    """Decodes the first frame of an image file.

    Grey images are repeated to three channels and an alpha channel is dropped. Images of 16 bits and more are stretched
    linearly from their own 1st to 99th percentile, all channels by the same, so that hues stay. The EXIF orientation is
    ignored, because annotations refer to the stored pixels and rasters from above have no upright position.

    Returns:
        uint8 RGB of shape (3, H, W).

    Raises:
        BrokenImage: The file is missing, empty, truncated, too large to be a single image, not an image, or of 16 bits
            in a kind of colour that cannot be read without losing half of them.
    """
    return torch.from_numpy(_decoded(Path(path), _rgb)).permute(2, 0, 1).contiguous()


def read_label(path: str | Path) -> NDArray[np.bool_]:
    """Decodes a raster that marks one class: 1-bit, 0/1 or 0/255, grey or colour; alpha is dropped.

    Returns:
        True where the class is, of shape (H, W).

    Raises:
        BrokenImage: As `read_image`; or it has other values, whose meaning would be a guess.
    """

    def convert(image: Image.Image) -> NDArray[np.bool_]:
        if image.mode == "LA":
            image = image.convert("L")
        elif image.mode in ("P", "PA", "RGBA"):
            image = image.convert("RGB")
        raster = np.asarray(image)
        values = np.unique(raster).tolist()
        if not (set(values) <= {0, 1} or set(values) <= {0, 255}):
            shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
            raise BrokenImage(
                f"label {str(path)!r} has the values {shown}; a label is 0 and 1, or 0 and 255, and saved without loss "
                "(no JPEG)"
            )
        marked: NDArray[np.bool_] = raster != 0
        return marked if marked.ndim == 2 else np.logical_or.reduce(marked, axis=2)

    return _decoded(Path(path), convert)


def read_mask(path: str | Path, colours: bool) -> NDArray[np.uint32]:
    """Decodes a raster whose values or colours stand for classes.

    Args:
        path: The file.
        colours: Whether classes are colours; a palette is applied then, and its indices are the values otherwise.

    Returns:
        Values (H, W); a colour is the number 0xRRGGBB.

    Raises:
        BrokenImage: As `read_image`.
        UserError: Colours in a raster that should hold indices, or the reverse.
    """

    def convert(image: Image.Image) -> NDArray[np.uint32]:
        if colours and image.mode in ("P", "RGB", "RGBA"):
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.uint32), 2, 0)
            codes: NDArray[np.uint32] = red << 16 | green << 8 | blue
            return codes
        if not colours and (image.mode in ("1", "L", "P") or image.mode.startswith("I")):
            return np.asarray(image).astype(np.uint32)
        shown = "a grey or single-band image" if colours else "a colour image"
        wanted, given = ("one index", "colours") if colours else ("a colour [red, green, blue]", "indices")
        raise UserError(
            f"mask {str(path)!r} is {shown} (mode {image.mode}), but data.init_args.classes lists {given}; give "
            f"{wanted} for each class, or the masks that these classes belong to"
        )

    return _decoded(Path(path), convert)


def is_file(path: Path) -> bool:
    """Whether a file is there; False too for names that no file can have and for links that end nowhere."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_leftover(name: str) -> bool:
    """Whether a file or folder of that name belongs to a system or an editor, or explains the others: no data."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def _decoded(path: Path, convert: Callable[[ImageFile], NDArray[Any]]) -> NDArray[Any]:
    try:
        if path.stat().st_size == 0:
            raise BrokenImage(f"image {str(path)!r} is an empty file")
        with Image.open(path) as image:
            return convert(image)
    except FileNotFoundError as error:
        raise BrokenImage(f"image {str(path)!r} does not exist") from error
    except UnidentifiedImageError as error:
        raise BrokenImage(f"image {str(path)!r} is not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(f"image {str(path)!r} is too large to decode at once; cut it into tiles first") from error
    # Pillow's decoders report damage with whatever their parser met first.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, TypeError, KeyError, IndexError) as error:
        if isinstance(error, BrokenImage):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrokenImage(f"image {str(path)!r} is damaged ({reason})") from error


def find_images(root: str | Path, key: str = "root") -> list[Path]:
    """Every image below `root`, nested folders included, sorted by relative path; hidden ones are left out.

    Args:
        root: The folder.
        key: The recipe key that an error names.

    Raises:
        UserError: `root` is missing or holds no image.
    """
    folder = existing_folder(key, str(root))
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(map(is_leftover, path.relative_to(folder).parts))
        and path.is_file()
    ]
    if not paths:
        raise UserError(
            f"{key} {str(root)!r} holds no images; files must end in {', '.join(SUFFIXES)} and may lie in subfolders"
        )
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def _rgb(image: ImageFile) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _stretch(np.asarray(image, dtype=np.float64))
        return np.repeat(grey[:, :, None], 3, axis=2)
    deep = _has_deep_colours(image)  # asked first, because a loaded image has forgotten it
    pixels = np.array(image.convert("RGB"))  # a copy, because torch wants writable memory
    return _stretch(_deep_colours(image.filename, pixels)) if deep else pixels


def _has_deep_colours(image: ImageFile) -> bool:
    """Whether the file has colours of 16 bits; Pillow reads the upper eight, which radiometry leaves nearly black."""
    stored = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args]
    return any(";16" in str(mode) and mode != "BGR;16" for mode in stored)  # those are 16 bits for all three


def _deep_colours(path: str | bytes, upper: NDArray[np.uint8]) -> NDArray[np.float64]:
    """All bits of a file of 16-bit colours (H, W, 3), of which Pillow reads `upper`."""
    import cv2

    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is not None and stored.ndim == 3 and stored.dtype == np.uint16:
        colours = stored[:, :, 2::-1]
        if np.array_equal(colours >> 8, upper):  # both decoders mean the same channels
            return colours.astype(np.float64)
    raise BrokenImage(f"image {str(path)!r} has 16 bits in a kind of colour that is not read; save it as RGB of 8 bits")


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    valid = values[np.isfinite(values)]
    if valid.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(valid, _STRETCH_PERCENTILES)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return np.round(scaled.clip(0, 1) * 255).astype(np.uint8)
