"""Probes of objects in a COCO annotation file.

Axes: N objects, S side of a window in pixels, K classes.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.data.annotations import CocoAnnotations
from distill.data.checks import existing_file, existing_folder
from distill.data.class_table import IGNORE
from distill.data.images import size_fault
from distill.data.masks import decode_patch
from distill.errors import UserError, unknown_name
from distill.patch import Patch
from distill.tasks.probes.base import ProbeBase, ProbeData, ProbeImages
from distill.tasks.probes.choice import choose
from distill.tasks.probes.windows import Square, paint

_REGIONS = ("mask", "box")
_Record = dict[str, Any]


class ObjectProbe(ProbeBase):
    """Probes of objects: which class has the object in the middle of a window, and which the object under a token.

    The window is a square around the box of the object. Its side is `context` times the longer side of the box, at
    least `image_size` pixels of the file, so that nothing is enlarged. It is moved into the image where it reaches
    beyond; what an image smaller than the window leaves is padded. The window is resized to S, and features are pooled
    over the object. Tokens have the classes of all objects in the window, or none ("background").

    Regions to ignore (`iscrowd`) are no objects; their tokens have no class.

    Args:
        train_images: Folder of the images whose objects classifiers are fitted to.
        train_annotations: Their COCO file.
        val_images: Folder of the images whose objects are scored.
        val_annotations: Their COCO file.
        classes: Names to keep, by default all of the training file.
        context: Side of the window over the longer side of the object.
        region: What features are pooled over: "mask", the pixels of the object, or "box".
        tokens: Whether tokens are probed.
        **kwargs: See `ProbeBase`. Each object takes S * S * 5 bytes of memory, S * S * 4 without tokens.

    Raises:
        UserError: An argument is out of its range; on reading, a file is missing or broken, a class has no object or
            fewer training objects than `shots`, or there is one class and `tokens` is false, or more than 254 and it is
            true.
    """

    default_name = "objects"
    unit = "object"
    units = "objects"

    def __init__(
        self,
        train_images: str,
        train_annotations: str,
        val_images: str,
        val_annotations: str,
        classes: list[str] | None = None,
        context: float = 1.5,
        region: str = "mask",
        tokens: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sources = {"train": (train_images, train_annotations), "val": (val_images, val_annotations)}
        self.classes = classes
        if context < 1:
            raise UserError(f"{self._key('context')} is {context}; it must be 1 or more, so that the object fits")
        self.context = context
        if region not in _REGIONS:
            raise unknown_name(self._key("region"), region, _REGIONS)
        self.region = region
        self.tokens = tokens

    def read(self) -> ProbeData:
        """Cuts the windows out of the images.

        Raises:
            UserError: A file is missing or broken; or there is one class and `tokens` is false, or more than 254 and it
                is true.
        """
        train = CocoAnnotations(self._annotations("train"), self.classes, "skip")
        val = CocoAnnotations(self._annotations("val"), train.class_names, scored=True)
        if len(train.class_names) == 1 and not self.tokens:
            raise UserError(
                f"probe {self.name!r}: there is nothing to tell {train.class_names[0]!r} from, the one class; set "
                f"{self._key('tokens')} to true, which tells objects from background"
            )
        if self.tokens and len(train.class_names) >= IGNORE:
            raise UserError(
                f"probe {self.name!r}: tokens are told apart by at most {IGNORE - 1} classes, and there are "
                f"{len(train.class_names)}; set {self._key('tokens')} to false, or name fewer classes"
            )
        token_names = [*train.class_names, "background"] if self.tokens else []
        return ProbeData(self._windows("train", train), self._windows("val", val), train.class_names, token_names)

    def _annotations(self, split: str) -> Path:
        return existing_file(self._key(f"{split}_annotations"), self.sources[split][1])

    def _windows(self, split: str, content: CocoAnnotations) -> ProbeImages:
        """One window for each chosen object, image by image."""
        folder = existing_folder(self._key(f"{split}_images"), self.sources[split][0])
        chosen = _chosen(content, self.limits[split])
        count, size = sum(map(len, chosen.values())), self.image_size
        pixels = torch.empty(count, 3, size, size, dtype=torch.uint8)
        regions = torch.zeros(count, size, size, dtype=torch.bool)
        background = len(content.class_names)
        tokens = torch.full((count, size, size), background, dtype=torch.uint8) if self.tokens else None
        labels: list[int] = []
        for image in content.images:
            if image["id"] not in chosen:
                continue
            shown = self._checked(folder, image)
            objects = content.objects(image["id"])
            patches = [decode_patch(record["segmentation"], image["height"], image["width"]) for record in objects]
            for own in chosen[image["id"]]:
                box = objects[own].get("bbox") or _box(patches[own])
                square = Square.around(box, (image["height"], image["width"]), self.context, size)
                zoom, number = square.zoom(size), len(labels)
                pixels[number] = square.show(shown, size)
                for record, patch in zip(objects, patches, strict=True):
                    if tokens is not None and (seen := zoom(patch)) is not None:
                        paint(tokens[number], seen, IGNORE if record.get("iscrowd") else record["label"])
                if self.region == "mask" and (seen := zoom(patches[own])) is not None:
                    paint(regions[number], seen, True)
                else:  # also an object that covers no pixel by half
                    regions[number] = square.box(box, size)
                labels.append(objects[own]["label"])
        return ProbeImages(pixels, regions, torch.tensor(labels, dtype=torch.int64), tokens)

    def _checked(self, folder: Path, image: _Record) -> Tensor:
        pixels = self.image(folder / image["file_name"])
        sizes = "its record in the annotations says", (image["height"], image["width"])
        if fault := size_fault(f"image {image['file_name']!r}", pixels.shape[1:], *sizes):
            raise UserError(f"probe {self.name!r}: {fault}; correct the file")
        return pixels


def _chosen(content: CocoAnnotations, limit: int | None) -> dict[int, list[int]]:
    """Places of the chosen objects among those of their image, by image: at most `limit` of each class."""
    found = [
        (record["label"], image["id"], place)
        for image in content.images
        for place, record in enumerate(content.objects(image["id"]))
        if not record.get("iscrowd")
    ]
    chosen: dict[int, list[int]] = {}
    for number in choose([label for label, _, _ in found], limit):
        _, image_id, place = found[number]
        chosen.setdefault(image_id, []).append(place)
    return chosen


def _box(patch: Patch) -> list[float]:
    height, width = patch.pixels.shape
    return [patch.left, patch.top, width, height]
