"""Exported files as models of the engine of scenes, which cuts images into tiles and joins what they find.

Axes: K classes, H W pixels of a tile, h w of what the network sees of it.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import window_spans
from distill.errors import UserError
from distill.exported.facts import FEATURES, FRAMES, LOGITS, PLANES, REGIONS
from distill.exported.frames import instances_of_frames
from distill.exported.planes import instances_of_planes
from distill.exported.regions import instances_of_regions
from distill.exported.resize import resize_maps
from distill.exported.session import Session, open_session
from distill.exported.views import fitted, padded_to, zoomed
from distill.scene.detections import Pixels, TileInstances

_READERS = {REGIONS: instances_of_regions, FRAMES: instances_of_frames, PLANES: instances_of_planes}


class ExportedInstances:
    """An `InstanceModel` of `distill.scene.detections`: what `InstancePredictor` finds, by a file.

    Args:
        session: Of kind "regions", "frames" or "planes".
        side: Of the square view that an image is fitted into, in pixels; by default that of the run.

    Raises:
        UserError: The file does not tell the side of its views.
    """

    def __init__(self, session: Session, side: int | None = None) -> None:
        self.session, self.class_names = session, list(session.facts.class_names)
        own = side or session.facts.image_size
        if own is None:
            raise UserError("the file does not tell the side of the views of its images; export it again")
        self._side = own
        self._read = _READERS[session.facts.kind]

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        """Instances of each tile, uint8 RGB (3, H, W) of any sizes, one after the other."""
        return [self._found(tile) for tile in tiles]

    def _found(self, tile: Pixels) -> TileInstances:
        view, shown = fitted(tile, self._side)
        outputs = self.session.run(view, shown)
        return self._read(outputs, self.session.facts, shown, (tile.shape[-2], tile.shape[-1]))


class ExportedClasses:
    """A `ClassModel` of `distill.scene.detections`: what `SemanticPredictor` gives, by a file.

    Args:
        session: Of kind "logits".
    """

    def __init__(self, session: Session) -> None:
        self.session, self.class_names = session, list(session.facts.class_names)

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """Logits (K, H, W) of each tile, uint8 RGB (3, H, W) of any sizes, one after the other."""
        return [self._logits(tile) for tile in tiles]

    def _logits(self, tile: Pixels) -> NDArray[np.float32]:
        facts = self.session.facts
        image = zoomed(tile, facts.zoom)
        if facts.window is None:
            logits = self._whole(image)
        else:
            logits = self._by_windows(image, facts.window, facts.window_stride or max(1, facts.window // 2))
        return resize_maps(logits, (tile.shape[-2], tile.shape[-1]))

    def _whole(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the file says of an image (1, 3, h, w): (K, h, w), or on the coarser grid of the decoder."""
        height, width = image.shape[-2:]
        facts = self.session.facts
        padded = padded_to(image, facts.stride, facts.smallest)
        logits: NDArray[np.float32] = self.session.run(padded, (height, width))["logits"][0]
        if padded.shape != image.shape:
            logits = resize_maps(logits, (padded.shape[-2], padded.shape[-1]))
        return logits[:, :height, :width]

    def _by_windows(self, image: NDArray[np.float32], window: int, stride: int) -> NDArray[np.float32]:
        """The mean (K, h, w) of all windows that contain a pixel, as `distill.evaluation.sliding_window`."""
        height, width = image.shape[-2:]
        total = np.zeros((len(self.class_names), height, width), np.float32)
        seen = np.zeros((height, width), np.float32)
        for rows in window_spans(height, window, stride):
            for columns in window_spans(width, window, stride):
                crop = np.ascontiguousarray(image[..., rows, columns])
                total[:, rows, columns] += resize_maps(self._whole(crop), (crop.shape[-2], crop.shape[-1]))
                seen[rows, columns] += 1
        return total / seen


def open_model(
    path: str | PathLike[str], *, threads: int | None = None, exact: bool = True
) -> ExportedInstances | ExportedClasses:
    """An exported file, ready to predict tiles.

    Args:
        path: See `open_session`.
        threads: See `open_session`.
        exact: See `open_session`.

    Raises:
        UserError: See `open_session`; or the file is a student, which has no classes.
    """
    session = open_session(path, threads=threads, exact=exact)
    if session.facts.kind == FEATURES:
        raise UserError(
            f"{Path(path)} gives the feature maps of a student and no classes; export a fine-tuned run, or call "
            "distill.exported.session.open_session(path).run(image, size)"
        )
    return ExportedClasses(session) if session.facts.kind == LOGITS else ExportedInstances(session)
