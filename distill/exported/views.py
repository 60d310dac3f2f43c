"""Views of images for exported files, as the evaluation makes them, in NumPy and Pillow.

Pillow's filter differs from torchvision's by one level in less than a hundredth of the values, and in none where the
size stays.

Axes: H W pixels of an image, h w of the part of a view that is not padding, S side of a square view.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill.data.fitting import PADDING, fitted_size
from distill.scene.detections import Pixels


def fitted(pixels: Pixels, size: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """A whole image in a square view, as `view` with `fitting_window` of `distill.data.views`.

    Args:
        pixels: uint8 RGB (3, H, W).
        size: S.

    Returns:
        The view (1, 3, S, S) in [0, 1], and h and w.
    """
    height, width = fitted_size(pixels.shape[-2], pixels.shape[-1], size)
    return _padded(_resized(pixels, height, width), size, size), (height, width)


def zoomed(pixels: Pixels, zoom: float) -> NDArray[np.float32]:
    """A whole image `zoom` times as large (1, 3, h, w) in [0, 1], as `zoomed` of `distill.data.views.semantic`."""
    height, width = (max(1, round(side * zoom)) for side in pixels.shape[-2:])
    return _resized(pixels, height, width)[None]


def padded_to(image: NDArray[np.float32], stride: int, least: int) -> NDArray[np.float32]:
    """An image (1, 3, h, w) with padding at the bottom and right, so that its sides are multiples of `stride`.

    They are `least` at least: where a map has one row or column, programs of `torch.export` fail, and OpenVINO 2026.4
    gives what it gave for the image before.
    """
    height, width = (max(side + -side % stride, least) for side in image.shape[-2:])
    return _padded(image[0], height, width)


def _resized(pixels: Pixels, height: int, width: int) -> NDArray[np.float32]:
    if pixels.shape[-2:] != (height, width):
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)


def _padded(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(3, h, w) as (1, 3, height, width)."""
    if image.shape[-2:] == (height, width):
        return image[None]
    canvas = np.empty((1, 3, height, width), np.float32)
    canvas[:] = np.array(PADDING, np.float32)[:, None, None]
    canvas[0, :, : image.shape[1], : image.shape[2]] = image
    return canvas
