"""What the page is given to draw has the shape of what was found."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from distill.data.masks import encode_mask
from distill.serve.shown import write_classes, write_outlines


def area(outline: str) -> float:
    """Of a path of straight lines; holes count against it."""
    total = 0.0
    for ring in re.findall(r"M([^Z]*)Z", outline):
        points = np.array([point.split() for point in ring.split("L")], float)
        x, y = points.T
        total += (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return abs(total)


def test_outlines_have_the_area_of_their_masks_and_the_best_comes_first(tmp_path: Path) -> None:
    y, x = np.mgrid[:60, :90]
    disc = ((y - 30) ** 2 + (x - 40) ** 2 < 20**2).astype(np.uint8)
    ring = disc * ((y - 30) ** 2 + (x - 40) ** 2 >= 10**2)
    dot = np.zeros_like(disc)
    dot[5, 80] = 1
    two = np.zeros_like(disc)
    two[2:12, 2:12] = two[40:50, 70:80] = 1
    masks = {0.3: disc, 0.9: ring, 0.5: dot, 0.7: two}
    results = [
        {"category_id": label + 1, "score": score, "segmentation": encode_mask(mask)}
        for label, (score, mask) in enumerate(masks.items())
    ]
    write_outlines(results, tmp_path / "shown")
    shown = json.loads((tmp_path / "shown").read_text())
    assert [(label, score) for label, score, _ in shown] == [(1, 0.9), (3, 0.7), (2, 0.5), (0, 0.3)]
    for _, score, outline in shown:
        assert area(outline) == pytest.approx(masks[score].sum(), rel=0.05, abs=0.5)
    assert shown[0][2].count("M") == 2  # with its hole
    assert shown[1][2].count("M") == 2  # both parts


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    write_outlines([], tmp_path / "shown")
    assert json.loads((tmp_path / "shown").read_text()) == []


@pytest.mark.parametrize(
    ("size", "shown"), [((40, 70), (40, 70)), ((3000, 1500), (2048, 1024)), ((700, 4100), (350, 2048))]
)
def test_classes_are_those_in_the_middle_of_what_is_shown(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    labels = np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)
    labels[:5] = 255
    path = tmp_path / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=size[0], width=size[1], count=1, dtype="uint8", nodata=255
    ) as f:
        f.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (0, 0, 255, 255)})
        f.write(labels, 1)
    write_classes(path, tmp_path / "shown")
    content = (tmp_path / "shown").read_bytes()
    assert tuple(np.frombuffer(content[:8], "<u4")) == shown
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(shown, size, strict=True))
    np.testing.assert_array_equal(np.frombuffer(content[8:], np.uint8).reshape(shown), labels[np.ix_(rows, columns)])
