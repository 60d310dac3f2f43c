"""Class maps as cloud-optimised GeoTIFFs: colours, names, nodata, and overviews by the most frequent class."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy
from rio_cogeo import cog_validate

from distill.colours import class_rgb
from distill.errors import UserError
from distill.scene.class_raster import ClassRasterWriter, sidecar
from distill.scene.mosaic import ClassBlock

NAMES = ["forest & field", "water", "Straße"]
HEIGHT, WIDTH = 1100, 1300
UTM = rasterio.crs.CRS.from_epsg(32632).to_wkt()
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
ROTATED = (0.4, 0.3, 400000.0, 0.3, -0.4, 5e6)


def scene() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels: of each four pixels that make one of the first overview, three are of one class. And confidences."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (HEIGHT // 20, WIDTH // 20), np.uint8).repeat(20, 0).repeat(20, 1)
    labels[1::2, 1::2] = (labels[1::2, 1::2] + 2) % 3
    labels[:100, :300] = 255
    return labels, np.where(labels == 255, 0, 100 + labels).astype(np.uint8)


def blocks(labels: NDArray[np.uint8], confidence: NDArray[np.uint8] | None, height: int) -> Iterator[ClassBlock]:
    for top in range(0, len(labels), height):
        rows = slice(top, top + height)
        yield ClassBlock(top, labels[rows], None if confidence is None else confidence[rows])


def write(folder: Path, georeference: object, height: int = 300) -> list[Path]:
    labels, confidence = scene()
    paths = folder / "map.tif", folder / "map_confidence.tif"
    folder.mkdir()
    writer = ClassRasterWriter(paths[0], HEIGHT, WIDTH, NAMES, georeference, paths[1])  # type: ignore[arg-type]
    for block in blocks(labels, confidence, height):
        writer.write(block)
    files = writer.close()
    assert sorted(folder.iterdir()) == sorted(files) == sorted([*paths, sidecar(paths[0])])
    return files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raster") / "utm"
    return write(folder, SimpleNamespace(transform=ROTATED, wkt=UTM))[0]


def test_files_are_valid_and_hold_what_was_written(written: Path) -> None:
    labels, confidence = scene()
    for path, values in ((written, labels), (written.with_name("map_confidence.tif"), confidence)):
        assert cog_validate(path, strict=True) == (True, [], [])
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(raster.read(1), values)
            assert raster.transform.almost_equals(rasterio.Affine(*ROTATED))
            assert raster.crs == rasterio.crs.CRS.from_epsg(32632)
            assert raster.block_shapes == [(512, 512)]
            assert raster.profile["compress"] == "deflate"
            np.testing.assert_array_equal(raster.dataset_mask() > 0, labels != 255)


def test_labels_have_colours_and_names(written: Path, tmp_path: Path) -> None:
    with rasterio.open(written) as raster:
        assert raster.nodata == 255
        assert raster.tags(1) == {f"CLASS_{label}": name for label, name in enumerate(NAMES)}
        table = raster.colormap(1)
        assert [table[label] for label in range(3)] == [
            (*colour, 255) for colour in np.rint(class_rgb(3) * 255).astype(int).tolist()
        ]
    copy(written, tmp_path / "map.vrt", driver="VRT")
    categories = ElementTree.parse(tmp_path / "map.vrt").iter("Category")
    assert [category.text for category in categories] == NAMES


def test_confidences_are_probabilities_by_their_scale(written: Path) -> None:
    with rasterio.open(written.with_name("map_confidence.tif")) as raster:
        assert raster.nodata == 0
        assert raster.scales == pytest.approx((1 / 255,))
        assert raster.descriptions == ("confidence",)


def test_overviews_show_the_most_frequent_class(written: Path) -> None:
    labels = scene()[0]
    whole = np.stack([labels[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    counts = np.stack([(whole == label).sum(0) for label in range(3)])
    with rasterio.open(written, overview_level=0) as raster:
        shown = raster.read(1)
    assert shown.shape == (HEIGHT // 2, WIDTH // 2)
    np.testing.assert_array_equal(shown, np.where(counts.any(0), counts.argmax(0), 255))


def test_the_bytes_depend_on_nothing_else(written: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again", SimpleNamespace(transform=ROTATED, wkt=UTM), height=77)
    for path in again:
        assert path.read_bytes() == (written.parent / path.name).read_bytes()


@pytest.mark.parametrize(
    "georeference",
    [
        None,
        SimpleNamespace(transform=(1.0, 0.0, 5.0, 0.0, 1.0, 7.0), wkt=None),  # south up, no CRS
        SimpleNamespace(transform=ROTATED, wkt=LOCAL),
    ],
)
def test_a_scene_without_crs_is_written_too(georeference: SimpleNamespace | None, tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6) % 3
    writer = ClassRasterWriter(path, 5, 6, NAMES, georeference)  # type: ignore[arg-type]
    writer.write(ClassBlock(0, labels, None))
    assert writer.close() == [path, sidecar(path)]
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), labels)
        assert raster.transform == rasterio.Affine(*(georeference.transform if georeference else (1, 0, 0, 0, 1, 0)))
        assert (raster.crs is None) == (georeference is None or georeference.wkt is None)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"map\.tif cannot be written"):
        ClassRasterWriter(tmp_path / "file" / "map.tif", 5, 6, NAMES, None)
    writer = ClassRasterWriter(tmp_path / "map.tif", 5, 6, NAMES, None)
    (tmp_path / "map.tif").mkdir()
    writer.write(ClassBlock(0, np.zeros((5, 6), np.uint8), None))
    with pytest.raises(UserError, match=r"map\.tif cannot be written"):
        writer.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "map.tif"]
    short = ClassRasterWriter(tmp_path / "short.tif", 5, 6, NAMES, None)
    with pytest.raises(ValueError, match="0 of 5 rows"):
        short.close()
