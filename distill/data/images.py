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
from torch import Tensor

from distill.data.checks import existing_folder
from distill.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Radar and multispectral products use 10 to 13 of their 16 bits and hold a few extreme scatterers, so neither dividing
# by 65535 (nearly black) nor by the maximum (one corner reflector darkens the scene) shows the content.
_STRETCH_PERCENTILES = (1.0, 99.0)


class BrokenImage(UserError):
    """A file that should be an image and cannot be decoded; the message names the file and the reason."""


def read_image(path: str | Path) -> Tensor:
    """Decodes the first frame of an image file.

    Grey images are repeated to three channels and an alpha channel is dropped. Grey images of 16 bits and more are
    stretched linearly from their own 1st to 99th percentile. The EXIF orientation is ignored, because annotations
    refer to the stored pixels and rasters from above have no upright position.

    Returns:
        uint8 RGB of shape (3, H, W).

    Raises:
        BrokenImage: The file is missing, empty, truncated, too large to be a single image, or not an image.
    """
    return torch.from_numpy(_decoded(Path(path), _rgb)).permute(2, 0, 1).contiguous()


def read_label(path: str | Path) -> NDArray[np.bool_]:
    """Decodes a raster that marks one class: 1-bit, 0/1 or 0/255, grey or colour.

    Returns:
        True where the class is, of shape (H, W).

    Raises:
        BrokenImage: As `read_image`.
    """
    return _decoded(Path(path), _marked)


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


def _decoded(path: Path, convert: Callable[[Image.Image], NDArray[Any]]) -> NDArray[Any]:
    try:
        if path.stat().st_size == 0:
            raise BrokenImage(f"image {str(path)!r} is an empty file")
        with Image.open(path) as image:
            image.load()
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
    """Every image below `root`, nested folders included, sorted by relative path; hidden files are left out.

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
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        raise UserError(
            f"{key} {str(root)!r} holds no images; files must end in {', '.join(SUFFIXES)} and may lie in subfolders"
        )
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _stretch(np.asarray(image, dtype=np.float64))
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))  # a copy, because torch wants writable memory


def _marked(image: Image.Image) -> NDArray[np.bool_]:
    values = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    marked: NDArray[np.bool_] = values != 0
    return marked if marked.ndim == 2 else np.logical_or.reduce(marked[..., :3], axis=2)


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    valid = values[np.isfinite(values)]
    if valid.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(valid, _STRETCH_PERCENTILES)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return np.round(scaled.clip(0, 1) * 255).astype(np.uint8)
