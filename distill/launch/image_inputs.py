"""Inputs of a loaded model: a file, an array, a tensor or a Pillow image.

Axes: B images, H W pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from distill.data.images import read_image
from distill.errors import UserError

ImageInput = str | PathLike[str] | Image.Image | NDArray[Any] | Tensor
_SHALLOW = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # modes of Pillow with 8 bits a channel


def is_single(images: object) -> bool:
    """Whether it is one image, and not a batch (B, ...) or a series of images."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim < 4
    return isinstance(images, str | PathLike | Image.Image)


def series(images: Any) -> Iterator[ImageInput]:
    """The images of a batch or of any iterable of images, one after the other.

    Raises:
        UserError: It is neither.
    """
    if not isinstance(images, Iterable):
        raise UserError(f"an image or a series of images was expected, and {type(images).__name__} given")
    return iter(images)


def as_pixels(image: ImageInput, bands: Sequence[int] | None = None) -> Tensor:
    """uint8 RGB (3, H, W) of an image.

    Args:
        image: A file that `distill.data.images.read_image` reads; a Pillow image, whose EXIF orientation is applied;
            or an array or tensor (H, W, 3) or (3, H, W), of uint8 in [0, 255] or of floats in [0, 1]. Where both axes
            have length 3, the last of an array is the channels, and the first of a tensor. Floats are rounded to 8
            bits, which is what training sees.
        bands: Bands of a file to show; see `distill.data.images.read_image`.

    Raises:
        UserError: A file that cannot be read, or an image of another type, shape or range.
    """
    if isinstance(image, str | PathLike):
        return read_image(Path(image), bands)
    if isinstance(image, Image.Image):
        if image.mode not in _SHALLOW:
            raise UserError(f"a Pillow image of mode {image.mode} has more than 8 bits; pass the path of its file")
        return _of_tensor(torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB"))), axis=2)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 and image.dtype.kind != "f":
            raise _wrong_type(image.dtype)
        return _of_tensor(torch.from_numpy(np.ascontiguousarray(image)), axis=2)
    if isinstance(image, Tensor):
        return _of_tensor(image.detach().cpu(), axis=0)
    raise UserError(f"{type(image).__name__} is no image; pass a path, an array, a tensor or a Pillow image")


def _of_tensor(values: Tensor, axis: int) -> Tensor:
    """uint8 (3, H, W) of values whose channels lie on `axis`, or on the other end where those are no three."""
    shape = tuple(values.shape)
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or 0 in shape:
        raise UserError(f"an image has shape {shape}; it must be (height, width, 3) or (3, height, width)")
    if shape[axis] != 3:
        axis = 2 - axis
    pixels = values.permute(2, 0, 1) if axis == 2 else values
    if pixels.dtype == torch.uint8:
        return pixels.contiguous()
    if not pixels.is_floating_point():
        raise _wrong_type(pixels.dtype)
    pixels = pixels.float()
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"an image of floats has values from {low:g} to {high:g}; they must lie in [0, 1]: divide them by the "
            "largest that there can be, or pass uint8 in [0, 255]"
        )
    return (pixels * 255).round().to(torch.uint8).contiguous()


def _wrong_type(kind: object) -> UserError:
    return UserError(
        f"an image has values of type {kind}; they must be uint8 in [0, 255] or floats in [0, 1]; a file of other "
        "values is read as in training if its path is passed"
    )
