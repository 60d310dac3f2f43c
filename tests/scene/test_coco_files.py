"""COCO files of scenes are scored by pycocotools and hold the masks of the features."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.data.coco import CocoAnnotations
from distill.data.masks import decode_mask
from distill.errors import UserError
from distill.patch import Patch
from distill.scene.coco_files import CocoPart, CocoWriter, join_coco
from distill.scene.features import Feature
from tests.scene.objects import CLASS_NAMES, UTM, Stopped, features_of, full_disk, pasted, random_masks, stop_after

HEIGHT, WIDTH = 250, 260


def write(path: Path, features: list[Feature], height: int = HEIGHT, width: int = WIDTH) -> Path:
    with CocoWriter(path, height, width) as writer:
        for start in range(0, len(features), 7):
            writer.add(features[start : start + 7])
    return path


@pytest.fixture(scope="module")
def scenes() -> list[list[Feature]]:
    return [features_of(random_masks(1, 20)), [], features_of(random_masks(2, 15), UTM)]


@pytest.fixture(scope="module")
def joined(scenes: list[list[Feature]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    names = ["Übersicht.png", 'b "2".png', "c.tif"]
    parts = [
        CocoPart(write(folder / f"{number}.part", features), name, HEIGHT, WIDTH, UTM if number == 2 else None)
        for number, (features, name) in enumerate(zip(scenes, names, strict=True))
    ]
    join_coco(parts, CLASS_NAMES, folder / "predictions.json", folder / "images.json")
    return folder


def test_results_hold_the_features(joined: Path, scenes: list[list[Feature]]) -> None:
    results = json.loads((joined / "predictions.json").read_text(encoding="utf-8"))
    expected = [(image, feature) for image, features in enumerate(scenes, 1) for feature in features]
    for result, (image, feature) in zip(results, expected, strict=True):
        assert (result["image_id"], result["feature_id"]) == (image, feature.id)
        assert (result["category_id"], result["score"]) == (feature.label + 1, feature.score)
        x, y, width, height = result["bbox"]
        assert (x, y, x + width, y + height) == feature.box
        assert result["obb"] == list(feature.oriented)
        assert result["area"] == feature.area_px
        mask = decode_mask(result["segmentation"], HEIGHT, WIDTH)
        assert (mask == pasted(feature.mask, HEIGHT, WIDTH)).all()


def test_the_data_set_describes_the_images(joined: Path) -> None:
    content = json.loads((joined / "images.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in content["categories"]] == CLASS_NAMES
    first, _, last = content["images"]
    assert first == {
        "id": 1, "file_name": "Übersicht.png", "width": WIDTH, "height": HEIGHT, "transform": None, "crs": None,
    }  # fmt: skip
    assert (last["transform"], last["crs"]) == (list(UTM.transform), UTM.wkt)
    assert [annotation["id"] for annotation in content["annotations"]] == list(range(1, 36))
    assert {annotation["iscrowd"] for annotation in content["annotations"]} == {0}


def test_it_is_a_training_set(joined: Path) -> None:
    annotations = CocoAnnotations(joined / "images.json", None, "raise")
    assert annotations.class_names == CLASS_NAMES


def test_results_are_scored_by_pycocotools(joined: Path) -> None:
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(joined / "images.json"))
        scoring = COCOeval(truth, truth.loadRes(str(joined / "predictions.json")), "segm")
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    assert scoring.stats[0] == pytest.approx(1.0)


def test_no_results_are_valid_files(tmp_path: Path) -> None:
    part = CocoPart(write(tmp_path / "part", []), "a.png", 10, 10, None)
    for parts in ([part], []):
        join_coco(parts, CLASS_NAMES, tmp_path / "predictions.json", tmp_path / "images.json")
        assert json.loads((tmp_path / "predictions.json").read_text()) == []
        content = json.loads((tmp_path / "images.json").read_text(encoding="utf-8"))
        assert (len(content["images"]), content["annotations"]) == (len(parts), [])


def test_scenes_beyond_32_bits_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too large for COCO files"):
        CocoWriter(tmp_path / "part", 65_536, 65_536)
    feature = features_of([Patch(64_000, 64_000, np.ones((2, 2), np.uint8))])
    write(tmp_path / "part", feature, 65_536, 65_535)
    assert len((tmp_path / "part").read_text().splitlines()) == 1


def test_nothing_is_left_where_something_fails(tmp_path: Path) -> None:
    features = features_of(random_masks(3, 3))
    with pytest.raises(Stopped):
        stop_after(CocoWriter(tmp_path / "part", HEIGHT, WIDTH), features)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "missing" / "part", features)
    with pytest.raises(UserError, match=r"part cannot be written \(File too large\)"), full_disk():
        write(tmp_path / "part", features * 10)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_part_leaves_the_old_files(tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_text("[]")
    part = CocoPart(tmp_path / "missing", "a.png", 10, 10, None)
    with pytest.raises(UserError, match="cannot be written"):
        join_coco([part], CLASS_NAMES, tmp_path / "predictions.json", tmp_path / "images.json")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]
    assert (tmp_path / "predictions.json").read_text() == "[]"
