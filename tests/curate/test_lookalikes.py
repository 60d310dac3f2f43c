"""Images of a data set that show the same, in its parts and across them."""

import io
import json
import shutil
from pathlib import Path

from PIL import Image
from rich.console import Console

from tests.curate.checking import checked, data_set, findings
from tests.data.published import coco, save, scene, shared, write_json


def test_copies_across_parts_are_found_by_content(tmp_path: Path) -> None:
    data_set(tmp_path)
    save(Image.open(tmp_path / "images/2.png").rotate(180), tmp_path / "images/11.png")
    shutil.copy(tmp_path / "images/4.png", tmp_path / "images/12.png")
    report = checked(tmp_path)
    assert {pair.files: pair.parts for pair in report.lookalikes} == {
        ("2.png", "11.png"): ("train", "val"),
        ("4.png", "12.png"): ("train", "val"),
    }
    hows = {pair.files[0]: pair.how for pair in report.lookalikes}
    assert hows["4.png"] == "same bytes"
    assert "turned" in hows["2.png"]
    assert "2 pairs of images show the same in train and val" in findings(report, "warning")["/split overlap"]
    assert "touching 2 of 3 images of val" in findings(report, "warning")["/split overlap"]


def test_the_same_file_in_two_parts(tmp_path: Path) -> None:
    data_set(tmp_path, lambda c: c["images"][0].update(file_name="10.png"))
    (pair,) = checked(tmp_path).lookalikes
    assert (pair.files, pair.how) == (("10.png", "10.png"), "same file")


def test_alternative_splits_may_share_images(tmp_path: Path) -> None:
    data_set(tmp_path)
    for group in ("official", "other"):
        for part, names in (("train", ["0.png", "1.png"]), ("val", ["2.png"])):
            write_json(coco(names), tmp_path / f"annotations/{group}/{part}.json")
    for part in ("train", "val"):
        (tmp_path / f"annotations/{part}.json").unlink()
    report = checked(tmp_path)
    assert [part.name for part in report.parts] == ["official/train", "official/val", "other/train", "other/val"]
    assert report.lookalikes == []
    assert "9 image files" not in str(report.findings)
    assert "6 image files belonging to no" in findings(report, "note")["/image files"]


def test_overlapping_crops(tmp_path: Path) -> None:
    data_set(tmp_path)
    place = scene(50, 500, 500)
    for seed in range(400):
        place.paste(scene(seed, 12 + seed % 17, 12 + seed % 13), ((seed * 89) % 480, (seed * 211) % 480))
    save(place.crop((0, 0, 400, 400)), tmp_path / "images/0.png")
    save(place.crop((120, 120, 500, 500)), tmp_path / "images/10.png")
    assert checked(tmp_path).lookalikes == []
    (pair,) = checked(tmp_path, overlaps=True).lookalikes
    assert pair.files == ("0.png", "10.png")
    assert pair.how.startswith("overlap: ")


