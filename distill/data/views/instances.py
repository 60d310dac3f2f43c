"""Views of annotated images: large-scale jitter for training, fit and pad for evaluation.

Axes: C = 3 channels RGB, H W pixels of the image file, S side of the view, N instances. Boxes are (x1, y1, x2, y2),
exclusive at the far edge.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.contracts import Target
from distill.data.annotations import CocoAnnotations
from distill.data.images import BrokenImage, size_fault
from distill.data.masks import decode_patch
from distill.data.reader import ImageReader
from distill.data.views.augmentation import Augmentation
from distill.data.views.base import Views
from distill.data.views.window import Window, fitting_window, jittered_window, show
from distill.data.zoom import Zoom
from distill.instance_masks import InstanceMasks
from distill.patch import Patch

_SMALLEST_SIDE = 1e-5  # pixels; a box below it has left the view

Sample = tuple[Tensor, Target]


class InstanceViews(Views[Sample]):
    """Annotated images as padded square views: the image, float32 (3, S, S) in [0, 1], and its target.

    An evaluation view fits the image into the view.

    Args:
        folder: Where the image files lie.
        annotations: The annotation file's content.
        images: Image records, a part of `annotations.images`.
        image_size: Side S of the view.
        on_error: What to do with broken images, see `BrokenImages`.
        seed: Seed of the training views.
        scale_jitter: Range of the large-scale jitter.
        flip: Whether training views are mirrored in both directions.
        turns: Whether they are turned by multiples of 90 degrees.
        augmentation: Light, colour and speckle of training views.
        reader: Reads them; by default with the bands that `distill.data.images.read_image` chooses.
    """

    def __init__(
        self,
        folder: Path,
        annotations: CocoAnnotations,
        images: Sequence[dict[str, Any]],
        image_size: int,
        on_error: str,
        seed: int = 0,
        scale_jitter: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        turns: bool = False,
        augmentation: Augmentation | None = None,
        reader: ImageReader | None = None,
    ) -> None:
        super().__init__(len(images), on_error, seed, reader)
        self.folder = folder
        self.annotations = annotations
        self.images = list(images)
        self.image_size = image_size
        self.scale_jitter = scale_jitter
        self.flip = flip
        self.turns = turns
        self.augmentation = augmentation or Augmentation()

    def read(self, index: int) -> Tensor:
        """uint8 RGB (3, H, W), of the size that the annotations say."""
        record = self.images[index]
        path = self.folder / record["file_name"]
        pixels = self.reader.read(index, path)
        turned = self.reader.was_turned(index)
        annotated = record["height"], record["width"]
        says = f"{str(self.annotations.path)!r} says"
        if fault := size_fault(f"image {str(path)!r}", pixels.shape[-2:], says, annotated, turned):
            way_out = "remove the orientation from the file if they are drawn on it as stored"
            raise BrokenImage(f"{fault}, so its masks would not fit" + f"; {way_out}" * turned)
        return pixels

    def fixed(self, index: int, content: Tensor) -> Sample:
        """The whole image."""
        height, width = content.shape[-2:]
        return self._view(index, content, fitting_window(height, width, self.image_size), self.image_size)

    def random(self, index: int, content: Tensor, size: int) -> Sample:
        """A jittered window."""
        height, width = content.shape[-2:]
        window = jittered_window(height, width, size, self.scale_jitter, self.flip, self.turns)
        return self._view(index, content, window, size, self.augmentation.recolour)

    def name(self, index: int) -> str:
        """The file name of its record."""
        return str(self.images[index]["file_name"])

    def classes(self, index: int) -> set[int]:
        """Labels of the objects in an image."""
        return {record["label"] for record in self.annotations.objects(self.images[index]["id"])}

    def _view(
        self, index: int, pixels: Tensor, window: Window, size: int, recolour: Callable[[Tensor], Tensor] | None = None
    ) -> Sample:
        image_id = self.images[index]["id"]
        return view(pixels, self.annotations.objects(image_id), image_id, window, size, recolour)


def collate(samples: list[Sample]) -> dict[str, Any]:
    """Stacks the images and lists the targets, whose number of instances differs."""
    return {"image": torch.stack([image for image, _ in samples]), "targets": [target for _, target in samples]}


def view(
    pixels: Tensor,
    records: Sequence[dict[str, Any]],
    image_id: int,
    window: Window,
    size: int,
    recolour: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Target]:
    """The view of an image and its objects in `window`, padded at the bottom and right.

    Boxes are the annotated ones, clipped to the window, as MMDetection's crop leaves them by default: they keep the
    file's convention and may be wider than what is left of the mask. Objects without a visible pixel or with an empty
    box are left out.

    Args:
        pixels: uint8 RGB (3, H, W).
        records: COCO annotation records with their `label`.
        image_id: Goes into the target.
        window: Where to look.
        size: Side S of the result.
        recolour: See `distill.data.views.window.show`.

    Returns:
        The image, float32 (3, S, S) in [0, 1], and its target with masks (N, S, S), see `InstanceMasks`.
    """
    height, width = pixels.shape[-2:]
    canvas, (shown_height, shown_width) = show(pixels, window, size, recolour)
    boxes = _boxes(records, window)
    inside = ((boxes[:, 2:] - boxes[:, :2]) > _SMALLEST_SIDE).all(dim=1).nonzero().flatten().tolist()
    zoom = Zoom((window.top, window.left, window.height, window.width), (window.out_height, window.out_width))
    seen = {i: zoom(decode_patch(records[i]["segmentation"], height, width)) for i in inside}
    patches = {i: patch for i, patch in seen.items() if patch is not None}
    kept = list(patches)
    target = Target(
        image_id=image_id,
        boxes=_moved_boxes(boxes[kept], window),
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


def _moved_boxes(boxes: Tensor, window: Window) -> Tensor:
    """The boxes after the window was mirrored and turned."""
    height, width = window.out_height, window.out_width
    if window.mirror_x:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if window.mirror_y:
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    for _ in range(window.turns):
        boxes = torch.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], 1)
        height, width = width, height
    return boxes


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
