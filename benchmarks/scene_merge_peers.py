"""The rules by which other libraries join what is found in overlapping tiles, each from detections to masks.

SAHI and supervision run as published on PyPI, if they are installed. The rules of geoai and detectree2, which need a
stack of their own, are written anew from their sources.

Axes: N detections, h w pixels of a mask.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scene_verdict import frames, shared, touching
from torchvision.ops import nms

from distill.data.tiling import Tile, TilePlan
from distill.patch import Patch
from distill.scene.detections import TileInstances

Found = dict[Tile, TileInstances]
DETECTREE2 = {"border": 1, "iou": 0.7, "area": 2}  # pixels for metres: `stitch_crowns` and `clean_crowns`
GEOAI_IOU = 0.3


@dataclass(frozen=True)
class Located:
    """Detections of all tiles, in pixels of the scene.

    Attributes:
        masks: N.
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        tiles: N.
    """

    masks: Sequence[Patch]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    tiles: Sequence[Tile]


def locate(found: Found) -> Located:
    """The detections of all tiles, moved to the scene."""
    pairs = [(tile, mask) for tile, instances in found.items() for mask in instances.masks]
    masks = [Patch(mask.top + tile.top, mask.left + tile.left, mask.pixels) for tile, mask in pairs]
    boxes = [seen.boxes + np.array([tile.left, tile.top] * 2, np.float32) for tile, seen in found.items()]
    scores = [seen.scores for seen in found.values()]
    return Located(masks, np.concatenate(boxes), np.concatenate(scores), [tile for tile, _ in pairs])


def available_peers() -> tuple[dict[str, Callable[[Located, TilePlan], list[Patch]]], dict[str, str]]:
    """The rules that run here by name, and why others do not."""
    peers: dict[str, Callable[[Located, TilePlan], list[Patch]]] = {}
    missing = {}
    if importlib.util.find_spec("sahi"):
        importlib.import_module("sahi.prediction")  # here, so that it is not timed
        peers[f"SAHI {version('sahi')}: GREEDYNMM, IoS 0.5"] = sahi_greedy_nmm
    else:
        missing["SAHI"] = "`pip install sahi`"
    if importlib.util.find_spec("supervision"):
        importlib.import_module("supervision")
        name = f"supervision {version('supervision')}"
        peers[f"{name}: mask NMS, IoU 0.5"] = lambda located, plan: supervision_filter(located, plan, "with_nms")
        peers[f"{name}: mask NMM, IoU 0.5"] = lambda located, plan: supervision_filter(located, plan, "with_nmm")
    else:
        missing["supervision"] = "`pip install supervision`"
    peers[f"geoai's rule: box NMS, IoU {GEOAI_IOU}"] = box_nms
    peers["detectree2's rule: drop at the border, keep the best"] = drop_at_border
    return peers, missing


def sahi_greedy_nmm(located: Located, plan: TilePlan) -> list[Patch]:
    """The default of `get_sliced_prediction`: boxes decide, polygons are united."""
    from sahi.postprocess.combine import GreedyNMMPostprocess
    from sahi.prediction import ObjectPrediction
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask

    given = []
    for mask, score in zip(located.masks, located.scores, strict=True):
        outlines = get_coco_segmentation_from_bool_mask(mask.pixels.astype(bool))
        if outlines:  # none where a mask is a line; SAHI's own models skip those, too
            corner = np.array([mask.left, mask.top])
            moved = [(np.reshape(one, (-1, 2)) + corner).ravel().tolist() for one in outlines]
            given.append(
                ObjectPrediction(
                    segmentation=moved, category_id=0, score=float(score), full_shape=[plan.height, plan.width]
                )
            )
    rule = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)
    return [filled(one.mask.segmentation) for one in rule(given)]


def filled(outlines: Sequence[Sequence[float]]) -> Patch:
    """Polygons as pixels, as SAHI fills them."""
    corners = [np.reshape(one, (-1, 2)).round().astype(np.int32) for one in outlines]
    low, high = np.concatenate(corners).min(0), np.concatenate(corners).max(0)
    pixels = np.zeros((high - low + 1)[::-1], np.uint8)
    cv2.fillPoly(pixels, [one - low for one in corners], (1,))
    return Patch(int(low[1]), int(low[0]), pixels)


def supervision_filter(located: Located, plan: TilePlan, rule: str) -> list[Patch]:
    """What `InferenceSlicer` does with compact masks; suppression is its default, merging the other choice."""
    import supervision
    from supervision.detection.compact_mask import CompactMask

    size = (plan.height, plan.width)
    masks = []
    for mask in located.masks:
        height, width = mask.pixels.shape
        whole = np.array([[0, 0, width - 1, height - 1]])
        compact = CompactMask.from_dense(mask.pixels[None].astype(bool), whole, (height, width))
        masks.append(compact.with_offset(mask.left, mask.top, size))
    detections = supervision.Detections(
        xyxy=located.boxes,
        mask=CompactMask.merge(masks),
        confidence=located.scores,
        class_id=np.zeros(len(located.scores), int),
    )
    kept = {"with_nms": detections.with_nms, "with_nmm": detections.with_nmm}[rule](0.5)
    crops = [kept.mask.crop(index).astype(np.uint8) for index in range(len(kept))]
    return [Patch(int(y), int(x), crop) for (x, y), crop in zip(kept.mask.offsets, crops, strict=True)]


def box_nms(located: Located, plan: TilePlan) -> list[Patch]:
    """As `ObjectDetector` of opengeos/geoai does over the boxes of all tiles."""
    kept = nms(torch.from_numpy(located.boxes), torch.from_numpy(located.scores), GEOAI_IOU)
    return [located.masks[index] for index in kept.tolist()]


def drop_at_border(located: Located, plan: TilePlan) -> list[Patch]:
    """As `stitch_crowns` and `clean_crowns` of PatBall1/detectree2 (models/outputs.py): what reaches the border of its
    tile is dropped, then whatever is not the best of all that it overlaps by an IoU above 0.7.
    """
    border, least = DETECTREE2["border"], DETECTREE2["area"]
    bounds = frames(located.masks)
    tops_lefts = np.array([(tile.top, tile.left) for tile in located.tiles])
    sides = np.array([(tile.height, tile.width) for tile in located.tiles])
    inside = (bounds[:, :2] >= tops_lefts + border).all(1) & (bounds[:, 2:] <= tops_lefts + sides - border).all(1)
    areas = np.array([int(mask.pixels.sum()) for mask in located.masks])
    numbers = np.flatnonzero(inside & (areas > least))
    result = []
    for number in numbers:
        near = numbers[touching(bounds[numbers], located.masks[number])]
        common = np.array([shared(located.masks[number], located.masks[other]) for other in near])
        like = near[common / (areas[number] + areas[near] - common) > DETECTREE2["iou"]]
        if located.scores[like].max() <= located.scores[number]:
            result.append(located.masks[number])
    return result
