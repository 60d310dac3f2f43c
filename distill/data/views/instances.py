"""Views of an annotated image: large-scale jitter for training, fit and pad for evaluation.

Axes: C = 3 channels RGB, H W pixels of the image file, S side of the view, N instances. Boxes are (x1, y1, x2, y2),
exclusive at the far edge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from distill.contracts import Target
from distill.data.masks import Zoom, decode_patch
from distill.instance_masks import InstanceMasks, Patch

# The mean colour of ImageNet, which most students subtract: padding then enters the network as about zero.
PADDING = (0.485, 0.456, 0.406)

_SMALLEST_SIDE = 1e-5  # pixels; a box below it has left the view


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


def fitting_window(height: int, width: int, size: int) -> Window:
    """The whole image, its long side resized to `size`; halves are rounded up, as by `mmcv.rescale_size`."""
    zoom = size / max(height, width)
    return Window(0, 0, height, width, max(1, int(height * zoom + 0.5)), max(1, int(width * zoom + 0.5)))


def jittered_window(
    height: int, width: int, size: int, scale: tuple[float, float], flip: bool, rotate: bool = False
) -> Window:
    """A random window by large-scale jitter; draws from torch's global generator.

    The image's long side is resized to `size` times a factor from `scale`, then a random crop of at most `size` is
    taken. Crop and resize are exchanged, because that gives the same views without ever holding the enlarged image
    and its masks; the crop's offset is therefore a whole pixel of the image file.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR
    2021, section 3; the range [0.1, 2.0] is theirs.
    """
    factor = scale[0] + (scale[1] - scale[0]) * float(torch.rand(()))
    zoom = size * factor / max(height, width)
    window_height, window_width = (min(side, max(1, round(size / zoom))) for side in (height, width))
    top, left = (int(torch.randint(room + 1, ())) for room in (height - window_height, width - window_width))
    out_height, out_width = (min(size, max(1, round(side * zoom))) for side in (window_height, window_width))
    mirror_x, mirror_y = (flip and bool(draw < 0.5) for draw in torch.rand(2))
    turns = int(torch.randint(4, ())) if rotate else 0
    return Window(top, left, window_height, window_width, out_height, out_width, mirror_x, mirror_y, turns)


def view(
    pixels: Tensor,
    records: Sequence[dict[str, Any]],
    image_id: int,
    window: Window,
    size: int,
    recolour: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Target]:
    """What `window` shows of an image and its objects, padded at the bottom and right.

    Boxes are the annotated ones, clipped to the window, as MMDetection's crop leaves them by default: they keep the
    file's convention and may be wider than what is left of the mask. Objects without a visible pixel or with an empty
    box are left out.

    Args:
        pixels: uint8 RGB (3, H, W).
        records: COCO annotation records with their `label`.
        image_id: Goes into the target.
        window: Where to look.
        size: Side S of the result.
        recolour: Changes the uint8 pixels (3, h, w) inside the window, at the image file's resolution: noise of the
            sensor is zoomed with the image.

    Returns:
        The image, float32 (3, S, S) in [0, 1], and its target with masks (N, S, S), see `InstanceMasks`.
    """
    height, width = pixels.shape[-2:]
    crop = F.crop(pixels, window.top, window.left, window.height, window.width)
    if recolour is not None:
        crop = recolour(crop)
    shown = F.resize(crop, [window.out_height, window.out_width], antialias=True).float() / 255
    boxes = _boxes(records, window)
    inside = ((boxes[:, 2:] - boxes[:, :2]) > _SMALLEST_SIDE).all(dim=1).nonzero().flatten().tolist()
    zoom = Zoom((window.top, window.left, window.height, window.width), (window.out_height, window.out_width))
    seen = {i: zoom(decode_patch(records[i]["segmentation"], height, width)) for i in inside}
    patches = {i: patch for i, patch in seen.items() if patch is not None}
    kept = list(patches)
    boxes = boxes[kept]
    if window.mirror_x:
        shown = shown.flip(-1)
        boxes[:, [0, 2]] = window.out_width - boxes[:, [2, 0]]
    if window.mirror_y:
        shown = shown.flip(-2)
        boxes[:, [1, 3]] = window.out_height - boxes[:, [3, 1]]
    for _ in range(window.turns):
        boxes = torch.stack([boxes[:, 1], shown.shape[-1] - boxes[:, 2], boxes[:, 3], shown.shape[-1] - boxes[:, 0]], 1)
        shown = shown.rot90(dims=(-2, -1))
    shown_height, shown_width = shown.shape[-2:]
    canvas = torch.tensor(PADDING)[:, None, None].repeat(1, size, size)
    canvas[:, :shown_height, :shown_width] = shown
    target = Target(
        image_id=image_id,
        boxes=boxes,
        labels=torch.tensor([records[i]["label"] for i in kept], dtype=torch.int64),
        masks=InstanceMasks.from_patches([_moved(patch, window) for patch in patches.values()], (size, size)),
        crowd=torch.tensor([bool(records[i].get("iscrowd", 0)) for i in kept], dtype=torch.bool),
        size=(shown_height, shown_width),
        original_size=(height, width),
    )
    return canvas, target


def _boxes(records: Sequence[dict[str, Any]], window: Window) -> Tensor:
    boxes = torch.tensor([record["bbox"] for record in records], dtype=torch.float32).reshape(-1, 4)
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    zoom_x, zoom_y = window.out_width / window.width, window.out_height / window.height
    boxes = (boxes - torch.tensor([window.left, window.top] * 2)) * torch.tensor([zoom_x, zoom_y] * 2)
    limits = torch.tensor([window.out_width, window.out_height] * 2)
    return boxes.clamp(min=0).minimum(limits)


def _moved(patch: Patch, window: Window) -> Patch:
    """The patch after the window was mirrored and turned."""
    top, left, pixels = patch
    height, width = window.out_height, window.out_width
    if window.mirror_x:
        left, pixels = width - left - pixels.shape[1], pixels[:, ::-1]
    if window.mirror_y:
        top, pixels = height - top - pixels.shape[0], pixels[::-1]
    for _ in range(window.turns):
        top, left, pixels = width - left - pixels.shape[1], top, np.rot90(pixels)
        height, width = width, height
    return Patch(top, left, pixels)
