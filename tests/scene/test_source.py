"""Scenes of every kind of file: their pixels by window against the whole image as training reads it."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.enums import Resampling

from distill.data.fitting import PADDING
from distill.data.images import BrokenImage, decode_image, read_image
from distill.errors import UserError
from distill.process_memory import forget_peak, process_bytes
from distill.scene import chunks
from distill.scene.source import SourceOptions, open_scene
from tests.scene.kinds import INSIDE, KINDS, TILED, check_windows, eight, whole
from tests.scene.rasters import UTM, sensor, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of writing them

CASES = Path(__file__).parents[2] / "../shared/cases/12-geotiff-kinds"
FILL = np.rint(np.array(PADDING) * 255).astype(np.uint8)[:, None, None]


@pytest.mark.parametrize("piece", [chunks.PIECE, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_crops_of_the_image_that_training_reads(
    tmp_path: Path, kind: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PIECE", piece)
    path = KINDS[kind](tmp_path / "a.tif")
    with open_scene(path) as scene:
        check_windows(scene)
        pixels, valid = whole(scene)
        assert np.array_equal(pixels[:, valid], read_image(path).numpy()[:, valid])
        assert (pixels[:, ~valid] == FILL[:, :, 0]).all()
        assert scene.has_mask or valid.all()
        assert (scene.stretch is None) == (read_kind(path) == "uint8")
        assert scene.georeference is not None


def read_kind(path: Path) -> str:
    with rasterio.open(path) as dataset:
        return str(dataset.dtypes[0])


def test_what_is_data_in_no_band_is_no_data(tmp_path: Path) -> None:
    with open_scene(KINDS["nodata of 16 bits"](tmp_path / "a.tif")) as scene:
        expected = np.ones((90, 130), bool)
        expected[:40, :50] = False
        assert np.array_equal(whole(scene)[1], expected)
    with open_scene(KINDS["mask of 16 bits"](tmp_path / "b.tif")) as scene:
        assert np.array_equal(whole(scene)[1], INSIDE)
    with open_scene(KINDS["all nodata"](tmp_path / "c.tif")) as scene:
        assert not whole(scene)[1].any()


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the GeoTIFFs of ../shared/cases/12-geotiff-kinds")
def test_ordinary_geotiffs() -> None:
    paths = sorted(CASES.glob("*.tif"))
    assert paths
    for path in paths:
        with open_scene(path) as scene:
            check_windows(scene)
            pixels, valid = whole(scene)
            assert np.array_equal(pixels[:, valid], read_image(path).numpy()[:, valid])


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_photo_is_what_training_reads(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, picture = tmp_path / f"a.{suffix}", Image.fromarray(np.moveaxis(eight(3), 0, 2))
    if suffix == "tif":
        picture.save(path, tiffinfo={0x0112: orientation})
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(path, exif=exif)
    with open_scene(path) as scene:
        check_windows(scene)
        pixels, valid = whole(scene)
        assert np.array_equal(pixels, decode_image(path).pixels.numpy())
        assert valid.all()
        assert scene.georeference is None
        assert scene.notes == ["has no georeference, so its results are in pixels"]
        assert (scene.height, scene.width) == ((130, 90) if orientation == 6 else (90, 130))


def test_images_without_georeference_are_what_training_reads(tmp_path: Path) -> None:
    """Nodata included, which is black there."""
    for kind in ("nodata of 16 bits", "radar", "mask of 16 bits"):
        written = KINDS[kind](tmp_path / "placed.tif")
        with rasterio.open(written) as dataset:
            mask = dataset.dataset_mask() != 0 if kind.startswith("mask") else None
            plain = write(
                tmp_path / "a.tif", dataset.read(), mask=mask, nodata=dataset.nodata, crs=None, transform=None
            )
        with open_scene(plain) as scene:
            assert np.array_equal(whole(scene)[0], decode_image(plain).pixels.numpy())
    path = tmp_path / "deep.png"
    Image.fromarray(sensor(1)[0]).save(path)
    with open_scene(path) as scene:
        assert np.array_equal(whole(scene)[0], decode_image(path).pixels.numpy())


def test_turned_files_that_cannot_be_turned_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.moveaxis(eight(3), 0, 2)).save(
        path, tiffinfo={0x0112: 6, 33550: (0.5, 0.5, 0.0), 33922: (0.0,) * 6}
    )
    with pytest.raises(
        UserError, match=r"^image '.*a\.tif' is stored turned \(orientation 6\) and its georeference is .*; drop"
    ):
        open_scene(path).__enter__()
    with rasterio.open(path) as dataset:  # what the message says
        rasterio.shutil.copy(dataset, tmp_path / "b.tif", driver="GTiff")
    with open_scene(tmp_path / "b.tif") as scene:
        assert np.array_equal(whole(scene)[0], eight(3))
    monkeypatch.setattr("distill.scene.source.LARGEST_IMAGE", 1000)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.moveaxis(eight(3), 0, 2)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(
        UserError, match=r"stored turned \(orientation 6\) and is too large to turn in memory; save it upright"
    ):
        open_scene(tmp_path / "a.jpg").__enter__()


def test_photos_too_large_to_decode_are_read_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.moveaxis(eight(3), 0, 2)).save(path)
    monkeypatch.setattr("distill.scene.source.LARGEST_IMAGE", 1000)
    monkeypatch.setattr("distill.scene.source.read_stored", lambda *_: pytest.fail("decoded whole"))
    with open_scene(path) as scene:
        check_windows(scene)
        assert np.array_equal(whole(scene)[0], eight(3))


def test_bands_are_named_or_told(tmp_path: Path) -> None:
    path = KINDS["four bands"](tmp_path / "a.tif")
    with open_scene(path) as scene:
        assert scene.notes == ["has 4 bands, of which 1, 2, 3 are shown as red, green, blue; --bands chooses others"]
    with open_scene(path, SourceOptions(bands=[4, 2, 1])) as scene:
        assert scene.notes == []
        assert np.array_equal(whole(scene)[0], eight(4)[[3, 1, 0]])
    with pytest.raises(
        BrokenImage, match=r"a\.tif' has 4 bands, but --bands is \[5\]; name bands that every image has"
    ):
        open_scene(path, SourceOptions(bands=[5])).__enter__()


def test_a_stretch_can_be_given(tmp_path: Path) -> None:
    for kind in ("planar of 16 bits", "tiled"):
        path = KINDS[kind](tmp_path / "a.tif")
        with open_scene(path, SourceOptions(stretch=(50, 200))) as scene, rasterio.open(path) as dataset:
            expected = np.rint(((dataset.read().astype(float) - 50) / 150).clip(0, 1) * 255)
            assert np.array_equal(whole(scene)[0], expected)
            assert scene.stretch == (50, 200)
            assert scene.notes == []
    with open_scene(KINDS["planar of 16 bits"](tmp_path / "a.tif")) as scene:
        low, high = np.percentile(sensor(3), (1, 99))
        assert scene.stretch == pytest.approx((low, high))
        assert f"of which {low:g} to {high:g} (1st to 99th percentile of the whole scene)" in scene.notes[0]


def test_an_overview_is_the_scene_averaged(tmp_path: Path) -> None:
    for kind in ("tiled", "nodata of 16 bits", "palette"):
        with open_scene(KINDS[kind](tmp_path / "a.tif")) as scene:
            pixels, valid = whole(scene)
            picture = scene.overview(26)
            assert picture.shape == (3, 18, 26)
            blocks = pixels.reshape(3, 18, 5, 26, 5).swapaxes(2, 3).reshape(3, 18, 26, 25).mean(-1)
            full = valid.reshape(18, 5, 26, 5).swapaxes(1, 2).reshape(18, 26, 25).all(-1)
            assert np.abs(picture - blocks)[:, full].max() <= 0.5
            assert np.array_equal(scene.overview(1000), pixels)


@pytest.mark.parametrize("kind", ["tiled", "nodata of 16 bits", "mask of 16 bits", "palette"])
def test_overviews_in_the_file_are_used(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path / "a.tif")
    with open_scene(path) as scene:
        slow, limits = scene.overview(26), scene.stretch
        valid = whole(scene)[1].reshape(18, 5, 26, 5).swapaxes(1, 2).reshape(18, 26, 25).all(-1)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    with open_scene(path) as scene:
        assert scene.stretch == limits
        with scene._pixels.coarser(5) as pixels:
            assert (pixels.height, pixels.width) == (23, 33)
        fast = scene.overview(26)
        assert fast.shape == slow.shape
        # Blurred a little, as 4 pixels do not divide 5.
        assert np.abs(fast.astype(float) - slow)[:, valid].mean() < (20 if kind == "palette" else 10)
        assert (fast[:, 0, 0] == FILL[:, 0, 0]).all() == (kind == "nodata of 16 bits")
        assert (fast[:, -1, -1] == FILL[:, 0, 0]).all() == (kind == "mask of 16 bits")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": []}, r"^--bands is \[\]; give one to three band numbers, which start at 1$"),
        ({"bands": [0]}, r"^--bands is \[0\]; give one to three"),
        ({"bands": [1, 2, 3, 4]}, r"^--bands is \[1, 2, 3, 4\]"),
        ({"stretch": (5, 5)}, r"^--stretch is \[5, 5\]; give the value of black and a larger one of white$"),
        ({"stretch": (0, float("nan"))}, r"^--stretch is"),
        ({"gsd": 0}, r"^--gsd is 0; give metres a pixel, above 0$"),
    ],
)
def test_options_out_of_range_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SourceOptions(**options)


def test_what_is_no_scene_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no image")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(KINDS["striped"](tmp_path / "a.tif").read_bytes()[:9000])
    for name, reason in {
        "absent.tif": "does not exist",
        "empty.tif": "is an empty file",
        "text.tif": "is not an image",
    }.items():
        with pytest.raises(BrokenImage, match=rf"^image '.*{name}' {reason}[^\n]*$"):
            open_scene(tmp_path / name).__enter__()
    with open_scene(cut) as scene:
        assert scene.read(0, 0, 10, 130)[0].any()
        place = r"^image '.*cut\.tif' is damaged in the 50 x 10 pixels from x=70 y=80 \([^\n]+\)$"
        with pytest.raises(BrokenImage, match=place):
            scene.read(80, 70, 10, 50)
    waves = write(tmp_path / "waves.tif", sensor(1).astype(np.complex64))
    with pytest.raises(BrokenImage, match=r"has complex values"):
        open_scene(waves).__enter__()


@pytest.mark.parametrize("layout", [TILED | {"blockxsize": 256, "blockysize": 256}, {"blockysize": 1}])
def test_a_large_window_takes_little_more_memory_than_its_pixels(
    tmp_path: Path, layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside GDAL's cache, which is capped."""
    monkeypatch.setattr(chunks, "PIECE", 200_000)
    side = 2000
    with open_scene(
        empty(tmp_path / "a.tif", side, dtype="uint16", nodata=0, **layout), SourceOptions((1, 2, 3), (0, 9))
    ) as scene:
        scene.read(0, 0, 512, side)
        tracemalloc.start()
        scene.read(0, 0, side, side)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak - side * side * 4 < 60 * chunks.PIECE  # a window worked on at once takes three times that


@pytest.mark.slow
@pytest.mark.parametrize("layout", [TILED | {"blockxsize": 512, "blockysize": 512}, {"blockysize": 1}])
def test_a_scene_of_20000_pixels_takes_bounded_memory(tmp_path: Path, layout: dict[str, Any]) -> None:
    side, strip = 20_000, 1024
    path = empty(tmp_path / "a.tif", side, dtype="uint8", **layout)
    assert forget_peak()
    before = process_bytes("VmHWM")
    with open_scene(path) as scene:
        for top in range(0, side - strip, strip):
            scene.read(top, 0, strip, side)
        scene.overview(2048)
    assert process_bytes("VmHWM") - before < 200 * 2**20  # of which the strip takes 59 MiB and GDAL's cache 64


def empty(path: Path, side: int, **options: Any) -> Path:
    """A GeoTIFF of three bands that holds no block."""
    shape = {"height": side, "width": side, "count": 3, "crs": "EPSG:32633", "transform": UTM, "SPARSE_OK": True}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options):
        return path
