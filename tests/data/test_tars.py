"""Images inside tars and in lists: found, kept, read with the bits of files."""

import gzip
import logging
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from distill.data import ImageFolder
from distill.data.image_list import PackedImages, list_images
from distill.data.images import decode_image
from distill.data.packed import PackedFile
from distill.data.tar_index import scan, tar_indices
from distill.errors import UserError

PARTS = 3


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Folders of photos with JSON beside each, as SA-1B unpacked."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "folders" / f"sa_{number % PARTS:06d}" / f"sa_{number}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
        path.with_suffix(".json").write_text("{}")
    return tmp_path / "folders"


@pytest.fixture
def tars(unpacked: Path) -> Path:
    """The same in tars, whose members are in the order of no name."""
    target = unpacked.with_name("tars")
    target.mkdir()
    for folder in unpacked.iterdir():
        pack(target / f"{folder.name}.tar", sorted(folder.iterdir(), key=lambda path: path.stat().st_size))
    return target


def pack(tar: Path, files: list[Path], mode: str = "w") -> Path:
    with tarfile.open(tar, mode) as archive:  # type: ignore[call-overload]
        for path in files:
            archive.add(path, f"./{path.name}")
    return tar


def batches(root: Path, epochs: int = 1, **settings: Any) -> list[dict[str, Any]]:
    given = {"image_size": 16, "batch_size": 3, "num_workers": 0, "seed": 1, "val_fraction": 0.2}
    loader = ImageFolder(str(root), **given | settings).train_dataloader()
    return [batch for _ in range(epochs) for batch in loader]


def assert_same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one["path"] == other["path"]
        assert torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("settings", [{}, {"shuffle": "blocks"}, {"train_fraction": 0.5}, {"train_limit": 5}])
def test_tars_train_as_the_folders_they_unpack_to(unpacked: Path, tars: Path, settings: dict[str, Any]) -> None:
    """The same images are held out, and batches have the same bits in the same order; with workers too."""
    expected = batches(unpacked, epochs=2, **settings)
    assert_same(batches(tars, epochs=2, **settings), expected)
    assert_same(batches(tars, epochs=2, num_workers=2, **settings), expected)
    folder, packed = (ImageFolder(str(root), val_fraction=0.2) for root in (unpacked, tars))
    assert folder.image_set("val") == packed.image_set("val")


