"""What verification finds, on generated data sets with one thing wrong each, and on the real ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distill.data.conversion import prepare
from distill.data.verification import find_parts, verify
from distill.data.verification.report import Report
from distill.errors import UserError
from tests.data.published import SHARED, coco, hrsid_coco, save, scene, write_json


def data_set(root: Path, change: Any = None) -> Path:
    """Six images in train and three in val, all different; `change` works on the content of train."""
    for part, numbers in (("train", range(6)), ("val", range(10, 13))):
        names = [f"{number}.png" for number in numbers]
        for number, name in zip(numbers, names, strict=True):
            save(scene(number), root / "images" / name)
        content = coco(names, numbers[0] + 1)
        if part == "train" and change is not None:
            change(content)
        write_json(content, root / f"annotations/{part}.json")
    return root


def checked(root: Path, **options: Any) -> Report:
    return verify(root, find_parts(root), **options)


def findings(report: Report, level: str = "") -> dict[str, str]:
    return {f"{f.part}/{f.check}": f.message for f in report.findings if not level or f.level == level}


def test_a_sound_data_set(tmp_path: Path) -> None:
    report = checked(data_set(tmp_path))
    assert not findings(report, "error")
    assert not findings(report, "warning")
    assert [(part.name, part.images, part.objects, part.empty) for part in report.parts] == [
        ("train", 6, 6, 0),
        ("val", 3, 3, 0),
    ]
    assert report.parts[0].classes == {"ship": (6, 6)}
    assert report.parts[0].sizes == {"small": 6, "medium": 0, "large": 0}
    assert report.lookalikes == []


@pytest.mark.parametrize(
    ("change", "level", "check", "message"),
    [
        (lambda c: c["annotations"][0].update(bbox=[50, 30, 40, 10]), "warning", "geometry", "sticks out of the image"),
        (lambda c: c["annotations"][0].update(bbox=[30, 30, 9, 9]), "warning", "geometry", "more than 3 pixels off"),
        (
            lambda c: c["annotations"][0].update(segmentation=[[4, 6, 90, 6, 20, 18]]),
            "warning", "geometry", "a polygon that sticks out",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation=[[4, 6, 4.1, 6, 4.1, 6.1]]),
            "warning", "geometry", "a mask without a pixel",
        ),
        (
            lambda c: c["annotations"].append({**c["annotations"][0], "id": 99}),
            "warning", "geometry", "a twin under another id",
        ),
        (lambda c: c["annotations"][0].update(id=0), "warning", "annotation id", "one annotation has the id 0"),
        (lambda c: c["annotations"].pop(), "note", "empty images", "1 of 6 images without an object"),
        (
            lambda c: c["categories"].append({"id": 2, "name": "tank"}),
            "warning", "class balance", "no object of tank",
        ),
        (
            lambda c: c["annotations"].extend(
                {**c["annotations"][0], "id": 100 + i, "bbox": [4, 6, 17 + i / 100, 13]} for i in range(101)
            ),
            "warning", "crowded images", "an image has 102 objects",
        ),
        (lambda c: c["images"][0].update(width=63), "error", "image files", "1 image of another size"),
        (lambda c: c["images"][0].update(file_name="9.png"), "error", "image files", "1 of 6 images are missing"),
        (lambda c: c["images"][0].update(id=2), "error", "images", "1 of 6 images cannot be used"),
        (lambda c: c["annotations"][0].update(image_id=77), "error", "dangling image", "1 of 6 annotations cannot"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 0, 5]), "error", "box", "1 of 6 annotations cannot"),
    ],
)  # fmt: skip
def test_one_thing_wrong(tmp_path: Path, change: Any, level: str, check: str, message: str) -> None:
    report = checked(data_set(tmp_path, change))
    assert message in findings(report, level)[f"train/{check}"]


def test_every_fault_is_listed_not_only_the_first(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation, box in zip(content["annotations"], ([0, 0, 0, 1], [1, 2], "x"), strict=False):
            annotation["bbox"] = box

    (finding,) = [f for f in checked(data_set(tmp_path, change)).findings if f.level == "error"]
    assert len(finding.cases) == 3
    assert finding.advice


def test_classes_that_differ_between_parts(tmp_path: Path) -> None:
    report = checked(data_set(tmp_path, lambda c: c["categories"][0].update(name="boat")))
    assert "other classes or category ids" in findings(report, "error")["/classes"]


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


def test_files_changed_since_they_were_prepared(tmp_path: Path) -> None:
    root = prepare("hrsid", hrsid_coco(tmp_path / "source"), tmp_path / "hrsid").root
    assert "/manifest" not in findings(checked(root))
    save(scene(77), root / "images/P0003.jpg")
    assert "1 file not as" in findings(checked(root), "error")["/manifest"]


def test_layouts(tmp_path: Path) -> None:
    data_set(tmp_path / "a")
    single = find_parts(tmp_path / "a/annotations/val.json")
    assert [(part.name, part.images) for part in single] == [("val", tmp_path / "a/images")]
    for part in ("train", "val"):  # as the synthetic scenes lie
        (tmp_path / f"b/{part}").mkdir(parents=True)
        shutil.copy(tmp_path / f"a/annotations/{part}.json", tmp_path / f"b/{part}/annotations.json")
        shutil.copytree(tmp_path / "a/images", tmp_path / f"b/{part}/images")
    assert [(part.name, part.images) for part in find_parts(tmp_path / "b")] == [
        (part, tmp_path / f"b/{part}/images") for part in ("train", "val")
    ]
    elsewhere = find_parts(tmp_path / "a/annotations/val.json", tmp_path / "b/val/images")
    assert elsewhere[0].images == tmp_path / "b/val/images"
    with pytest.raises(UserError, match="does not exist; give a data set's folder or a COCO file"):
        find_parts(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither annotations/\*\.json nor"):
        find_parts(tmp_path)
    shutil.rmtree(tmp_path / "a/images")
    with pytest.raises(UserError, match="name it with --images"):
        find_parts(tmp_path / "a")


def test_the_report_is_json(tmp_path: Path) -> None:
    report = checked(data_set(tmp_path, lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 5])))
    content = json.loads(json.dumps(report.as_json()))
    assert {"root", "parts", "findings", "lookalikes"} == content.keys()


def shared(name: str) -> Path:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"the real data set {name} is not here")
    return root


def test_real_nwpu_shares_images_between_train_and_val() -> None:
    report = checked(shared("nwpu"))
    across = {pair.files for pair in report.lookalikes if pair.parts == ("train", "val")}
    assert across == {("073.jpg", "286.jpg"), ("288.jpg", "297.jpg"), ("293.jpg", "303.jpg")}
    counts = {pair.files[1]: pair.objects for pair in report.lookalikes}
    assert (counts["286.jpg"], counts["297.jpg"]) == ((1, 3), (2, 5))
    within = {frozenset(pair.files) for pair in report.lookalikes if pair.parts[0] == pair.parts[1]}
    assert within == {frozenset({"299.jpg", "307.jpg"}), frozenset({"285.jpg", "321.jpg"})}
    assert not findings(report, "error")
    assert [(part.images, part.objects) for part in report.parts] == [(468, 2785), (122, 674)]


def test_real_ssdd_annotations() -> None:
    report = checked(shared("ssdd"))
    sizes = {part.name: part.sizes for part in report.parts}
    assert sizes["train"] == {"small": 1610, "medium": 487, "large": 5}
    assert sizes["val"] == {"small": 356, "medium": 125, "large": 3}
    assert "927 of 928 images are missing" in findings(report, "error")["train/image files"]
    assert "id 0" in findings(report, "warning")["val/annotation id"]
