"""Pixels of planted objects and classes, and the names below them."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from distill.colours import class_colour
from distill.data.zoom import Zoom
from distill.patch import Patch
from distill.scene.detections import Detection
from distill.scene.overlay import Overlay, _Shrunk

GREY = 100


def colour(label: int) -> np.ndarray:
    return (255 * np.array(to_rgb(class_colour(label)))).round()


def tint(label: int, share: float) -> np.ndarray:
    return ((1 - share) * GREY + share * colour(label)).round()


def found(top: int, left: int, pixels: np.ndarray, label: int = 0) -> Detection:
    height, width = pixels.shape
    return Detection((0, 0), (left, top, left + width, top + height), 0.9, label, Patch(top, left, pixels))


def block(height: int, width: int) -> np.ndarray:
    return np.ones((height, width), np.uint8)


def overlay(height: int, width: int, shrink: int = 1, classes: int = 3) -> Overlay:
    picture = np.full((3, height // shrink, width // shrink), GREY, np.uint8)
    return Overlay(picture, (height, width), [f"class {label}" for label in range(classes)])


def test_an_object_is_tinted_inside_and_outlined_in_its_colour() -> None:
    drawn = overlay(700, 900)
    drawn.add([found(20, 30, block(9, 12), 1)])
    expected = np.full((700, 900, 3), GREY)
    expected[20:29, 30:42] = colour(1)
    expected[22:27, 32:40] = tint(1, 0.3)
    np.testing.assert_allclose(drawn.pixels(), expected, atol=1)


def test_touching_objects_of_a_class_are_told_apart() -> None:
    drawn = overlay(700, 900)
    drawn.add([found(100, 100, block(40, 40)), found(100, 140, block(40, 40))])
    line = (drawn.pixels()[120, 100:180] == colour(0)).all(axis=1)
    assert line[[0, 38, 39, 40, 41, 79]].all()
    assert not line[2:38].any()
    assert not line[42:78].any()


def test_a_hole_stays_open() -> None:
    ring = block(60, 60)
    ring[20:40, 20:40] = 0
    drawn = overlay(700, 900)
    drawn.add([found(0, 0, ring)])
    assert (drawn.pixels()[20:40, 20:40] == GREY).all()


def test_small_scenes_are_enlarged_and_large_ones_keep_the_size_of_their_picture() -> None:
    small = overlay(64, 128)
    small.add([found(10, 20, block(8, 8))])
    shown = small.pixels()
    assert shown.shape == (384, 768, 3)
    changed = np.argwhere((shown != GREY).any(axis=2))
    np.testing.assert_array_equal([changed.min(0), changed.max(0)], [[60, 120], [107, 167]])
    assert overlay(4000, 3200, shrink=4).pixels().shape == (1000, 800, 3)
    assert overlay(3000, 4096).pixels().shape == (1500, 2048, 3)


def test_an_object_smaller_than_a_pixel_is_a_dot() -> None:
    drawn = overlay(4000, 8000, shrink=8)
    drawn.add([found(0, 0, block(2, 2), 1), found(2402, 4001, block(3, 3), 2), found(3998, 7998, block(2, 2))])
    shown = drawn.pixels()
    changed = np.argwhere((shown != GREY).any(axis=2))
    assert len(changed) == 4 + 9 + 4
    assert (shown[299:302, 499:502] == colour(2)).all()


def test_shrunk_masks_are_nearly_those_of_a_filter() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :200]
    blob = ((y - 150) ** 2 / 150**2 + (x - 100) ** 2 / 100**2 + 0.2 * np.sin(y / 20) <= 1).astype(np.uint8)
    for size, shown in (((1000, 1500), (273, 410)), ((640, 700), (639, 699)), ((900, 900), (300, 300))):
        shrunk, twin = _Shrunk(size, shown), Zoom((0, 0, *size), shown)
        top, left = int(rng.integers(size[0] - 300)), int(rng.integers(size[1] - 200))
        masks = []
        for patch in (shrunk(Patch(top, left, blob)), twin(Patch(top, left, blob))):
            assert patch is not None
            mask = np.zeros(shown, bool)
            mask[patch.top : patch.top + patch.pixels.shape[0], patch.left :][:, : patch.pixels.shape[1]] = patch.pixels
            masks.append(mask)
        assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.97


def test_class_blocks_give_the_same_picture_however_they_are_cut() -> None:
    labels = np.arange(2000 * 1500).reshape(2000, 1500) // 91_000 % 3
    labels = labels.astype(np.uint8)
    labels[:400, :300] = 255
    pictures = []
    for step in (2000, 333, 7):
        drawn = overlay(2000, 1500, shrink=2)
        for top in range(0, 2000, step):
            drawn.add_block(top, labels[top : top + step])
        pictures.append(drawn.pixels())
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0][:190, :140] == GREY).all()
    inner = pictures[0][20, 400]
    np.testing.assert_allclose(inner, tint(int(labels[41, 801]), 0.45), atol=1)


def test_classes_of_a_small_scene_are_enlarged_with_it() -> None:
    drawn = overlay(4, 8)
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 4:] = 2
    drawn.add_block(0, labels)
    shown = drawn.pixels()
    assert shown.shape == (384, 768, 3)
    np.testing.assert_allclose(shown[200, 100], tint(0, 0.45), atol=1)
    np.testing.assert_array_equal(shown[200, 383], colour(0))
    np.testing.assert_allclose(shown[200, 384], tint(2, 0.45), atol=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".partial"])
def test_a_saved_picture_stands_on_its_legend(tmp_path: Path, suffix: str) -> None:
    drawn = overlay(700, 900)
    drawn.add([found(20, 30, block(300, 300), 1)])
    path = tmp_path / f"picture{suffix}"
    drawn.save(path)
    with Image.open(path) as image:
        assert image.format == ("PNG" if suffix == ".png" else "JPEG")
        assert image.width == 900
        below = np.asarray(image.convert("RGB"))[700:].astype(int)
    assert 20 < len(below) < 80
    assert (np.abs(below - colour(1)).max(axis=2) < 12).sum() > 60  # its square
    assert (np.abs(below - colour(0)).max(axis=2) < 12).sum() == 0


@pytest.mark.parametrize("names", [["x" * 300, "衛星", "a"], [f"class number {n}" for n in range(40)]])
def test_a_legend_of_long_or_many_names_is_whole(tmp_path: Path, names: list[str]) -> None:
    picture = np.full((3, 400, 30), GREY, np.uint8)
    drawn = Overlay(picture, (400, 30), names)
    drawn.add([found(5, 5, block(4, 4), label) for label in range(len(names))])
    drawn.save(tmp_path / "narrow.png")
    with Image.open(tmp_path / "narrow.png") as image:
        pixels = np.asarray(image).astype(int)
    height = drawn.pixels().shape[0]
    for label in range(len(names)):
        assert (np.abs(pixels[height:] - colour(label)).max(axis=2) == 0).sum() > 40


def test_objects_of_more_classes_than_a_byte_tells_are_drawn(tmp_path: Path) -> None:
    drawn = overlay(700, 900, classes=300)
    drawn.add([found(20, 30, block(9, 12), label) for label in (255, 280)])
    assert (drawn.pixels()[20, 30] == colour(280)).all()
    drawn.save(tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as image:
        below = np.asarray(image)[700:]
    for label in (255, 280):
        assert (below == colour(label)).all(axis=2).sum() > 40


def test_nothing_found_is_said(tmp_path: Path) -> None:
    overlay(700, 900).save(tmp_path / "empty.png")
    with Image.open(tmp_path / "empty.png") as image:
        assert image.height > 700