def test_one_tar_and_lists_train_as_the_folder(unpacked: Path, tars: Path) -> None:
    part = unpacked / "sa_000001"
    assert_same(batches(tars / "sa_000001.tar"), batches(part))
    lines = [f"./{path.relative_to(unpacked).as_posix()}" for path in unpacked.glob("*/*.jpg")]
    (unpacked / "all.txt").write_text("\n".join([*lines, "", lines[0]]))
    with gzip.open(unpacked / "all.txt.gz", "wt") as file:
        file.write("\n".join(lines))
    expected = batches(unpacked)
    for name in ("all.txt", "all.txt.gz"):
        assert_same(batches(unpacked / name), expected)


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    """Whatever reads them: Pillow, which turns by EXIF, or GDAL, with palettes, nodata, 16 bits and TIFF's turn."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "files"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    photo.save(folder / "turned.jpg", exif=exif)
    photo.quantize(16).save(folder / "palette.png")
    deep = rng.integers(0, 60000, (20, 30), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    profile = {"height": 20, "width": 30, "dtype": "uint16", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0)}
    with rasterio.open(folder / "bands.tif", "w", driver="GTiff", count=4, nodata=int(deep[0, 0]), **profile) as file:
        file.write(np.stack([deep] * 4))
    photo.save(folder / "turned.tif", exif=exif)
    files = sorted(folder.iterdir())
    packed = list_images(pack(tmp_path / "all.tar", files))
    assert len(packed) == len(files) == 5
    for number, path in enumerate(files):
        inside, outside = decode_image(packed[number]), decode_image(path)
        assert torch.equal(inside.pixels, outside.pixels), path.name
        assert (inside.turned, inside.left_out) == (outside.turned, outside.left_out), path.name
        assert (packed.name(number), packed.size(number)) == (path.name, path.stat().st_size)
    assert decode_image(files[-1]).turned
    assert decode_image(files[0], [4]).pixels.equal(decode_image(packed[0], [4]).pixels)


def test_an_index_is_kept_until_its_tar_changes(tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("distill.data.tar_index.scan", lambda tar: read.append(tar.name) or scan(tar))
    paths = sorted(tars.glob("*.tar"))
    first = tar_indices(paths)
    assert read == [path.name for path in paths]
    assert [path.name for path in sorted(tars.glob("*.index"))] == [f"{path.name}.index" for path in paths]
    again = tar_indices(paths)
    assert len(read) == PARTS
    assert [index.names.letters.tobytes() for index in again] == [index.names.letters.tobytes() for index in first]
    assert all(np.array_equal(one.offsets, other.offsets) for one, other in zip(first, again, strict=True))
    stat = paths[1].stat()
    os.utime(paths[1], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    paths[2].with_name("sa_000002.tar.index").write_bytes(b"no index")
    tar_indices(paths)
    assert read[PARTS:] == ["sa_000001.tar", "sa_000002.tar"]


def test_where_the_place_cannot_be_written_the_index_is_in_the_cache_folder(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tar = tars / "sa_000000.tar"
    (tars / "sa_000000.tar.index").mkdir()  # which no file can replace
    tar_indices([tar])
    (kept,) = (tmp_path / "cache/distill/tars").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("distill.data.tar_index.scan", None)  # is not called
        assert len(tar_indices([tar])[0].names) == 4
    kept.unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tar))
    assert not caplog.text
    tar_indices([tar])
    assert "is made again at each start" in caplog.text


@pytest.mark.parametrize("cut", [100, 1700, 2660, None])
def test_a_truncated_tar_is_one_line(tars: Path, cut: int | None) -> None:
    """Inside a header, inside a file, inside another header, and without the blocks at the end."""
    tar = tars / "sa_000000.tar"
    whole = tar.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    tar.write_bytes(whole[: cut or end])
    with pytest.raises(UserError, match=r"sa_000000\.tar' is truncated or damaged"):
        list_images(tars)
    assert not (tars / "sa_000000.tar.index").exists()


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_tars_and_others_are_refused(unpacked: Path, tmp_path: Path, mode: str) -> None:
    tar = pack(tmp_path / f"a.tar.{mode}", list((unpacked / "sa_000000").iterdir()), f"w:{mode}")
    with pytest.raises(UserError, match=r"is compressed .*; decompress it first"):
        list_images(tar)
    shutil.move(tar, tmp_path / "b.tar")
    with pytest.raises(UserError, match=r"b\.tar' is compressed"):
        list_images(tmp_path / "b.tar")
    with pytest.raises(UserError, match="holds no images in its tars"):
        list_images(pack(tmp_path / "c.tar", list(unpacked.glob("*/*.json"))))


def test_lists_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "wrong.txt").write_text("images/a.jpg\n")
    (tmp_path / "packed.txt.gz").write_bytes(b"plain")
    for name, said in {"empty": "is empty", "wrong": "names 'images/a.jpg', which is not there"}.items():
        with pytest.raises(UserError, match=said):
            list_images(tmp_path / f"{name}.txt", "val_root")
    with pytest.raises(UserError, match=r"packed\.txt\.gz' cannot be read"):
        list_images(tmp_path / "packed.txt.gz")


def test_a_folder_of_images_leaves_tars_alone(tars: Path, unpacked: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(tars / "sa_000000.tar", unpacked)
    assert len(list_images(unpacked)) == 12
    assert "its 1 .tar files are not read" in caplog.text


def test_a_broken_image_in_a_tar_is_skipped_and_named(tars: Path, caplog: pytest.LogCaptureFixture) -> None:
    packed = list_images(tars)
    victim = packed[3]
    assert isinstance(victim, PackedFile)
    with victim.tar.open("r+b") as file:
        file.seek(victim.offset)
        file.write(b"no photo")
    with caplog.at_level(logging.WARNING):
        data = ImageFolder(str(tars), image_size=8, batch_size=4, num_workers=0, val_fraction=0)
        list(data.train_dataloader())
    assert data.skipped == [packed.name(3)]
    assert f"image '{victim}' is not an image" in caplog.text
    victim.tar.write_bytes(b"short")
    with pytest.raises(UserError, match=r"is damaged .the tar ends inside it"):
        decode_image(victim)


def test_a_larger_fraction_contains_a_smaller_one_and_neither_what_is_held_out(unpacked: Path) -> None:
    def parts(fraction: float) -> tuple[set[str], set[str]]:
        data = ImageFolder(str(unpacked), val_fraction=0.2, train_fraction=fraction)
        train, val = (data.dataset(split) for split in ("train", "val"))
        return {train.name(i) for i in range(len(train))}, {val.name(i) for i in range(len(val))}

    few, some, every = (parts(fraction) for fraction in (1e-9, 0.5, 1.0))
    assert len(few[0]) == 1
    assert few[0] < some[0] < every[0]
    assert few[1] == some[1] == every[1]
    assert not every[0] & every[1]
    before = some[0]
    for number in range(20, 30):
        shutil.copy(unpacked / "sa_000000/sa_0.jpg", unpacked / f"new_{number}.jpg")
    assert {name for name in parts(0.5)[0] if not name.startswith("new")} == before
    for wrong in (0.0, 1.5):
        with pytest.raises(UserError, match="train_fraction is"):
            ImageFolder(str(unpacked), train_fraction=wrong)
    with pytest.raises(UserError, match="shuffle"):
        ImageFolder(str(unpacked), shuffle="block")


def test_processes_that_are_given_an_index_get_no_object_for_each_image(tars: Path) -> None:
    """Arrays alone, of which forked workers copy nothing."""
    packed = PackedImages(sorted(tars.glob("*.tar")))
    held = [value for part in (packed, packed._names) for value in vars(part).values()]
    assert all(isinstance(value, np.ndarray | bool | type(packed._names)) or len(value) == PARTS for value in held)
    assert list(packed.only([5, 2])) == [packed[5], packed[2]]
    assert packed.only([5, 2]).only([1]).name(0) == packed.name(2)
    assert list(packed.only([5, 2]).names()) == [packed.name(5), packed.name(2)]
