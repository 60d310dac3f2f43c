"""Outlines equal those of GDAL, are always valid, and their area is the number of pixels."""

import numpy as np
import pytest
import shapely
from rasterio import features
from scipy import ndimage

from distill.patch import Patch
from distill.scene.outlines import outlines
from tests.scene.objects import random_masks


def by_gdal(mask: Patch) -> shapely.Geometry:
    """The reference implementation, one call for each mask."""
    found = features.shapes(mask.pixels, mask=mask.pixels == 1, connectivity=4)
    whole = shapely.union_all([shapely.geometry.shape(shape) for shape, _ in found])
    return shapely.transform(whole, lambda points: points + np.array([mask.left, mask.top]))


@pytest.mark.parametrize("seed", range(2))
def test_outlines_equal_those_of_gdal(seed: int) -> None:
    masks = random_masks(seed, 40)
    polygons = outlines(masks)
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).tolist() == [mask.pixels.sum() for mask in masks]
    for mask, polygon in zip(masks, polygons, strict=True):
        reference = by_gdal(mask)
        assert shapely.equals(polygon, reference)
        assert shapely.get_num_geometries(polygon) == ndimage.label(mask.pixels)[1]
        rings = shapely.get_num_interior_rings(shapely.get_parts(polygon))
        assert rings.sum() == shapely.get_num_interior_rings(shapely.get_parts(reference)).sum()
        assert all(part.exterior.is_ccw for part in shapely.get_parts(polygon))
        assert not any(hole.is_ccw for part in shapely.get_parts(polygon) for hole in part.interiors)


def test_every_mask_of_nine_pixels() -> None:
    bits = (np.arange(512)[:, None] >> np.arange(9)) & 1
    masks = [Patch(5, 7, row.reshape(3, 3).astype(np.uint8)) for row in bits]
    polygons = outlines(masks)
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).tolist() == bits.sum(axis=1).tolist()
    assert shapely.equals(polygons[::3], [by_gdal(mask) for mask in masks[::3]]).all()


def test_corners_of_pixels_are_vertices() -> None:
    (polygon,) = outlines([Patch(10, 20, np.ones((2, 3), np.uint8))])
    assert set(polygon.exterior.coords) == {(20, 10), (23, 10), (23, 12), (20, 12)}
    assert len(polygon.exterior.coords) == 5


def test_masks_may_be_empty() -> None:
    assert len(outlines([])) == 0
    empty = [Patch(0, 0, np.zeros(size, np.uint8)) for size in ((3, 3), (0, 0), (4, 0))]
    assert shapely.is_empty(outlines(empty)).all()
    mixed = outlines([empty[1], Patch(1, 1, np.ones((2, 2), np.uint8)), empty[0]])
    assert shapely.area(mixed).tolist() == [0, 4, 0]


def test_large_masks_are_traced_apart() -> None:
    masks = [Patch(0, 0, np.ones((900, width), np.uint8)) for width in (2, 1200, 700, 1)]
    assert shapely.area(outlines(masks)).tolist() == [1800, 1_080_000, 630_000, 900]
