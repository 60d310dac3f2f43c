"""Masks and features that the tests of the files share."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from scipy import ndimage

from distill.patch import Patch
from distill.scene.detections import Detection
from distill.scene.feature_writer import FeatureWriter
from distill.scene.features import Feature, PolygonSettings, make_features
from distill.scene.georeference import Georeference

CLASS_NAMES = ["Gebäude", 'so-called "pool"', "it's a ship"]
UTM = Georeference((0.5, 0.0, 500_000.0, 0.0, -0.5, 5_400_000.0), CRS.from_epsg(32632).to_wkt())
DEGREES = Georeference((1e-5, 0.0, 10.0, 0.0, -1e-5, 50.0), CRS.from_epsg(4326).to_wkt())
TURNED = Georeference((0.3, 0.4, 500_000.0, 0.4, -0.3, 5_400_000.0), CRS.from_epsg(32632).to_wkt())


def random_masks(seed: int, count: int) -> list[Patch]:
    """Blobs and noise of up to 40 px with holes, parts, and pixels that touch at corners only; none is empty."""
    rng = np.random.default_rng(seed)
    masks = []
    while len(masks) < count:
        noise = ndimage.gaussian_filter(rng.random(rng.integers(1, 40, 2)), rng.choice([0, 0, 1, 3]))
        pixels = (noise >= np.quantile(noise, rng.choice([0.1, 0.5, 0.8]))).astype(np.uint8)
        masks.append(Patch(*rng.integers(0, 200, 2).tolist(), pixels))
    return masks


def detection(mask: Patch, label: int = 0, score: float = 0.75) -> Detection:
    rows, columns = mask.pixels.shape
    box = (float(mask.left), float(mask.top), float(mask.left + columns), float(mask.top + rows))
    return Detection((1, 2), box, score, label, mask)


def features_of(
    masks: list[Patch], georeference: Georeference | None = None, settings: PolygonSettings | None = None
) -> list[Feature]:
    """Features with the classes in turn and falling scores."""
    detections = [detection(mask, number % 3, 1 - number / 1000) for number, mask in enumerate(masks)]
    return make_features(detections, 1, CLASS_NAMES, georeference, settings or PolygonSettings())


def pasted(patch: Patch, height: int, width: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    rows, columns = patch.pixels.shape
    mask[patch.top : patch.top + rows, patch.left : patch.left + columns] = patch.pixels
    return mask


class Stopped(Exception):
    """What stops a writer in the tests."""


def stop_after(writer: FeatureWriter, features: list[Feature]) -> None:
    """Hands features to a writer, whose file is there then, and fails."""
    with writer:
        writer.add(features)
        assert writer.path.exists()
        raise Stopped


@contextmanager
def full_disk(room: int = 4096) -> Iterator[None]:
    """Files can grow to so many bytes only."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
