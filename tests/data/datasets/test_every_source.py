"""What holds for all published data sets: finding them, leftovers, letter case, links, files without counterpart."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from distill.curate.prepare import prepare
from distill.data import HRSID, NWPU, SSDD, WHU
from distill.data.datasets import NAMES, find_source
from distill.data.images import BrokenImage, read_label
from distill.data.listing import subfolders
from distill.errors import UserError
from tests.data.published import (
    ending,
    hrsid_coco,
    hrsid_masks,
    images_in,
    labelme,
    names,
    nwpu_texts,
    save,
    scene,
    ssdd_voc,
    whu_tiles,
    yolo,
)
from tests.data.vectors import geojson


def test_unknown_data_sets_and_folders_without_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown data set 'sddd': did you mean ssdd"):
        find_source("sddd", tmp_path)
    with pytest.raises(UserError, match="--source 'nowhere' does not exist"):
        find_source("ssdd", "nowhere")
    for name in NAMES:
        with pytest.raises(UserError, match=f"--source '{tmp_path}' holds no"):
            find_source(name, tmp_path)


LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    # how it is written, an image, the file that says what is on it, and what that file is called
    "geojson": (geojson, "fields/b.tif", "fields/b.geojson", "GeoJSON file"),
    "hrsid": (hrsid_masks, "images/P0002.png", "instance_masks/P0002.png", "mask"),
    "labelme": (labelme, "labelled/002.jpg", "labelled/002.json", "JSON file"),
    "nwpu": (nwpu_texts, "positive image set/003.jpg", "ground truth/003.txt", "text"),
    "ssdd": (ssdd_voc, "JPEGImages_train/000002.jpg", "Annotations_train/000002.xml", "XML file"),
    "whu": (whu_tiles, "val/image/9.tif", "val/label/9.tif", "label"),
    "yolo": (yolo, "images/train/a.jpg", "labels/train/a.txt", "label"),
}
# Images of YOLO need no label.
PAIRED = [name for name in NAMES if name != "yolo"]


@pytest.mark.parametrize("name", PAIRED)
def test_files_without_counterpart_stop_or_are_counted(tmp_path: Path, name: str) -> None:
    write, image, label, kind = LAYOUTS[name]
    source = write(tmp_path / "source")
    whole = images_in(prepare(name, source, tmp_path / "whole").manifest)
    ending(source, label).unlink()
    with pytest.raises(
        UserError, match=rf"^1 of \d+ images have no {kind}, for example '.*{image}'; add .*-on-error skip"
    ):
        prepare(name, source, tmp_path / "out")
    one = prepare(name, source, tmp_path / "out", on_error="skip").manifest
    assert (images_in(one), one["skipped_by_kind"]) == (whole - 1, {f"image without {kind}": 1})
    assert one["skipped"][0].endswith(f"{image}' has no {kind}")
    # Data and labels may lie in one folder.
    folder, suffix = ending(source, image).parent, Path(image).suffix
    other = next(path for path in sorted(folder.glob(f"*{suffix}")) if path != ending(source, image))
    other.unlink()
    with pytest.raises(UserError, match=f"images have no {kind}, .*; 1 of .* {kind}s have no image, for example"):
        prepare(name, source, tmp_path / "out")
    two = prepare(name, source, tmp_path / "out", on_error="skip").manifest
    assert two["skipped_by_kind"] == {f"image without {kind}": 1, f"{kind} without image": 1}
    assert not prepare(name, source, tmp_path / "out", on_error="skip").changed
    save(scene(7), ending(source, image).with_stem("0007"))
    assert prepare(name, source, tmp_path / "out", on_error="skip").changed  # there is more to list


LEFTOVERS = {
    "geojson": ("fields/._a.tif", "fields/.b.geojson", "__MACOSX/fields/c.geojson"),
    "labelme": ("labelled/._001.json", "labelled/notes.json", "labelled/Thumbs.db"),
    "yolo": ("labels/train/._a.txt", "labels/train/classes.txt", "images/train/desktop.ini"),
    "hrsid": ("images/._P0001.png", "instance_masks/.ipynb_checkpoints/P0001.png", "__MACOSX/instance_masks/P9.png"),
    "nwpu": ("ground truth/._001.txt", "ground truth/readme.txt", "positive image set/Thumbs.db"),
    "ssdd": ("Annotations_train/._000002.xml", "JPEGImages_train/desktop.ini"),
    "whu": ("train/image/._9.tif", "train/image/.ipynb_checkpoints/9-checkpoint.tif", "train/label/9.tfw"),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_other_programs_leave_behind_is_no_data(tmp_path: Path, name: str) -> None:
    source = LAYOUTS[name][0](tmp_path / "source")
    clean = prepare(name, source, tmp_path / "out")
    base = ending(source, LAYOUTS[name][1]).parents[len(Path(LAYOUTS[name][1]).parts) - 1]
    for part in LEFTOVERS[name]:
        path = base / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")
    assert not prepare(name, source, tmp_path / "out").changed
    assert clean.manifest["skipped"] == []


def test_the_folder_of_a_mac_archive_is_not_taken_for_the_data(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    (source / "NWPU VHR-10 dataset").rename(source / "nwpu")  # sorted behind __MACOSX
    for number in range(1, 13):
        path = source / f"__MACOSX/ground truth/{number:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")
    assert images_in(prepare("nwpu", source, tmp_path / "nwpu").manifest) == 12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
def test_folders_and_suffixes_in_any_case(tmp_path: Path, name: str, change: Callable[[str], str]) -> None:
    source = LAYOUTS[name][0](tmp_path / "source")
    expected = prepare(name, source, tmp_path / "expected").manifest["splits"]
    for path in sorted(source.rglob("*"), reverse=True):  # the innermost first
        path.rename(path.with_name(change(path.name)) if path.is_dir() else path.with_suffix(change(path.suffix)))
    done = prepare(name, source, tmp_path / "out")
    assert {split: counts["images"] for split, counts in done.manifest["splits"].items()} == {
        split: counts["images"] for split, counts in expected.items()
    }


def test_coco_files_in_any_case(tmp_path: Path) -> None:
    source = hrsid_coco(tmp_path / "source")
    (source / "HRSID_JPG/annotations/train2017.json").rename(source / "HRSID_JPG/annotations/Train2017.JSON")
    (source / "HRSID_JPG/annotations").rename(source / "HRSID_JPG/Annotations")
    (source / "HRSID_JPG/JPEGImages").rename(source / "HRSID_JPG/jpegimages")
    assert images_in(prepare("hrsid", source, tmp_path / "hrsid").manifest) == 3


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    data = nwpu_texts(tmp_path / "elsewhere") / "NWPU VHR-10 dataset"
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").symlink_to(data)
    for number in range(20):
        (source / f"loop{number}").symlink_to(source)
        (data / f"loop{number}").symlink_to(data)
    assert len(subfolders(source)) == 1 + 1 + 3
    assert images_in(prepare("nwpu", source, tmp_path / "nwpu").manifest) == 12


def test_other_suffix_on_the_disk_than_in_the_file(tmp_path: Path) -> None:
    source = hrsid_coco(tmp_path / "source")
    for path in source.rglob("*.jpg"):
        image = Image.open(path).copy()
        path.unlink()
        image.save(path.with_suffix(".png"))
    root = prepare("hrsid", source, tmp_path / "hrsid").root
    assert names(root, "test") == ["P0003.png"]


@pytest.mark.parametrize("data_class", [HRSID, NWPU, SSDD, WHU])
def test_recipes_can_set_what_the_classes_hand_on(data_class: type) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(data_class, "data")
    values = parser.parse_object({"data": {"root": "x", "image_size": 256, "scale_jitter": [0.5, 1.5]}}).data
    assert (values.image_size, values.scale_jitter) == (256, (0.5, 1.5))
    for key in ("train_images", "val_annotations", "test_images"):
        assert key not in values
    assert ("split" in values) == (data_class is SSDD)


def test_a_label_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "label.tif").write_text("no image")
    with pytest.raises(BrokenImage, match="not an image"):
        read_label(tmp_path / "label.tif")
