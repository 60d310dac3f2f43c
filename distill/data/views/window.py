"""Where a view looks: a rectangle of the image file, its size in the view, mirrored and turned.

Axes: C channels, H W pixels of the image file, S side of the view.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from distill.data.fitting import PADDING, fitted_size


@dataclass(frozen=True)
class Window:
    """A rectangle of the image file and the size it is resized to, all in pixels; then mirrored, then turned."""

    top: int
    left: int
    height: int
    width: int
    out_height: int
    out_width: int
    mirror_x: bool = False
    mirror_y: bool = False
    turns: int = 0  # by 90 degrees, against the clock

    def crop(self, pixels: Tensor) -> Tensor:
        """The rectangle (..., height, width) of pixels (..., H, W)."""
        return F.crop(pixels, self.top, self.left, self.height, self.width)

    def oriented(self, pixels: Tensor) -> Tensor:
        """Pixels (..., out_height, out_width), mirrored and turned."""
        mirrored = [axis for axis, wanted in ((-1, self.mirror_x), (-2, self.mirror_y)) if wanted]
        return pixels.flip(mirrored).rot90(self.turns, dims=(-2, -1))


def fitting_window(height: int, width: int, size: int) -> Window:
    """The whole image, its long side resized to `size`."""
    return Window(0, 0, height, width, *fitted_size(height, width, size))


def jittered_window(
    height: int, width: int, size: int, scale: tuple[float, float], flip: bool, turns: bool = False
) -> Window:
    """A random window by large-scale jitter; draws from torch's global generator.

    The image's long side is resized to `size` times a factor from `scale`, then a random crop of at most `size` is
    taken. Crop and resize are exchanged, because that gives the same views without ever holding the enlarged image
    and its masks; the crop's offset is therefore a whole pixel of the image file.

    Args:
        height: Of the image file.
        width: Of the image file.
        size: Side S of the view.
        scale: Range of the factor; at 1 the long side fills the view.
        flip: Whether the window may be mirrored, in both directions.
        turns: Whether it may be turned, by a multiple of 90 degrees.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR
    2021, section 3; the range [0.1, 2.0] is theirs.
    """
    factor = scale[0] + (scale[1] - scale[0]) * float(torch.rand(()))
    zoom = size * factor / max(height, width)
    window_height, window_width = (min(side, max(1, round(size / zoom))) for side in (height, width))
    top, left = (int(torch.randint(room + 1, ())) for room in (height - window_height, width - window_width))
    out_height, out_width = (min(size, max(1, round(side * zoom))) for side in (window_height, window_width))
    mirror_x, mirror_y = (flip and bool(number < 0.5) for number in torch.rand(2))
    quarters = int(torch.randint(4, ())) if turns else 0
    return Window(top, left, window_height, window_width, out_height, out_width, mirror_x, mirror_y, quarters)


def show(
    pixels: Tensor, window: Window, size: int, recolour: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, tuple[int, int]]:
    """The view of an image in a window, padded at the bottom and right.

    Args:
        pixels: uint8 RGB (3, H, W).
        window: Where to look.
        size: Side S of the result.
        recolour: Changes the uint8 pixels (3, height, width) inside the window, at the image file's resolution: noise
            of the sensor is zoomed with the image.

    Returns:
        The image, float32 (3, S, S) in [0, 1], and the height and width of the part that is not padding.
    """
    crop = window.crop(pixels)
    if recolour is not None:
        crop = recolour(crop)
    shown = window.oriented(F.resize(crop, [window.out_height, window.out_width], antialias=True).float() / 255)
    height, width = shown.shape[-2:]
    canvas = torch.tensor(PADDING)[:, None, None].repeat(1, size, size)
    canvas[:, :height, :width] = shown
    return canvas, (height, width)
