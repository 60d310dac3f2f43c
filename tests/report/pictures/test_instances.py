"""Pictures of objects and predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.colours import class_colour
from distill.contracts import Prediction
from distill.data import CocoInstances
from distill.evaluation.coco import CocoEvaluator
from distill.report.pictures.drawing import Drawing
from distill.report.pictures.instances import instance_drawings


def data(root: Path, image_size: int = 64) -> CocoInstances:
    test = (str(root / "images"), str(root / "annotations.json"))
    return CocoInstances(*test, *test, image_size=image_size, num_workers=0)


def perfect(found: CocoInstances, share: float = 1.0) -> CocoEvaluator:
    """Predictions that are the labels: of each image the first `share`."""
    evaluator = CocoEvaluator(found.ground_truth("test"), found.class_names)
    views = found.dataset("test")
    for _, target in (views[index] for index in range(len(views))):
        kept = round(share * len(target.labels))
        scores = torch.linspace(0.9, 0.5, kept)
        masks = target.masks[:][:kept]
        evaluator.update([Prediction(target.image_id, target.boxes[:kept], scores, target.labels[:kept], masks)])
    return evaluator


@pytest.mark.parametrize("image_size", [64, 96])
def test_perfect_predictions_look_like_the_truth_at_the_size_of_the_file(scenes: Path, image_size: int) -> None:
    found = data(scenes / "test")
    drawings = instance_drawings(data(scenes / "test", image_size).dataset("test"), perfect(found))
    assert len(drawings) == 4
    for drawing in drawings:
        assert drawing.parts["input"].shape == (64, 64, 3)
        np.testing.assert_array_equal(drawing.parts["truth"], drawing.parts["prediction"])
        objects = drawing.captions["truth"].split()[0]
        assert drawing.captions["prediction"].startswith(f"best {objects} of {objects} instance")
        assert drawing.captions["prediction"].endswith("scores from 0.50") or objects == "1"
    (names,) = {tuple(sorted({n for d in drawings for n in d.legend}))}
    assert set(names) == {found.class_names[c] for i in range(4) for c in found.dataset("test").classes(i)}


def test_two_models_show_the_same_images(scenes: Path) -> None:
    """Whatever they find, and whatever size they see the images in."""

    def same(drawing: Drawing) -> tuple[str, bytes, bytes]:
        return drawing.name, drawing.parts["input"].tobytes(), drawing.parts["truth"].tobytes()

    one = instance_drawings(data(scenes / "test", 96).dataset("test"), perfect(data(scenes / "test"), 0.5))
    nothing = CocoEvaluator(data(scenes / "test").ground_truth("test"), data(scenes / "test").class_names)
    nothing.records = [(image["id"], []) for image in data(scenes / "test").dataset("test").images]
    other = instance_drawings(data(scenes / "test").dataset("test"), nothing)
    assert list(map(same, one)) == list(map(same, other))
    assert {drawing.captions["prediction"] for drawing in other} == {"no instance"}
    assert all((drawing.parts["prediction"] == drawing.parts["input"]).all() for drawing in other)


def test_only_what_was_scored_is_shown(scenes: Path) -> None:
    dataset = data(scenes / "test").dataset("test")
    evaluator = perfect(data(scenes / "test"))
    evaluator.records = evaluator.records[:2]
    assert {drawing.name for drawing in instance_drawings(dataset, evaluator)} == {
        image["file_name"] for image in dataset.images[:2]
    }


def test_an_oblong_image_with_a_planted_object(tmp_path: Path) -> None:
    """As in NWPU VHR-10; one grey band, an image without an object, and a region to ignore, which is no object."""
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((500, 1000), 60, np.uint8)).save(tmp_path / "images/a.png")
    Image.fromarray(np.full((30, 20), 60, np.uint8)).save(tmp_path / "images/b.png")
    polygon = [[200, 100, 400, 100, 400, 300, 200, 300]]
    one = {"image_id": 1, "category_id": 7, "bbox": [200, 100, 200, 200], "area": 40000, "segmentation": polygon}
    far = [[800, 100, 900, 100, 900, 300, 800, 300]]
    crowd = {**one, "segmentation": far, "bbox": [800, 100, 100, 200], "area": 20000, "id": 2, "iscrowd": 1}
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 500, "width": 1000},
            {"id": 2, "file_name": "b.png", "height": 30, "width": 20},
        ],
        "categories": [{"id": 7, "name": "tank"}],
        "annotations": [{**one, "id": 1, "iscrowd": 0}, crowd],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    found = data(tmp_path)
    evaluator = CocoEvaluator(found.ground_truth("test"), found.class_names)
    masks = torch.zeros(2, 500, 1000, dtype=torch.bool)
    masks[0, 100:300, 200:400] = True
    scores = torch.tensor([0.75, 0.25])
    boxes = torch.tensor([[200.0, 100, 400, 300], [0, 0, 9, 9]])
    evaluator.update([Prediction(1, boxes, scores, torch.tensor([0, 0]), masks)])
    evaluator.update([Prediction(2, boxes[1:], scores[1:], torch.tensor([0]), masks[1:, :30, :20])])
    oblong, empty = instance_drawings(found.dataset("test"), evaluator)
    assert oblong.parts["input"].shape == (256, 512, 3)
    np.testing.assert_array_equal(oblong.parts["truth"], oblong.parts["prediction"])
    changed = np.argwhere((oblong.parts["truth"] != 60).any(axis=2))
    np.testing.assert_array_equal([changed.min(0), changed.max(0)], [[51, 102], [153, 204]])
    assert oblong.captions == {"truth": "1 object", "prediction": "best 1 of 2 instances, scores from 0.75"}
    assert oblong.legend == {"tank": class_colour(0)}
    assert empty.captions == {"truth": "0 objects", "prediction": "best 0 of 1 instance"}
    assert (empty.parts["prediction"] == 60).all()
    assert empty.legend == {}
