"""Images that are predicted tile by tile and scored as a whole.

Axes: N instances, H W pixels of an image.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from distill.contracts import Prediction
from distill.data.tiling import Tile, TilePlan
from distill.instance_masks import InstanceMasks
from distill.scene.detections import TileInstances
from distill.scene.merge import CrossTileMerge

Found = dict[int, dict[Tile, TileInstances]]  # by image id


class TiledImages:
    """Collects detections until all tiles of an image are there, then joins them across tiles.

    Attributes:
        found: Of the images that miss a tile, what was found so far.

    Args:
        plan: How an image of a height and a width is cut.
        sizes: H and W of each image, by id.
    """

    def __init__(self, plan: Callable[[int, int], TilePlan], sizes: Mapping[int, tuple[int, int]]) -> None:
        self.found: Found = {}
        self._plan = plan
        self._sizes = sizes

    def add(self, predictions: Iterable[Prediction], tiles: Iterable[Tile]) -> list[Prediction]:
        """Takes what was found in tiles, in pixels of the tiles.

        Returns:
            The instances of each image whose last tile it was; those of an image of one tile as they are.
        """
        complete = []
        for prediction, tile in zip(predictions, tiles, strict=True):
            image_id = prediction.image_id
            count = len(self._plan(*self._sizes[image_id]))
            if count == 1:
                complete.append(prediction)
                continue
            seen = self.found.setdefault(image_id, {})
            seen[tile] = tile_instances(prediction)
            if len(seen) == count:
                complete.append(self._joined(image_id, self.found.pop(image_id)))
        return complete

    def rest(self, parts: Iterable[Found]) -> list[Prediction]:
        """Instances of the images whose tiles several processes have seen; of tiles that none has seen there are none.

        Args:
            parts: `found` of each process.
        """
        together: Found = {}
        for part in parts:
            for image_id, seen in part.items():
                together.setdefault(image_id, {}).update(seen)
        return [self._joined(image_id, together[image_id]) for image_id in sorted(together)]

    def _joined(self, image_id: int, seen: Mapping[Tile, TileInstances]) -> Prediction:
        size = self._sizes[image_id]
        plan = self._plan(*size)
        merge, objects = CrossTileMerge(plan), []
        for row in range(len(plan.tops)):
            objects += merge.add_row(row, [(tile, seen[tile]) for tile in plan.row(row) if tile in seen])
        objects += merge.finish()
        objects.sort(key=lambda one: -one.score)
        return Prediction(
            image_id,
            torch.tensor([one.box for one in objects], dtype=torch.float32).reshape(-1, 4),
            torch.tensor([one.score for one in objects], dtype=torch.float32),
            torch.tensor([one.label for one in objects], dtype=torch.int64),
            InstanceMasks.from_patches([one.mask for one in objects], size),
        )


def tile_instances(found: Prediction) -> TileInstances:
    """The detections of a tile, without instances that have no pixel."""
    masks = found.masks
    patches = (masks if isinstance(masks, InstanceMasks) else InstanceMasks.from_dense(masks)).patches()
    kept = [number for number, patch in enumerate(patches) if patch.pixels.size]
    boxes, scores, labels = (part.cpu().numpy()[kept] for part in (found.boxes, found.scores, found.labels))
    return TileInstances(
        boxes.astype(np.float32), scores.astype(np.float32), labels, [patches[number] for number in kept]
    )
