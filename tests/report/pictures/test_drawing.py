"""Pixels of planted objects, classes and maps."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from matplotlib.colors import to_rgb

from distill.colours import class_colour, class_rgb
from distill.data.class_table import IGNORE
from distill.data.images import read_image
from distill.data.masks import encode_mask
from distill.report.pictures.drawing import colour_labels, draw_cells, draw_objects, heat, photo

GREY = 100


def colour(label: int) -> np.ndarray:
    return (255 * np.array(to_rgb(class_colour(label)))).round()


def record(mask: np.ndarray, box: list[float]) -> dict[str, object]:
    return {"segmentation": encode_mask(mask), "bbox": box}


def test_objects_are_tinted_and_framed() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 7:12] = 1
    shown = draw_objects(np.full((20, 30, 3), GREY, np.uint8), (20, 30), [(record(mask, [5, 3, 10, 8]), 1)])
    expected = np.full((20, 30, 3), GREY)
    expected[5:9, 7:12] = (0.45 * GREY + 0.55 * 255 * np.array(to_rgb(class_colour(1)))).round()
    for line in ((3, slice(5, 15)), (10, slice(5, 15)), (slice(3, 11), 5), (slice(3, 11), 14)):
        expected[line] = colour(1)
    np.testing.assert_array_equal(shown, expected)


def test_objects_of_a_large_image_are_shrunk_with_it() -> None:
    mask = np.zeros((600, 1024), np.uint8)
    mask[200:300, 100:400] = 1
    picture = photo(np.full((3, 600, 1024), GREY, np.uint8))
    assert picture.shape == (300, 512, 3)
    shown = draw_objects(picture, (600, 1024), [(record(mask, [100, 200, 300, 100]), 0)])
    changed = np.argwhere((shown != GREY).any(axis=2))
    np.testing.assert_array_equal([changed.min(0), changed.max(0)], [[100, 50], [149, 199]])
    assert (shown[100, 50:200] == colour(0)).all()


def test_a_box_has_a_pixel_at_least_and_may_leave_the_image() -> None:
    empty = np.zeros((20, 30), np.uint8)
    black = np.zeros((20, 30, 3), np.uint8)
    tiny = draw_objects(black, (20, 30), [(record(empty, [4, 6, 0.2, 0.2]), 0)])
    assert tiny[6, 4].any()
    leaving = draw_objects(black, (20, 30), [(record(empty, [28, 18, 9, 9]), 0)])
    np.testing.assert_array_equal(np.argwhere(leaving.any(axis=2)), [[18, 28], [18, 29], [19, 28]])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 30), (3, 2000)])
def test_photos_keep_their_form(height: int, width: int) -> None:
    shown = photo(np.full((3, height, width), GREY, np.uint8))
    assert max(shown.shape) == min(512, max(height, width, 3))
    assert (shown == GREY).all()


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("bands", [[2], [1, 2]])
def test_one_band_and_two_become_a_photo(tmp_path: Path, bands: list[int]) -> None:
    path = tmp_path / "two.tif"
    with rasterio.open(path, "w", driver="GTiff", width=30, height=20, count=2, dtype="uint8") as file:
        file.write(np.stack([np.full((20, 30), GREY), np.full((20, 30), 7)]).astype(np.uint8))
    pixels = read_image(path, bands).numpy()
    np.testing.assert_array_equal(photo(pixels), np.moveaxis(pixels, 0, 2))


def test_every_class_has_its_colour_and_what_is_not_labelled_is_dark_grey() -> None:
    labels = np.append(np.arange(30), IGNORE).astype(np.uint8)[None]
    shown = colour_labels(labels, 30)[0]
    np.testing.assert_array_equal(shown[:30], (class_rgb(30) * 255).round())
    np.testing.assert_array_equal(shown[30], [0x40] * 3)
    assert len(np.unique(shown, axis=0)) == 31


def test_large_labels_are_shrunk_without_mixing_classes() -> None:
    labels = np.zeros((2048, 1000), np.uint8)
    labels[1024:] = 2
    shown = colour_labels(labels, 3)
    assert shown.shape == (512, 250, 3)
    assert (shown[:256] == colour(0)).all()
    assert (shown[256:] == colour(2)).all()


def test_cells_of_a_map_fill_a_picture() -> None:
    cells = np.zeros((3, 10, 3))
    cells[0, 1] = [1.0, 0.5, np.nan]
    shown = draw_cells(cells, (75, 250))
    assert shown.shape == (75, 250, 3)
    assert (shown[:25, 25:50] == [255, 128, 0]).all()
    assert shown.sum() == 25 * 25 * (255 + 128)
    assert draw_cells(cells, (2, 33)).shape == (2, 33, 3)


@pytest.mark.parametrize(("height", "width"), [(1000, 333), (777, 1025), (40, 30), (3, 2000)])
def test_a_photo_and_its_labels_have_one_size(height: int, width: int) -> None:
    labels = np.zeros((height, width), np.uint8)
    assert colour_labels(labels, 1).shape == photo(np.zeros((3, height, width), np.uint8)).shape


def test_heat_grows_with_the_error_and_ends_at_the_baseline() -> None:
    shown = heat(np.array([[0.0, 0.25, 0.5, 0.75, 1.0, 3.0, np.nan]]))[0]
    assert (np.diff(shown[:5].sum(axis=1)) > 0.1).all()
    assert (shown[4:] == shown[4]).all()
