"""What verification finds, on generated data sets with one thing wrong each, and on the real ones."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rich.console import Console

from distill.curate.prepare import prepare
from distill.curate.verify import find_parts, verify_instances, verify_landcover
from distill.data import SemanticFolder
from distill.errors import UserError
from tests.curate.checking import checked, data_set, findings
from tests.data.published import hrsid_coco, save, scene, shared, write_json


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
            "warning", "geometry", "a copy under another id",
        ),
        (lambda c: c["annotations"][0].update(area=0), "warning", "geometry", "an area more than a factor of 2 off"),
        (lambda c: c["annotations"][0].update(area=60), "warning", "geometry", "an area more than a factor of 2 off"),
        (lambda c: c["annotations"][0].update(area=20000), "warning", "geometry", "an area larger than the image"),
        (
            lambda c: c["annotations"][0].update(bbox=[0, 0, 64, 48], segmentation=[[0, 0, 64, 0, 64, 48, 0, 48]]),
            "warning", "geometry", "a mask of more than 95% of the image, as of an inverted label",
        ),
        (
            lambda c: c["annotations"][0]["segmentation"].append([3.0, 3.0, 3.0, 3.0]),
            "warning", "geometry", "a polygon part of fewer than three points or without area, which is left out",
        ),
        (lambda c: c["annotations"][0].update(segmentation=[]), "error", "no outline", "1 of 6 annotations cannot"),
        (lambda c: c["annotations"].pop(), "note", "empty images", "1 of 6 images without an object"),
        (
            lambda c: c["categories"].append({"id": 2, "name": "tank"}),
            "warning", "class balance", "no object of tank",
        ),
        (
            lambda c: c["annotations"].extend(
                {**c["annotations"][0], "id": 100 + i, "bbox": [4, 6, 17 + i / 100, 13]} for i in range(101)
            ),
            "warning", "crowded images", "an image has 102 objects, 102 of one class",
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


def test_files_changed_since_they_were_prepared(tmp_path: Path) -> None:
    root = prepare("hrsid", hrsid_coco(tmp_path / "source"), tmp_path / "hrsid").root
    assert "/manifest" not in findings(checked(root))
    save(scene(77), root / "images/P0003.jpg")
    assert "1 file not as" in findings(checked(root), "error")["/manifest"]


def test_areas_as_published_pass(tmp_path: Path) -> None:
    report = checked(data_set(tmp_path, lambda c: c["annotations"][0].update(area=300)))
    assert not findings(report, "warning")


def test_findings_name_the_image_and_the_command_that_draws_it(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][3].update(bbox=[30, 30, 9, 9])
        content["annotations"][4].update(bbox=[0, 0, 0, 5])
        content["annotations"].pop()

    by_check = {f.check: f for f in checked(data_set(tmp_path / "a b", change)).findings}
    assert by_check["geometry"].cases == ("3.png: annotation 4, box [30, 30, 9, 9]",)
    annotations = tmp_path / "a b/annotations/train.json"
    command = f"distill data preview '{annotations}' --image 3.png --output sheet.png"
    assert by_check["geometry"].advice == f"Look: {command}"
    assert by_check["box"].cases[0].startswith("4.png: annotation 5 has the box")
    assert by_check["empty images"].cases == ("4.png", "5.png")
    report = verify_instances("", find_parts(annotations, images=tmp_path / "a b/images"))
    (doubt,) = [f for f in report.findings if f.check == "geometry"]
    assert doubt.advice.endswith(f"--images '{tmp_path / 'a b/images'}'")


def test_nearly_black_images(tmp_path: Path) -> None:
    data_set(tmp_path)
    for number in (1, 2):
        save(scene(number).point(lambda value: value // 17), tmp_path / f"images/{number}.png")
    save(scene(3).point(lambda value: value // 8), tmp_path / "images/3.png")  # dark, but there
    (finding,) = [f for f in checked(tmp_path).findings if f.check == "dark images"]
    assert (finding.level, finding.part, finding.cases) == ("warning", "train", ("1.png", "2.png"))
    assert "2 of 6 images are nearly black" in finding.message


def test_what_prepare_left_out(tmp_path: Path) -> None:
    source = hrsid_coco(tmp_path / "source")
    next(source.rglob("P0002*.jpg")).write_bytes(b"")
    report = checked(prepare("hrsid", source, tmp_path / "hrsid", on_error="skip").root)
    (finding,) = [f for f in report.findings if f.check == "left out"]
    assert (finding.level, finding.message) == ("warning", "`distill data prepare` left out 1: 1 image")
    assert "P0002" in finding.cases[0]


def test_one_unreadable_file_does_not_stop_the_others(tmp_path: Path) -> None:
    data_set(tmp_path)
    write_json(["ship"], tmp_path / "annotations/classes.json")
    (tmp_path / "annotations/later.json").write_text("{")
    report = checked(tmp_path)
    assert [part.name for part in report.parts] == ["train", "val"]
    errors = findings(report, "error")
    assert "have no list 'categories'" in errors["classes/annotation file"]
    assert "not valid JSON" in errors["later/annotation file"]
    for part in ("train", "val"):
        (tmp_path / f"annotations/{part}.json").unlink()
    with pytest.raises(UserError, match="have no list 'categories'"):
        checked(tmp_path)


def test_a_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_set(tmp_path)
    parsed: list[str] = []
    loads = json.loads
    monkeypatch.setattr("json.loads", lambda text: parsed.append(text) or loads(text))
    checked(tmp_path)
    assert len(parsed) == len(set(parsed)) == 2


def test_leftovers_of_other_programs_are_no_parts(tmp_path: Path) -> None:
    data_set(tmp_path)
    (tmp_path / "annotations/._train.json").write_bytes(b"\0\5\x16\7\xff")
    (tmp_path / "annotations/.ipynb_checkpoints").mkdir()
    shutil.copy(tmp_path / "annotations/val.json", tmp_path / "annotations/.ipynb_checkpoints/val-checkpoint.json")
    (tmp_path / "images/._1.png").write_bytes(b"x")
    report = checked(tmp_path)
    assert [part.name for part in report.parts] == ["train", "val"]
    assert not findings(report, "error")
    assert "/image files" not in findings(report, "note")


@pytest.mark.parametrize(
    ("annotations", "images", "prefix"),
    [
        ("annotations/instances_PART2017.json", "PART2017", ""),  # COCO
        ("annotations/instances_PART2017.json", "images/PART2017", ""),
        ("annotations/instances_PART.json", "images/PART", ""),  # CVAT, MMYOLO
        ("annotations/PART.json", "imgs/PART", ""),
        ("PART/_annotations.coco.json", "PART", ""),  # Roboflow
        ("PART/annotations.json", "PART/images", ""),
        ("PART/labels.json", "PART/data", ""),  # FiftyOne
        ("PART.json", "data", ""),
        ("PART.json", "images", ""),
        ("annotations/PART.json", "images", "images/"),
        ("annotations/instances_PART2017.json", "PART2017", "PART2017/"),
    ],
)
def test_images_are_found_in_common_layouts(tmp_path: Path, annotations: str, images: str, prefix: str) -> None:
    plain, root = data_set(tmp_path / "plain"), tmp_path / "set"
    for part in ("train", "val"):
        content = json.loads((plain / f"annotations/{part}.json").read_text())
        for record in content["images"]:
            (root / images.replace("PART", part)).mkdir(parents=True, exist_ok=True)
            shutil.copy(plain / "images" / record["file_name"], root / images.replace("PART", part))
            record["file_name"] = prefix.replace("PART", part) + record["file_name"]
        write_json(content, root / annotations.replace("PART", part))
    parts = find_parts(root)
    files = sorted(part.annotations for part in parts)
    for report in (verify_instances(root, parts), verify_instances("", find_parts(*files))):
        assert [(part.images, part.objects) for part in report.parts] == [(6, 6), (3, 3)]
        assert not findings(report, "error")


def test_the_folder_with_most_of_the_names_is_taken(tmp_path: Path) -> None:
    data_set(tmp_path)
    (tmp_path / "imgs").mkdir()
    shutil.copy(tmp_path / "images/0.png", tmp_path / "0.png")
    shutil.copy(tmp_path / "images/0.png", tmp_path / "imgs/0.png")
    assert {part.images for part in find_parts(tmp_path)} == {tmp_path / "images"}
    shutil.move(tmp_path / "images", tmp_path / "imgs/train")
    parts = {part.name: part.images for part in find_parts(tmp_path, images=tmp_path / "imgs")}
    assert parts == {"train": tmp_path / "imgs/train", "val": tmp_path / "imgs"}


def test_several_files_are_the_parts_of_one_data_set(tmp_path: Path) -> None:
    data_set(tmp_path)
    shutil.copy(tmp_path / "images/4.png", tmp_path / "images/12.png")
    files = [tmp_path / f"annotations/{part}.json" for part in ("train", "val")]
    report = verify_instances("both", find_parts(*files))
    assert [part.name for part in report.parts] == ["train", "val"]
    assert "1 pair of images show the same in train and val" in findings(report, "warning")["/split overlap"]
    (tmp_path / "other").mkdir()
    shutil.copy(files[1], tmp_path / "other/val.json")
    assert len({part.name for part in find_parts(files[1], tmp_path / "other/val.json")}) == 2


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; give a data set's folder or a COCO file"):
        find_parts(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither annotations/\*\.json nor"):
        find_parts(tmp_path)
    data_set(tmp_path)
    with pytest.raises(UserError, match=r"--images .* does not exist"):
        find_parts(tmp_path, images=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"--images .* is a file, not a folder"):
        find_parts(tmp_path, images=tmp_path / "images/0.png")
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(UserError, match="name it with --images"):
        checked(tmp_path)


def test_the_report_is_json(tmp_path: Path) -> None:
    report = checked(data_set(tmp_path, lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 5])))
    content = json.loads(json.dumps(report.as_json()))
    assert {"root", "parts", "findings", "lookalikes"} == content.keys()


def test_real_ssdd_annotations() -> None:
    report = checked(shared("ssdd"))
    sizes = {part.name: part.sizes for part in report.parts}
    assert sizes["train"] == {"small": 1610, "medium": 487, "large": 5}
    assert sizes["val"] == {"small": 356, "medium": 125, "large": 3}
    assert "927 of 928 images are missing" in findings(report, "error")["train/image files"]
    assert not [finding for finding in report.findings if "id 0" in finding.message]  # it is scored, see `ground_truth`


def test_images_without_contrast_without_data_and_turned_by_exif(tmp_path: Path) -> None:
    """`-a_nodata` is forgotten in one file, so that its margin takes the range, and set in another, which is sound."""
    root = data_set(tmp_path)
    rng = np.random.default_rng(0)
    content = json.loads((root / "annotations/train.json").read_text())
    for number, nodata in enumerate((None, 65535)):
        values = rng.gamma(2, 300, (48, 64)).astype(np.uint16)
        values[:, :6] = 65535
        raster(root / f"images/{number}.tif", values, nodata)
        content["images"][number]["file_name"] = f"{number}.tif"
    raster(root / "images/2.tif", np.full((48, 64), -9999, np.float32), -9999)
    content["images"][2]["file_name"] = "2.tif"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(root / "images/3.png").save(root / "images/3.png", exif=exif)
    exif[0x0112] = 6
    Image.open(root / "images/4.png").save(root / "images/4.png", exif=exif)
    write_json(content, root / "annotations/train.json")
    found = {(f.level, f.check): f for f in checked(root).findings if f.part == "train"}
    assert found["warning", "contrast"].cases == ("0.tif",)
    assert found["warning", "images without data"].cases == ("2.tif",)
    assert found["warning", "EXIF orientation"].cases == ("3.png", "4.png")
    (wrong,) = found["error", "image files"].cases
    assert wrong == "4.png is 48x64 once EXIF has turned it upright, but its annotations say 64x48"


def raster(path: Path, values: np.ndarray, nodata: float | None) -> None:
    height, width = values.shape
    options: Any = {"dtype": values.dtype, "nodata": nodata, "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 0)}
    with rasterio.open(path, "w", "GTiff", width, height, 1, **options) as dataset:
        dataset.write(values, 1)


def test_the_text_has_a_line_for_each_kind_and_the_worst_first(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][:4]:
            annotation["bbox"] = [30, 30, 9, 9]
        content["annotations"][4]["bbox"] = [0, 0, 0, 5]
        content["annotations"][5]["area"] = 1
        content["categories"].append({"id": 2, "name": "tank"})

    report = checked(data_set(tmp_path, change))
    texts = {}
    for everything in (False, True):
        console = Console(width=200, file=StringIO())
        report.print(console, everything)
        texts[everything] = console.file.getvalue().splitlines()
    levels = [line.split()[0] for line in texts[False] if line.startswith(("error ", "warning ", "note "))]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert len(levels) == len({(f.level, f.check) for f in report.findings}) < len(report.findings)
    (doubts,) = [line for line in texts[False] if line.startswith("warning  geometry")]
    assert "train: 4 objects with a box that is more than 3 pixels off their mask" in doubts
    assert "train: 1 object with an area more than a factor of 2 off" in doubts
    (cases,) = [line for line in texts[False] if "; and 3 more" in line]
    assert cases.count("annotation") == 2
    assert texts[False][-1].endswith("--all lists every case")
    assert sum("box [30, 30, 9, 9]" in line for line in texts[True]) == 4


def test_land_cover(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for number in range(count):
            save(scene(number + 10 * (part == "val")), tmp_path / f"{part}/images/{number}.png")
            labels = rng.integers(0, 2, (48, 64), dtype=np.uint8)
            labels[:24] = 9
            save(Image.fromarray(labels), tmp_path / f"{part}/masks/{number}.png")
    module = SemanticFolder(str(tmp_path), {"land": 0, "water": 1, "road": 2}, ignore=[9])
    report = verify_landcover("dubai", module)
    assert [(part.name, part.images) for part in report.summaries] == [("train", 4), ("val, test", 2)]
    pixels = report.summaries[0].pixels
    assert pixels["not labelled"] == (4 * 24 * 64, 4)
    assert pixels["land"][0] + pixels["water"][0] == 4 * 24 * 64
    assert pixels["road"] == (0, 0)
    assert {f"{f.part}/{f.check}" for f in report.findings} == {"train/class balance", "val, test/class balance"}
    save(Image.fromarray(np.full((48, 64), 7, np.uint8)), tmp_path / "train/masks/0.png")
    save(Image.fromarray(np.zeros((48, 60), np.uint8)), tmp_path / "train/masks/1.png")
    shutil.copy(tmp_path / "train/images/2.png", tmp_path / "val/images/0.png")
    found = findings(verify_landcover("dubai", module), "error")
    assert "1 of 4 masks cannot be used" in found["train/mask values"]
    assert "1 image of another size than annotated" in found["train/image files"]
    report = verify_landcover("dubai", module)
    assert [one.files for one in report.lookalikes if one.across] == [
        (str(tmp_path / "train/images/2.png"), str(tmp_path / "val/images/0.png"))
    ]
    console = Console(width=200, file=StringIO())
    report.print(console)
    assert "land" in console.file.getvalue()
    (tmp_path / "train/masks/3.png").unlink()
    assert "have no mask file" in findings(verify_landcover("dubai", module), "error")["train/files"]
