"""Whatever the window, image, boxes, masks and labels of a view stay together.

Each seed draws an image with marked rectangles and a random window, mirrored and turned at random.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.data.class_table import IGNORE, ClassTable
from distill.data.label_pairs import Pair
from distill.data.masks import encode_mask
from distill.data.sample_key import SampleKey
from distill.data.views.augmentation import Augmentation
from distill.data.views.instances import view
from distill.data.views.semantic import SemanticViews
from distill.data.views.window import Window, jittered_window

SEEDS = range(40)
SIDE = 48


def image_with_marks(rng: np.random.Generator) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
    """Pixels (3, H, W), labels (H, W) and records of rectangles, each in a grey level of its own on black."""
    height, width = rng.integers(20, 110, 2).tolist()
    labels = np.zeros((height, width), np.uint8)
    records = []
    for label in (1, 2, 3):
        top, left = rng.integers(0, [height - 8, width - 8]).tolist()
        tall, wide = rng.integers(4, [height - top, width - left]).tolist()
        labels[top : top + tall, left : left + wide] = label
    for label in (1, 2, 3):  # what later rectangles left of it
        rows, columns = np.nonzero(labels == label)
        if len(rows):
            box = [int(v) for v in (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)]
            records.append({"label": label, "bbox": box, "segmentation": encode_mask(labels == label)})
    pixels = torch.from_numpy(labels * np.uint8(80))[None].expand(3, -1, -1).contiguous()
    return pixels, torch.from_numpy(labels), records


def place_of(window: Window, row: int, column: int) -> tuple[int, int]:
    """Where a pixel of the file lands in an unzoomed view: mirrored, then turned against the clock."""
    row, column, height, width = row - window.top, column - window.left, window.height, window.width
    column = width - 1 - column if window.mirror_x else column
    row = height - 1 - row if window.mirror_y else row
    for _ in range(window.turns):
        row, column, height, width = width - 1 - column, row, width, height
    return row, column


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unzoomed_view_moves_every_pixel_box_and_mask_to_the_same_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, labels, records = image_with_marks(rng)
    height, width = labels.shape
    tall, wide = rng.integers(4, [min(height, SIDE) + 1, min(width, SIDE) + 1]).tolist()
    top, left = (int(rng.integers(0, room + 1)) for room in (height - tall, width - wide))
    mirror_x, mirror_y = (bool(value) for value in rng.integers(0, 2, 2))
    window = Window(top, left, tall, wide, tall, wide, mirror_x, mirror_y, int(rng.integers(4)))
    image, target = view(pixels, records, 0, window, SIDE)
    expected = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    for row in range(top, top + tall):
        for column in range(left, left + wide):
            expected[place_of(window, row, column)] = labels[row, column]
    shown_height, shown_width = target.size
    shown = (image[0, :shown_height, :shown_width] * 255).round().byte() // 80
    assert torch.equal(shown, expected[:shown_height, :shown_width])
    assert set(target.labels.tolist()) == set(expected.unique().tolist()) - {0}
    for label, box, mask in zip(target.labels.tolist(), target.boxes.tolist(), target.masks, strict=True):
        assert torch.equal(mask, expected == label)
        rows, columns = mask.nonzero(as_tuple=True)
        x1, y1, x2, y2 = box
        # A box is the file's, cut to the window: it may be larger than what is seen of a mask that others cover.
        assert x1 <= columns.min() <= columns.max() < x2 <= shown_width
        assert y1 <= rows.min() <= rows.max() < y2 <= shown_height
        (record,) = (record for record in records if record["label"] == label)
        corners = [
            place_of(window, min(max(record["bbox"][1] + dy * (record["bbox"][3] - 1), top), top + tall - 1),
                     min(max(record["bbox"][0] + dx * (record["bbox"][2] - 1), left), left + wide - 1))
            for dy, dx in ((0, 0), (1, 1))
        ]  # fmt: skip
        ys, xs = zip(*corners, strict=True)
        assert box == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_jittered_view_keeps_masks_and_boxes_on_their_pixels(seed: int) -> None:
    pixels, labels, records = image_with_marks(np.random.default_rng(seed))
    torch.manual_seed(seed)
    window = jittered_window(*labels.shape, SIDE, (0.3, 2.5), flip=True, turns=True)
    image, target = view(pixels, records, 0, window, SIDE)
    for label, box, mask in zip(target.labels.tolist(), target.boxes, target.masks, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        # Half a pixel where masks are resampled, one where the border of a box is cut to the view.
        assert (box[:2] <= torch.stack([columns.min(), rows.min()]) + 1).all()
        assert (box[2:] >= torch.stack([columns.max(), rows.max()])).all()
        inside = _eroded(mask)
        assert ((image[0] * 255)[inside] - 80 * label).abs().max() <= 1 if inside.any() else True


@pytest.mark.parametrize("seed", SEEDS)
def test_any_semantic_view_keeps_labels_on_their_pixels(seed: int, tmp_path: Path) -> None:
    pixels, labels, _ = image_with_marks(np.random.default_rng(seed))
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    Image.fromarray(labels.numpy()).save(tmp_path / "mask.png")
    table = ClassTable({"black": 0, "dark": 1, "grey": 2, "light": 3})
    pair = Pair(tmp_path / "image.png", tmp_path / "mask.png")
    views = SemanticViews([pair], table, "raise", 1.0, SIDE, (0.5, 2.0), True, True, Augmentation(), seed)
    sample = views[SampleKey(0, seed)]
    known = sample["label"] != IGNORE
    assert known.any()
    assert known[: int(known.any(1).sum()), : int(known.any(0).sum())].all()  # padding is at the bottom and right
    for label in sample["label"].unique().tolist():
        inside = _eroded(sample["label"] == label)
        if label != IGNORE and inside.any():
            assert ((sample["image"][0] * 255)[inside] - 80 * label).abs().max() <= 1


def _eroded(mask: Tensor) -> Tensor:
    """Pixels whose neighbours, three away, are of the mask too: zooming blurs borders."""
    outside = torch.nn.functional.max_pool2d((~mask).float()[None], 7, 1, padding=3)[0]
    return outside == 0
