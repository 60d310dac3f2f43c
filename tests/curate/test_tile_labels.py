"""Land cover cut into tiles; and what holds for all tiles: they appear whole or not at all, and replace nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from distill.curate.tile import TileSettings, tile_labels
from distill.data import SemanticFolder
from distill.data.images import read_image, read_mask
from distill.errors import UserError
from tests.data.published import save, scene
from tests.data.vectors import NORTH_UP, raster

H, W = 40, 56
SETTINGS = TileSettings(tile=16, overlap=0, empty=0.0)


def land_cover(root: Path, nodata: int | None = 9) -> Path:
    """A GeoTIFF and a photo with masks; the left half of the first, and all of the last rows, is not labelled."""
    raster(root / "images/a.tif", size=(H, W))
    save(scene(1, H, W), root / "images/b.jpg")
    values = np.random.default_rng(0).integers(0, 3, (H, W)).astype(np.uint8)
    values[:, : W // 2] = 9
    save(Image.fromarray(values[:, ::-1]), root / "labels/b.png")
    (root / "labels").mkdir(exist_ok=True)
    shape: dict[str, Any] = {"count": 1, "height": H, "width": W, "dtype": "uint8", "nodata": nodata}
    with rasterio.open(
        root / "labels/a.tif", "w", driver="GTiff", crs="EPSG:32632", transform=NORTH_UP, **shape
    ) as file:
        file.write(values[None])
    return root


def cut(root: Path, out: Path, settings: TileSettings = SETTINGS, **options: Any) -> Any:
    return tile_labels(root / "images", root / "labels", out, settings, **options)


def test_tiles_are_parts_of_image_and_mask(tmp_path: Path) -> None:
    root = land_cover(tmp_path / "data")
    done = cut(root, tmp_path / "out/train", TileSettings(16, 4, empty=1.0))
    places = json.loads((done.root / "tiles.json").read_text())
    assert len(places) == 2 * len(TileSettings(16, 4).plan(H, W))
    suffixes = {"a": (".tif", ".tif", "a.tif"), "b": (".png", ".png", "b.jpg")}
    for name, place in places.items():
        top, left = place["top"], place["left"]
        image, mask, source = suffixes[name[0]]
        assert (name, place["source"]) == (f"{name[0]}_{top}_{left}", source)
        whole = read_image(root / "images" / source)[:, top : top + 16, left : left + 16]
        assert (read_image(done.root / f"images/{name}{image}") == whole).all()
        labels = read_mask(root / "labels" / f"{name[0]}{mask}", False)[top : top + 16, left : left + 16]
        np.testing.assert_array_equal(read_mask(done.root / f"masks/{name}{mask}", False), labels)
    with rasterio.open(done.root / "masks/a_24_40.tif") as tile:
        assert (tile.nodata, tile.crs.to_epsg()) == (9, 32632)
        assert tile.transform @ (0, 0) == NORTH_UP @ (40, 24)
    data = SemanticFolder(str(tmp_path / "out"), {"x": 0, "y": 1, "z": 2}, ignore=[9], val="train", image_size=16,
                          num_workers=0)  # fmt: skip
    assert next(iter(data.train_dataloader()))["label"].shape == (4, 16, 16)


def test_tiles_without_a_label_are_left_out(tmp_path: Path) -> None:
    root = land_cover(tmp_path / "data")
    done = cut(root, tmp_path / "out")
    # a.tif says that 9 is nodata; nobody says so of b.png
    assert done.manifest["parts"]["."] == {
        "images": 9 + 12, "labelled tiles": 9 + 12, "unlabelled tiles, left out": 3,
    }  # fmt: skip
    done = cut(root, tmp_path / "out", ignore=[9])
    assert done.manifest["parts"]["."]["unlabelled tiles, left out"] == 6
    with pytest.raises(UserError, match=r"^--ignore \(9, 9, 9\) is a colour; a tile of a mask has 1 band: give values"):
        cut(root, tmp_path / "out", ignore=[(9, 9, 9)])
    with pytest.raises(UserError, match=r"^no tile is left of 2 images; check --ignore, or raise --empty$"):
        cut(root, tmp_path / "out", ignore=[0, 1, 2, 9])
    for path in (root / "labels").iterdir():
        colours = np.stack([read_mask(path, False)] * 3, axis=2).astype(np.uint8)
        path.unlink()
        save(Image.fromarray(colours), path.with_suffix(".png"))
    done = cut(root, tmp_path / "out", ignore=[(9, 9, 9)])
    assert done.manifest["parts"]["."]["unlabelled tiles, left out"] == 6
    with pytest.raises(UserError, match="--ignore 9 is a value, but the masks hold colours"):
        cut(root, tmp_path / "out", ignore=[9])


def test_tiles_without_data_are_left_out(tmp_path: Path) -> None:
    root = land_cover(tmp_path / "data")
    (root / "images/b.jpg").unlink()
    with rasterio.open(root / "images/a.tif", "r+") as file:
        values = file.read()
        values[:, :16] = 0
        file.write(values)
        file.nodata = 0
    counts = cut(root, tmp_path / "out").manifest["parts"]["."]
    assert counts["tiles without data, left out"] == 4


def test_faults_stop_or_are_left_out(tmp_path: Path) -> None:
    root = land_cover(tmp_path / "data")
    save(scene(1, H, W - 1), root / "images/b.jpg")
    with pytest.raises(UserError, match=r"b\.jpg' is 55x40, but its mask is 56x40; correct the source, or leave such"):
        cut(root, tmp_path / "out")
    done = cut(root, tmp_path / "out", on_error="skip")
    assert done.manifest["skipped_by_kind"] == {"image": 1}
    assert not list(done.root.rglob("b_*"))
    (root / "images/b.jpg").write_bytes(b"")
    assert cut(root, tmp_path / "out", on_error="skip").manifest["skipped"] == [
        f"image {str(root / 'images/b.jpg')!r} is an empty file"
    ]
    (root / "labels/b.png").unlink()
    with pytest.raises(UserError, match="1 of 2 images have no mask file"):
        cut(root, tmp_path / "out")
    with pytest.raises(UserError, match=r"--labels '.*' does not exist"):
        tile_labels(root / "images", root / "nowhere", tmp_path / "out", SETTINGS)
    with pytest.raises(UserError, match="unknown --on-error policy"):
        cut(root, tmp_path / "out", on_error="maybe")


def test_a_second_run_changes_nothing_and_other_settings_do(tmp_path: Path) -> None:
    root = land_cover(tmp_path / "data")
    assert cut(root, tmp_path / "out").changed
    assert not cut(root, tmp_path / "out").changed
    assert cut(root, tmp_path / "out", TileSettings(20)).changed
    next((tmp_path / "out/masks").iterdir()).unlink()
    assert cut(root, tmp_path / "out", TileSettings(20)).changed
    save(scene(7, H, W), root / "images/b.jpg")
    assert cut(root, tmp_path / "out", TileSettings(20)).changed


def test_files_of_others_and_of_the_source_are_never_lost(tmp_path: Path) -> None:
    root = land_cover(tmp_path / "data")
    for inside in (root, tmp_path):
        with pytest.raises(UserError, match=r"^--out '.*' holds '.*a\.tif', which is to be cut; name another folder"):
            cut(root, inside)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds 'thesis\.txt', which was not written by `distill data tile`"):
        cut(root, tmp_path / "out")
    (tmp_path / "out/thesis.txt").unlink()
    (tmp_path / "out/manifest.json").write_text('{"data": "ssdd", "outputs": {}}')
    with pytest.raises(UserError, match="holds the data set ssdd; name another folder"):
        cut(root, tmp_path / "out")


def test_an_interrupted_run_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = land_cover(tmp_path / "data")
    cut(root, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    written: list[Path] = []

    def stop(image: Any, tile: Any, path: Path) -> None:
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("distill.data.tile_files._Raster.write", stop)
    with pytest.raises(KeyboardInterrupt):
        cut(root, tmp_path / "out", TileSettings(20))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