def test_the_same_bytes_are_found_without_contrast(tmp_path: Path) -> None:
    data_set(tmp_path)
    save(scene(2).point(lambda value: 30 + value // 100), tmp_path / "images/2.png")
    shutil.copy(tmp_path / "images/2.png", tmp_path / "images/11.png")
    for name in ("3.png", "12.png"):  # of one value: alike wherever they come from
        save(Image.new("RGB", (64, 48), (70, 70, 70)), tmp_path / "images" / name)
    (pair,) = checked(tmp_path).lookalikes
    assert (pair.files, pair.how) == (("2.png", "11.png"), "same bytes")


def test_many_that_show_the_same_are_one_set(tmp_path: Path) -> None:
    names = {"train": [f"{n}.jpg" for n in range(12)], "val": [f"{n}.jpg" for n in range(20, 25)]}
    for part, files in names.items():
        for number, name in enumerate(files):
            (tmp_path / "images").mkdir(exist_ok=True)
            alike = scene(7) if number < 9 - 6 * (part == "val") else scene(int(Path(name).stem))
            alike.save(tmp_path / "images" / name, quality=60 + number)
        write_json(coco(files, 1), tmp_path / f"annotations/{part}.json")
    report = checked(tmp_path)
    (found,) = report.lookalikes
    assert len(found.files) == 12
    assert (found.parts.count("train"), found.parts.count("val")) == (9, 3)
    assert "linked by correlations of 0.9" in found.how
    leak = next(f for f in report.findings if f.check == "split overlap")
    assert leak.message == "1 set of images show the same in train and val, touching 3 of 5 images of val"
    assert leak.cases[0].startswith("12 images (9 of train, 3 of val) show the same, e.g. 0.jpg, 20.jpg, 1.jpg: linked")
    assert "1 set of images within one part" in findings(report, "note")["/near-identical images"]
    text = io.StringIO()
    report.print(Console(file=text, width=1000))
    assert "12 images (9 of train, 3 of val)" in text.getvalue()
    assert "e.g. train: 0.jpg (1), val: 20.jpg (1), train: 1.jpg (1)" in text.getvalue()


def test_three_parts(tmp_path: Path) -> None:
    data_set(tmp_path)
    save(scene(30), tmp_path / "images/30.png")
    write_json(coco(["30.png", "5.png"], 50), tmp_path / "annotations/test.json")
    shutil.copy(tmp_path / "images/5.png", tmp_path / "images/12.png")
    report = checked(tmp_path)
    (found,) = report.lookalikes
    assert sorted(zip(found.parts, found.files, strict=True)) == [
        ("test", "5.png"), ("train", "5.png"), ("val", "12.png"),
    ]  # fmt: skip
    leaks = [f.message.split(", ")[0] for f in report.findings if f.check == "split overlap"]
    assert leaks == [
        f"1 set of images show the same in {first} and {second}"
        for first, second in (("test", "train"), ("test", "val"), ("train", "val"))
    ]


def test_real_nwpu_shares_images_between_train_and_val(tmp_path: Path) -> None:
    """On every sixth image and those that show the same; all 590 take four times as long and give the same pairs."""
    nwpu = shared("nwpu")
    known = {
        "073.jpg",
        "286.jpg",
        "288.jpg",
        "297.jpg",
        "293.jpg",
        "303.jpg",
        "299.jpg",
        "307.jpg",
        "285.jpg",
        "321.jpg",
    }
    (tmp_path / "images").mkdir()
    for part in ("train", "val"):
        content = json.loads((nwpu / f"annotations/{part}.json").read_text())
        kept = [r for i, r in enumerate(content["images"]) if i % 6 == 0 or Path(r["file_name"]).name in known]
        ids = {record["id"] for record in kept}
        objects = [a for a in content["annotations"] if a["image_id"] in ids]
        write_json(content | {"images": kept, "annotations": objects}, tmp_path / f"annotations/{part}.json")
        for record in kept:
            (tmp_path / "images" / record["file_name"]).symlink_to((nwpu / "images" / record["file_name"]).resolve())
    report = checked(tmp_path)
    across = {pair.files for pair in report.lookalikes if pair.parts == ("train", "val")}
    assert across == {("073.jpg", "286.jpg"), ("288.jpg", "297.jpg"), ("293.jpg", "303.jpg")}
    counts = {pair.files[1]: pair.objects for pair in report.lookalikes}
    assert (counts["286.jpg"], counts["297.jpg"]) == ((1, 3), (2, 5))
    within = {frozenset(pair.files) for pair in report.lookalikes if pair.parts[0] == pair.parts[1]}
    assert within == {frozenset({"299.jpg", "307.jpg"}), frozenset({"285.jpg", "321.jpg"})}
    assert not findings(report, "error")
    assert not [f for f in report.findings if "area" in f.message or f.check == "dark images"]
