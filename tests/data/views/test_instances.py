"""Views of annotated images keep image, masks and boxes together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from distill.data.fitting import PADDING
from distill.data.views.instances import view
from distill.data.views.window import Window, fitting_window, jittered_window


def scene(height: int, width: int, boxes: list[tuple[int, int, int, int]]) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """White rectangles on black, annotated exactly."""
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    records = []
    for label, (x, y, w, h) in enumerate(boxes):
        mask = np.zeros((height, width), np.uint8)
        mask[y : y + h, x : x + w] = 1
        pixels[:, mask.astype(bool)] = 255
        rle = coco_mask.encode(np.asfortranarray(mask))
        records.append({"bbox": [x, y, w, h], "segmentation": rle, "label": label, "iscrowd": label % 2})
    return pixels, records


def test_identity_view_is_exact() -> None:
    pixels, records = scene(20, 30, [(3, 4, 10, 6), (20, 0, 10, 20)])
    image, target = view(pixels, records, 8, fitting_window(20, 30, 30), 30)
    assert torch.equal(image[:, :20], pixels.float() / 255)
    assert torch.allclose(image[:, 20:], torch.tensor(PADDING)[:, None, None].expand(3, 10, 30))
    assert target.boxes.tolist() == [[3, 4, 13, 10], [20, 0, 30, 20]]
    assert torch.equal(target.masks.dense().any(dim=0)[:20], pixels[0] > 0)
    assert not target.masks[:, 20:].any()
    assert target.labels.tolist() == [0, 1]
    assert target.crowd.tolist() == [False, True]
    assert (target.image_id, target.size, target.original_size) == (8, (20, 30), (20, 30))
    assert target.boxes.dtype == torch.float32
    assert target.labels.dtype == torch.int64
    assert target.masks.dense().dtype == target.crowd.dtype == torch.bool


@pytest.mark.parametrize(
    ("height", "width", "size"), [(20, 30, 60), (31, 17, 64), (100, 333, 128), (7, 7, 5), (1, 50, 8)]
)
def test_fitting_view(height: int, width: int, size: int) -> None:
    pixels, records = scene(height, width, [(0, 0, width, height)])
    image, target = view(pixels, records, 0, fitting_window(height, width, size), size)
    assert max(target.size) == size
    assert image.shape == (3, size, size)
    assert target.boxes.tolist() == [[0, 0, target.size[1], target.size[0]]]
    assert target.masks[0].sum() == target.size[0] * target.size[1]


@pytest.mark.parametrize("mirror_x", [False, True])
@pytest.mark.parametrize("mirror_y", [False, True])
def test_mirrored_crops_move_everything_together(mirror_x: bool, mirror_y: bool) -> None:
    pixels, records = scene(40, 50, [(5, 6, 8, 10), (30, 20, 15, 15), (0, 38, 2, 2)])
    image, target = view(pixels, records, 0, Window(4, 2, 32, 40, 32, 40, mirror_x, mirror_y), 48)
    assert target.labels.tolist() == [0, 1]  # the third has left the view
    for box, mask in zip(target.boxes.long().tolist(), target.masks, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert torch.equal(target.masks.dense().any(dim=0)[:32, :40], image[0, :32, :40] == 1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror_x", [False, True])
def test_turned_views_move_everything_together(turns: int, mirror_x: bool) -> None:
    pixels, records = scene(40, 50, [(5, 6, 8, 10), (30, 20, 15, 15), (0, 38, 2, 2)])
    upright, plain = view(pixels, records, 0, Window(4, 2, 32, 40, 32, 40, mirror_x), 48)
    image, target = view(pixels, records, 0, Window(4, 2, 32, 40, 32, 40, mirror_x, turns=turns), 48)
    height, width = (40, 32) if turns % 2 else (32, 40)
    assert target.size == (height, width)
    assert target.original_size == (40, 50)
    assert target.labels.tolist() == [0, 1]
    assert torch.equal(image[:, :height, :width], upright[:, :32, :40].rot90(turns, (1, 2)))
    assert torch.equal(target.masks[:, :height, :width], plain.masks[:, :32, :40].rot90(turns, (1, 2)))
    assert not target.masks[:, height:].any()
    assert not target.masks[:, :, width:].any()
    for box, mask in zip(target.boxes.long().tolist(), target.masks, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_turns_are_drawn_last_and_cover_the_circle() -> None:
    windows = []
    for seed in range(40):
        torch.manual_seed(seed)
        window = jittered_window(90, 140, 64, (0.5, 2.0), flip=True, turns=True)
        torch.manual_seed(seed)
        assert jittered_window(90, 140, 64, (0.5, 2.0), flip=True) == replace(window, turns=0)
        windows.append(window)
    assert {window.turns for window in windows} == {0, 1, 2, 3}


def test_pixels_are_recoloured_inside_the_window_alone() -> None:
    pixels, records = scene(20, 30, [(3, 4, 10, 6)])
    seen = []

    def invert(crop: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(crop.shape))
        return 255 - crop

    image, target = view(pixels, records, 0, Window(2, 1, 10, 20, 10, 20), 24, invert)
    assert seen == [(3, 10, 20)]
    assert torch.equal(image[:, :10, :20], 1 - pixels[:, 2:12, 1:21].float() / 255)
    assert torch.allclose(image[:, 10:, :], torch.tensor(PADDING)[:, None, None].expand(3, 14, 24))
    assert target.masks.dense().any()


def test_random_views_keep_masks_on_the_objects() -> None:
    pixels, records = scene(90, 140, [(10, 10, 30, 20), (80, 30, 50, 50), (0, 60, 25, 30)])
    factors, offsets = set(), set()
    torch.manual_seed(0)
    for _ in range(60):
        window = jittered_window(90, 140, 64, (0.1, 2.0), flip=True)
        assert 0 <= window.top <= 90 - window.height
        assert 0 <= window.left <= 140 - window.width
        assert max(window.out_height, window.out_width) <= 64
        assert window.out_width / window.width == pytest.approx(window.out_height / window.height, rel=0.15)
        image, target = view(pixels, records, 0, window, 64)
        height, width = target.size
        shown = image[0, :height, :width]
        covered = target.masks.dense().any(dim=0)[:height, :width]
        assert ((shown > 0.5) == covered).float().mean() > 0.99
        assert (target.masks.dense().flatten(1).sum(dim=1) > 0).all()
        assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
        assert (target.boxes <= torch.tensor([width, height, width, height])).all()
        factors.add(round(window.out_width / window.width, 1))
        offsets.add((window.top, window.left))
    assert len(factors) > 6
    assert len(offsets) > 15


def test_object_that_vanishes_by_shrinking_is_left_out() -> None:
    pixels, records = scene(100, 100, [(50, 50, 1, 1), (0, 0, 60, 60)])
    _, target = view(pixels, records, 0, fitting_window(100, 100, 10), 10)
    assert target.labels.tolist() == [1]


def test_degenerate_box_is_left_out() -> None:
    pixels, records = scene(10, 10, [(2, 2, 4, 4)])
    records[0]["bbox"] = [2, 2, 0, 4]
    _, target = view(pixels, records, 0, fitting_window(10, 10, 10), 10)
    assert target.masks.shape == (0, 10, 10)
    assert target.boxes.shape == (0, 4)


def test_no_flip_without_permission() -> None:
    windows = [jittered_window(30, 30, 20, (0.5, 1.5), flip=False) for _ in range(20)]
    assert not any(window.mirror_x or window.mirror_y for window in windows)
