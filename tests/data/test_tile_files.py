"""Tiles as files: what is read from them is what is read from that place of the whole image."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from distill.data.images import BrokenImage, read_image, read_mask
from distill.data.rasters import read_raster
from distill.data.tile_files import open_tiles
from distill.data.tiling import Tile
from tests.data.published import scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of writing them

TILE = Tile(0, 0, top=5, left=11, height=16, width=24)
PLACE = Affine(0.5, 0.1, 500_000.0, 0.1, -0.5, 5_000_000.0)  # turned a little
RED_GREEN_BLUE = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def raster(path: Path, dtype: str = "uint8", count: int = 1, after: Any = None, **options: Any) -> Path:
    """Random values in 30 x 50 pixels; `after` changes the open dataset."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 20, (count, 30, 50)).astype(dtype)
    if options.get("nbits") == 1:
        values %= 2
    shape = {"driver": "GTiff", "count": count, "height": 30, "width": 50, "dtype": dtype, "transform": PLACE}
    with rasterio.open(path, "w", **(shape | {"crs": "EPSG:32632"} | options)) as dataset:
        dataset.write(values)
        if after is not None:
            after(dataset)
    return path


def cut(path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    with open_tiles(path) as image:
        out = folder / f"tile{image.suffix}"
        image.write(TILE, out)
    return out


def colours(dataset: Any) -> None:
    dataset.write_colormap(1, {number: (number, 255 - number, 7, 255) for number in range(256)})


def meanings(*names: ColorInterp) -> Callable[[Any], None]:
    def after(dataset: Any) -> None:
        dataset.colorinterp = names

    return after


def scaled(dataset: Any) -> None:
    dataset.scales, dataset.offsets = (0.5, 2.0), (-3.0, 1.0)
    dataset.descriptions = ("near infrared", "red")


def masked(dataset: Any) -> None:
    dataset.write_mask(np.random.default_rng(1).random((30, 50)) > 0.3)


KINDS: dict[str, dict[str, Any]] = {
    **{dtype: {"dtype": dtype} for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int64", "float32")},
    "eight bands with nodata": {"dtype": "uint16", "count": 8, "nodata": 20, "tiled": True, "blockxsize": 16,
                                "blockysize": 16},
    "rgb as jpeg": {"count": 3, "photometric": "YCBCR", "compress": "JPEG"},
    "infrared first": {"count": 4, "after": meanings(ColorInterp.undefined, *RED_GREEN_BLUE)},
    "transparent": {"count": 4, "after": meanings(*RED_GREEN_BLUE, ColorInterp.alpha)},
    "palette": {"after": colours},
    "one bit": {"nbits": 1},
    "white is zero": {"photometric": "MINISWHITE"},
    "scaled": {"dtype": "int16", "count": 2, "after": scaled},
    "masked": {"dtype": "uint16", "after": masked},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_of_a_raster_is_that_window_of_it(tmp_path: Path, kind: str) -> None:
    path = raster(tmp_path / "whole.tif", **KINDS[kind])
    out = cut(path, tmp_path / "out")
    place = np.s_[..., TILE.top : TILE.top + TILE.height, TILE.left : TILE.left + TILE.width]
    whole, tile = read_raster(path), read_raster(out)
    np.testing.assert_array_equal(tile.values, whole.values[place])
    assert tile.values.dtype == whole.values.dtype
    assert (tile.valid is None) == (whole.valid is None)
    if whole.valid is not None:
        np.testing.assert_array_equal(tile.valid, whole.valid[place])
    np.testing.assert_array_equal(tile.palette, whole.palette)
    with rasterio.open(path) as source, rasterio.open(out) as target:
        for key in ("crs", "nodata", "dtypes", "colorinterp", "descriptions", "scales"):
            assert getattr(target, key) == getattr(source, key), key
        # The same point on the ground, wherever it is asked.
        np.testing.assert_allclose(target.transform @ (3, 4), source.transform @ (TILE.left + 3, TILE.top + 4))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_a_tile_of_a_photo_is_that_part_of_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("whole.jpg" if mode == "CMYK" else "whole.png")
    scene(3, 30, 50).convert(mode).save(path)
    out = cut(path, tmp_path / "out")
    assert out.suffix == ".png"
    expected = read_image(path)[:, TILE.top : TILE.top + TILE.height, TILE.left : TILE.left + TILE.width]
    assert (read_image(out) == expected).all()
    if mode == "P":  # indices stay
        whole = read_mask(path, colours=False)[TILE.top : TILE.top + TILE.height, TILE.left : TILE.left + TILE.width]
        np.testing.assert_array_equal(read_mask(out, colours=False), whole)


def test_a_photo_is_cut_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(3, 50, 30).save(tmp_path / "whole.png", exif=exif)
    whole = read_image(tmp_path / "whole.png")
    assert whole.shape == (3, 30, 50)
    tile = read_image(cut(tmp_path / "whole.png", tmp_path / "out"))
    assert (tile == whole[:, TILE.top : TILE.top + TILE.height, TILE.left : TILE.left + TILE.width]).all()


def test_a_raster_without_a_place_gets_none(tmp_path: Path) -> None:
    path = raster(tmp_path / "whole.tif", "uint16", crs=None, transform=Affine.identity())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(cut(path, tmp_path / "out")) as tile:
            assert tile.crs is None
            assert tile.transform.is_identity


def test_where_there_is_data(tmp_path: Path) -> None:
    def hole(dataset: Any) -> None:
        values = np.full((1, 30, 50), 9, np.uint8)
        values[0, 5:21, 11:35] = 0
        dataset.write(values)

    with open_tiles(raster(tmp_path / "a.tif", nodata=0, after=hole)) as image:
        assert (image.height, image.width) == (30, 50)
        assert not image.holds_data(TILE)
        assert image.holds_data(TILE._replace(top=6))
    with open_tiles(raster(tmp_path / "b.tif", after=hole)) as image:
        assert image.holds_data(TILE)


def test_what_cannot_be_cut_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no image")
    whole = raster(tmp_path / "whole.tif", "uint16").read_bytes()
    (tmp_path / "half.tif").write_bytes(whole[: len(whole) // 2])
    for name, message in (("none.tif", "not exist"), ("empty.tif", "empty file"), ("text.tif", "not an image")):
        with pytest.raises(BrokenImage, match=message), open_tiles(tmp_path / name):
            pass
    with pytest.raises(BrokenImage, match=r"half\.tif' is damaged"):
        cut(tmp_path / "half.tif", tmp_path / "out")
    Image.fromarray(np.zeros((30, 50), np.uint16)).save(tmp_path / "turned.tif", tiffinfo={0x0112: 6})
    with pytest.raises(BrokenImage, match="turned by its orientation tag"):
        cut(tmp_path / "turned.tif", tmp_path / "out")
