"""Rasters of every kind, written by rasterio with values that are known, and the one rule that makes them RGB."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.env import get_gdal_config

from distill.data.images import BrokenImage, decode_image, read_image, read_mask
from distill.data.levels import stretch
from distill.data.rasters import open_raster, read_raster, turn_upright

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of writing them

H, W = 24, 40
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64")


def values(bands: int, seed: int = 0) -> NDArray[np.uint16]:
    """Values as a sensor of 12 bits gives them (B, H, W), with a bright scatterer."""
    scene = np.random.default_rng(seed).gamma(2, 300, (bands, H, W)).astype(np.uint16)
    scene[:, 3, 5] = 4095
    return scene


def write(
    path: Path, bands: NDArray[Any], mask: NDArray[Any] | None = None, meanings: Any = None, **options: Any
) -> Path:
    count, height, width = bands.shape
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    with rasterio.open(path, "w", **(shape | options)) as dataset:
        dataset.write(bands)
        if mask is not None:
            dataset.write_mask(mask)
        if meanings is not None:
            dataset.colorinterp = meanings
    return path


def by_rule(bands: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """The stretch, written down a second time."""
    valid = np.ones(bands.shape, bool) if valid is None else valid
    low, high = np.percentile(bands[valid].astype(float), (1, 99))
    return np.where(valid, np.round(((bands.astype(float) - low) / (high - low)).clip(0, 1) * 255), 0)


def shown(path: Path, bands: list[int] | None = None) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = read_image(path, bands)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    return pixels.numpy()


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 13])
def test_bands_of_any_number_and_type(tmp_path: Path, count: int, dtype: str, interleave: str) -> None:
    stored = (values(count) % 100).astype(dtype) - np.array(50 * (not dtype.startswith("u"))).astype(dtype)
    pixels = shown(write(tmp_path / "a.tif", stored, photometric="MINISBLACK", alpha="NO", interleave=interleave))
    chosen = [0, 1, 0] if count == 2 else [0, 0, 0] if count == 1 else [0, 1, 2]
    expected = stored if dtype == "uint8" else by_rule(stored[: min(count, 3)])
    assert np.array_equal(pixels, expected[chosen])


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("int16", -32768),
        ("uint16", 65535),
        ("uint16", 0),
        ("float32", -9999.0),
        ("float32", np.nan),
        ("float64", -1e38),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_nodata_is_black_and_counts_for_nothing(tmp_path: Path, dtype: str, nodata: float, count: int) -> None:
    stored = values(count).astype(dtype) + np.array(1).astype(dtype)
    stored[:, :, :9] = nodata
    valid = np.ones(stored.shape, bool)
    valid[:, :, :9] = False
    pixels = shown(write(tmp_path / "a.tif", stored, nodata=nodata))
    assert np.array_equal(pixels[:count], by_rule(stored, valid))
    assert len(np.unique(pixels)) > 100


def test_masks_and_transparency_are_black_unless_8_bit(tmp_path: Path) -> None:
    stored, inside = values(3), np.ones((H, W), bool)
    inside[:, :9] = False
    stored[:, ~inside] = 60_000
    expected = by_rule(stored, np.broadcast_to(inside, stored.shape))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        masked = write(tmp_path / "mask.tif", stored, mask=inside)
    assert not masked.with_suffix(".tif.msk").exists()
    assert np.array_equal(shown(masked), expected)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        beside = write(tmp_path / "beside.tif", stored, mask=inside)
    assert beside.with_suffix(".tif.msk").exists()
    assert np.array_equal(shown(beside), expected)
    alpha = np.concatenate([stored, inside[None] * np.uint16(65535)])
    assert np.array_equal(shown(write(tmp_path / "alpha.tif", alpha, photometric="RGB", alpha="YES")), expected)
    colours = (alpha % 256).astype(np.uint8)
    rgba = write(tmp_path / "rgba.tif", colours, photometric="RGB", alpha="YES")
    assert np.array_equal(shown(rgba), colours[:3])


def test_every_band_has_its_own_nodata_pixels(tmp_path: Path) -> None:
    stored = values(3) + np.uint16(1)
    stored[1, 4:8] = 0
    pixels = shown(write(tmp_path / "a.tif", stored, nodata=0))
    assert np.array_equal(pixels, by_rule(stored, stored != 0))


def test_what_is_not_finite_is_no_data(tmp_path: Path) -> None:
    decibels = 10 * np.log10(values(1).astype(np.float32) / 1000 + 1e-4)
    decibels[0, :2] = -np.inf
    decibels[0, 2:4] = np.inf
    decibels[0, 4:6] = np.nan
    assert np.array_equal(shown(write(tmp_path / "a.tif", decibels))[:1], by_rule(decibels, np.isfinite(decibels)))
    nothing = write(tmp_path / "nothing.tif", np.full((1, H, W), -9999, np.float32), nodata=-9999)
    assert decode_image(nothing).without_data
    assert shown(nothing).max() == 0
    assert not decode_image(tmp_path / "a.tif").without_data


def test_scale_and_offset_are_applied_where_bands_differ_in_them(tmp_path: Path) -> None:
    stored = values(3).astype(np.int16)
    path = write(tmp_path / "a.tif", stored)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1.0, 2.0, -0.5), (0.0, 100.0, 1000.0)
    factors = np.array([[1, 2, -0.5], [0, 100, 1000]])[:, :, None, None]
    assert np.array_equal(shown(path), by_rule(stored * factors[0] + factors[1]))


def test_bands_are_chosen_by_their_colour_or_by_number(tmp_path: Path) -> None:
    stored = (values(5) % 256).astype(np.uint8)
    meanings = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha]
    path = write(tmp_path / "a.tif", stored, meanings=meanings)
    assert np.array_equal(shown(path), stored[[3, 2, 1]])
    assert decode_image(path).left_out == "has 4 bands, of which 4, 3, 2 are shown as red, green, blue"
    assert np.array_equal(shown(path, [5, 1, 1]), stored[[4, 0, 0]])
    assert np.array_equal(shown(path, [3]), stored[[2, 2, 2]])
    assert np.array_equal(shown(path, [2, 4]), stored[[1, 3, 1]])
    assert decode_image(path, [2]).left_out == ""
    with pytest.raises(
        BrokenImage, match=r"a\.tif' has 5 bands, but data\.bands is \[6\]; name bands that every image"
    ):
        read_image(path, [6])
    two = write(tmp_path / "two.tif", stored[:2], photometric="MINISBLACK")
    assert decode_image(two).left_out == "has 2 bands, of which 1, 2, 1 are shown as red, green, blue"
    for count in (1, 3):
        assert decode_image(write(tmp_path / "all.tif", stored[:count])).left_out == ""
    Image.fromarray(np.ascontiguousarray(np.moveaxis(stored[:4], 0, 2))).save(tmp_path / "a.png")
    assert np.array_equal(shown(tmp_path / "a.png", [4, 2, 1]), stored[[3, 1, 0]])


def test_palettes_inverted_grey_and_few_bits(tmp_path: Path) -> None:
    index = (values(1) % 4).astype(np.uint8)
    path = write(tmp_path / "palette.tif", index)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (10 * i, 20 * i, 30 * i, 255) for i in range(4)})
    assert np.array_equal(shown(path), index * np.array([10, 20, 30], np.uint8)[:, None, None])
    assert np.array_equal(read_mask(path, colours=False), index[0])
    assert np.array_equal(read_mask(path, colours=True), index[0] * np.uint32(10 << 16 | 20 << 8 | 30))
    white = write(tmp_path / "white.tif", index * np.uint8(60), photometric="MINISWHITE")
    assert np.array_equal(shown(white)[:1], 255 - index * 60)
    deep = write(tmp_path / "deep.tif", values(1), photometric="MINISWHITE")
    assert np.array_equal(shown(deep)[:1], by_rule(65535 - values(1).astype(int)))
    for bits in (1, 2, 4):
        few = (values(1) % 2**bits).astype(np.uint8)
        pixels = shown(write(tmp_path / "few.tif", few, nbits=bits))
        assert np.array_equal(pixels[:1], few * (255 // (2**bits - 1)))


@pytest.mark.parametrize(
    "options",
    [
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2},
        {"compress": "lzw", "interleave": "band"},
        {"compress": "zstd", "BIGTIFF": "YES"},
        {"driver": "ENVI"},
        {"driver": "HFA"},
    ],
)
def test_files_of_any_layout(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.img", values(3), **options)
    assert np.array_equal(shown(path), by_rule(values(3)))


def test_jpeg_2000_and_deep_png(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif", values(3))
    rasterio.shutil.copy(source, tmp_path / "a.jp2", driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    rasterio.shutil.copy(source, tmp_path / "a.png", driver="PNG")
    for suffix in ("jp2", "png"):
        assert np.array_equal(shown(tmp_path / f"a.{suffix}"), by_rule(values(3)))


def test_the_first_page_is_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((H, W), level, np.uint8)) for level in (70, 90)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert np.unique(shown(tmp_path / "a.tif")).tolist() == [70]


def test_windows_are_parts_of_the_whole_and_the_cache_of_blocks_is_capped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values(3), tiled=True, blockxsize=16, blockysize=16, interleave="band", nodata=300)
    stored = read_raster(path)
    with open_raster(path) as raster:
        assert get_gdal_config("GDAL_CACHEMAX") == 64 * 2**20
        found, valid = raster.read(5, 9, 11, 20)
    assert stored.valid is not None
    assert np.array_equal(found, stored.values[:, 5:16, 9:29])
    assert np.array_equal(valid, stored.valid[:, 5:16, 9:29])


def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path) -> None:
    from PIL import ImageOps

    picture = Image.fromarray(np.moveaxis((values(3) % 256).astype(np.uint8), 0, 2))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(tmp_path / "a.png", exif=exif)
        picture.save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
        upright = np.moveaxis(np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))), 2, 0)
        for suffix in ("png", "tif"):
            assert np.array_equal(shown(tmp_path / f"a.{suffix}"), upright), (suffix, orientation)
            assert decode_image(tmp_path / f"a.{suffix}").turned == (orientation != 1)
        assert np.array_equal(turn_upright(np.moveaxis(np.asarray(picture), 2, 0), orientation), upright)


def test_what_cannot_be_shown_is_one_line(tmp_path: Path) -> None:
    waves = write(tmp_path / "waves.tif", values(1).astype(np.complex64))
    with pytest.raises(
        BrokenImage, match=r"waves\.tif' has complex values \(complex64\); save amplitude or intensity$"
    ):
        read_image(waves)
    inks = write(tmp_path / "inks.tif", values(4), photometric="CMYK")
    with pytest.raises(BrokenImage, match=r"inks\.tif' has CMYK colours of uint16; save it as RGB$"):
        read_image(inks)


@pytest.mark.parametrize("options", [{}, {"compress": "lzw"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_truncated_files_are_named_and_nothing_else_is_printed(
    tmp_path: Path, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    whole = write(tmp_path / "whole.tif", values(3), **options).read_bytes()
    cut = tmp_path / "cut.tif"
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BrokenImage, match=r"^image '.*cut\.tif' is (damaged \([^\n]+\)|not an image[^\n]+)$"):
            read_image(cut)
    assert capfd.readouterr() == ("", "")


def test_names_that_gdal_could_take_for_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = write(tmp_path / "plain.tif", values(1)).read_bytes()
    for name in ("a#b.tif", "a?b.tif", "zip:x.tif", "s3:x.tif", "a b!c.tif", "é.tif"):
        Path(name).write_bytes(written)
        assert np.array_equal(shown(Path(name)), shown(tmp_path / "plain.tif"))


def test_stretch_of_adjacent_and_constant_values() -> None:
    assert stretch(np.full((1, 4, 4), 7, np.int16)).max() == 0
    assert stretch(np.array([[[-30_000, 30_000]]], np.int16)).tolist() == [[[0, 255]]]
