import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.contracts import Prediction
from distill.errors import UserError
from distill.evaluation.coco import CocoEvaluator

# Ids neither start at 1 nor follow the label order, and one category of the file is not evaluated.
CATEGORIES = [{"id": 5, "name": "ship"}, {"id": 2, "name": "plane"}, {"id": 9, "name": "tree"}]
CLASSES = ["plane", "ship"]
CATEGORY_IDS = {"plane": 2, "ship": 5, "tree": 9}


def rectangle(box, height, width):
    x1, y1, x2, y2 = box
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def random_box(rng, height, width, sides):
    w, h = rng.integers(*sides, 2)
    x, y = rng.integers(0, width - w), rng.integers(0, height - h)
    return [int(v) for v in (x, y, x + w, y + h)]


def annotation(number, image_id, name, box, crowd=0):
    x1, y1, x2, y2 = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[name],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
        "iscrowd": crowd,
    }


@pytest.fixture
def truth():
    """Six images, small to large objects of three categories, some crowds and one image without objects."""
    rng = np.random.default_rng(0)
    images = [{"id": 10 + i, "height": 150 + i, "width": 180, "file_name": f"{i}.png"} for i in range(6)]
    annotations = []
    for image in images[:-1]:
        for k in range(8):
            box = random_box(rng, image["height"], image["width"], ((4, 12), (34, 60), (100, 130))[k // 3])
            crowd = int(k == 7)
            item = annotation(len(annotations) + 1, image["id"], ["plane", "ship", "tree"][k % 3], box, crowd)
            if crowd:
                mask = rectangle(box, image["height"], image["width"])
                encoded = rle.encode(np.asfortranarray(mask))
                item["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
            annotations.append(item)
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def prediction(truth, image_id, instances):
    image = next(i for i in truth["images"] if i["id"] == image_id)
    masks = [rectangle(box, image["height"], image["width"]) for box, _, _ in instances]
    return Prediction(
        image_id=image_id,
        boxes=torch.tensor([box for box, _, _ in instances], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([score for _, score, _ in instances], dtype=torch.float32),
        labels=torch.tensor([CLASSES.index(name) for _, _, name in instances], dtype=torch.int64),
        masks=torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, image["height"], image["width"])),
    )


@pytest.fixture
def predictions(truth):
    """Shifted copies of most objects and some inventions, best first."""
    rng = np.random.default_rng(1)
    result = []
    for image in truth["images"]:
        instances = []
        for item in truth["annotations"]:
            name = next(n for n, i in CATEGORY_IDS.items() if i == item["category_id"])
            if item["image_id"] != image["id"] or name == "tree" or rng.random() < 0.2:
                continue
            x, y, w, h = item["bbox"]
            dx, dy = (int(v) for v in rng.integers(-2, 3, 2))
            box = [max(0, x + dx), max(0, y + dy), min(image["width"], x + w + dx), min(image["height"], y + h + dy)]
            instances.append((box, float(rng.random()), name))
        for _ in range(4):
            box = random_box(rng, image["height"], image["width"], (4, 60))
            instances.append((box, float(rng.random()), CLASSES[rng.integers(2)]))
        result.append(prediction(truth, image["id"], sorted(instances, key=lambda i: -i[1])))
    return result


def plain_pycocotools(truth, results, iou_type, max_detections=100):
    """The script everybody writes: the twelve numbers of `summarize`, and precision by class."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        found = coco.loadRes(copy.deepcopy(results))
        evaluation = COCOeval(coco, found, iou_type)
        evaluation.params.catIds = [CATEGORY_IDS[name] for name in CLASSES]
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        if max_detections == 100:
            evaluation.summarize()
    return evaluation


@pytest.mark.parametrize(("kind", "iou_type"), [("box", "bbox"), ("mask", "segm")])
def test_numbers_are_those_of_pycocotools(truth, predictions, tmp_path, kind, iou_type):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.update(predictions[:2])
    evaluator.update(predictions[2:])
    (tmp_path / "results.json").write_text(json.dumps(evaluator.results()))
    results = json.loads((tmp_path / "results.json").read_text())
    if iou_type == "segm":
        for result in results:
            del result["bbox"]
    reference = plain_pycocotools(truth, results, iou_type)
    scores = evaluator.compute()
    names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    assert [scores[f"{kind}/{name}"] for name in names] == reference.stats[:6].tolist()
    assert scores[f"{kind}/AR"] == reference.stats[8]
    for k, name in enumerate(CLASSES):
        assert scores[f"{kind}/AP/{name}"] == reference.eval["precision"][:, :, k, 0, 2].mean()
    assert 0.1 < scores[f"{kind}/AP"] < 0.9


@pytest.mark.parametrize("limit", [2, 5, 300])
def test_any_limit_of_detections(truth, predictions, limit):
    evaluator = CocoEvaluator(truth, CLASSES, max_detections=limit)
    evaluator.update(predictions)
    reference = plain_pycocotools(truth, evaluator.results(), "bbox", limit) if limit > 10 else None
    scores = evaluator.compute()
    assert 0 < scores["box/AP"] <= 1
    if reference:
        precision = reference.eval["precision"][:, :, :, 0, 2]
        assert scores["box/AP"] == precision[precision > -1].mean()


def test_more_objects_than_a_hundred_are_found():
    """One image of 144 ships, all found: a limit of 100 caps recall, a higher one does not."""
    boxes = [[x, y, x + 8, y + 8] for x in range(0, 144, 12) for y in range(0, 144, 12)]
    truth = {
        "images": [{"id": 1, "height": 150, "width": 150}],
        "annotations": [annotation(i + 1, 1, "ship", box) for i, box in enumerate(boxes)],
        "categories": CATEGORIES,
    }
    found = prediction(truth, 1, [(box, 1 - i / 1000, "ship") for i, box in enumerate(boxes)])
    recall = {}
    for limit in (100, 300):
        evaluator = CocoEvaluator(truth, ["ship"], max_detections=limit)
        found.labels[:] = 0
        evaluator.update([found])
        recall[limit] = evaluator.compute()["box/AR"]
    assert recall == {100: pytest.approx(100 / 144), 300: 1.0}


def test_annotation_id_zero_counts(truth, predictions):
    expected = CocoEvaluator(truth, CLASSES)
    expected.update(predictions)
    for item in truth["annotations"]:
        item["id"] -= 1
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.update(predictions)
    assert evaluator.compute() == expected.compute()
    # The trap itself, which the renumbering avoids: a perfect hit on annotation 0 is no hit for pycocotools.
    first = truth["annotations"][0]
    perfect = [{"image_id": first["image_id"], "category_id": 2, "bbox": first["bbox"], "score": 1.0}]
    alone = {**truth, "annotations": [first]}
    assert plain_pycocotools(alone, perfect, "bbox").stats[0] == 0.0


def test_labels_in_any_order_keep_their_names(truth, predictions):
    """COCOeval sorts category ids; names must not be swapped by it."""
    expected = CocoEvaluator(truth, CLASSES)
    expected.update(predictions)
    turned = CocoEvaluator(truth, CLASSES[::-1])
    for found in predictions:
        found.labels = 1 - found.labels
    turned.update(predictions)
    scores = turned.compute()
    assert scores["box/AP/ship"] != scores["box/AP/plane"]
    assert scores == pytest.approx(expected.compute(), abs=1e-15)
    assert turned.objects() == expected.objects()
    order = [1, 0, 2]
    assert np.array_equal(turned.confusion(), expected.confusion()[order][:, order])


def test_inclusive_boxes_are_scored_as_published(truth):
    """Boxes one pixel wider than the object, as converters with inclusive edges write: they are the truth of boxes."""
    item = annotation(1, 10, "ship", [10, 10, 30, 40])
    item["bbox"] = [10, 10, 21, 31]
    exact = {"image_id": 10, "category_id": 5, "bbox": [10, 10, 20, 30], "score": 1.0}
    truth["annotations"] = [item]
    evaluator = CocoEvaluator(truth, ["ship"])
    evaluator.update([prediction(truth, 10, [([10, 10, 30, 40], 1.0, "plane")])])  # label 0, the only one
    scores = evaluator.compute()
    assert scores["box/AP"] == pytest.approx(0.9)  # the exact box overlaps by 600 / 651 = 0.92
    assert scores["box/AP"] == plain_pycocotools(truth, [exact], "bbox").eval["precision"][:, :, 1, 0, 2].mean()
    assert scores["mask/AP"] == pytest.approx(1)


def test_an_image_without_objects_counts_by_its_inventions(truth):
    instances = [([5, 5, 25, 25], 0.9, "plane")]
    truth["annotations"] = [annotation(1, 10, "plane", [5, 5, 25, 25])]
    evaluator = CocoEvaluator(truth, ["plane"])
    evaluator.update([prediction(truth, 10, instances), prediction(truth, 15, [])])
    assert evaluator.compute()["mask/AP"] == pytest.approx(1)
    evaluator = CocoEvaluator(truth, ["plane"])
    evaluator.update([prediction(truth, 10, instances), prediction(truth, 15, [([50, 50, 70, 70], 0.95, "plane")])])
    assert evaluator.compute()["mask/AP"] == pytest.approx(0.5)
    assert evaluator.confusion().tolist() == [[1, 0], [1, 0]]


def test_what_lies_in_a_crowd_is_ignored(truth):
    """A hit and a detection inside a region to ignore: precision stays 1, and the region is no object to find."""
    truth["annotations"] = [
        annotation(1, 10, "plane", [5, 5, 25, 25]),
        annotation(2, 10, "plane", [40, 40, 140, 140], crowd=1),
    ]
    evaluator = CocoEvaluator(truth, ["plane"])
    evaluator.update([prediction(truth, 10, [([60, 60, 80, 80], 0.95, "plane"), ([5, 5, 25, 25], 0.9, "plane")])])
    scores = evaluator.compute()
    assert scores["box/AP"] == scores["mask/AP"] == scores["boundary/AP"] == pytest.approx(1)
    assert evaluator.objects() == {"plane": 1}
    del truth["annotations"][0]["iscrowd"]  # a file that never heard of crowds
    CocoEvaluator(truth, ["plane"])


def test_only_seen_images_count(truth, predictions):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.update(predictions[:2])
    seen = {p.image_id for p in predictions[:2]}
    part = {
        **truth,
        "images": [i for i in truth["images"] if i["id"] in seen],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in seen],
    }
    expected = CocoEvaluator(part, CLASSES)
    expected.update(predictions[:2])
    np.testing.assert_equal(evaluator.compute(), expected.compute())


def test_image_seen_twice_counts_once(truth, predictions):
    """Distributed samplers repeat images to even out the processes."""
    once, twice = CocoEvaluator(truth, CLASSES), CocoEvaluator(truth, CLASSES)
    once.update(predictions)
    twice.update([*predictions, *predictions[:2]])
    assert twice.compute() == once.compute()
    assert len(twice.results()) == len(once.results())


def test_no_predictions_score_zero(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.update([prediction(truth, image["id"], []) for image in truth["images"]])
    assert set(evaluator.compute().values()) == {0.0}
    assert evaluator.results() == []


def test_nothing_to_find_is_nan_under_the_same_keys(truth, predictions):
    whole, empty = CocoEvaluator(truth, CLASSES), CocoEvaluator(truth, CLASSES)
    whole.update(predictions)
    empty.update(predictions[-1:])  # the image without objects
    assert list(empty.compute()) == list(whole.compute())
    assert all(math.isnan(value) for value in empty.compute().values())


def test_perfect_predictions_score_one(truth):
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] != 9 and not a["iscrowd"]]
    evaluator = CocoEvaluator(truth, CLASSES)
    for image in truth["images"]:
        instances = [
            ([x, y, x + w, y + h], 0.9, "plane" if item["category_id"] == 2 else "ship")
            for item in truth["annotations"]
            if item["image_id"] == image["id"]
            for x, y, w, h in [item["bbox"]]
        ]
        evaluator.update([prediction(truth, image["id"], instances)])
    scores = evaluator.compute()
    assert scores["box/AP"] == scores["mask/AP"] == scores["box/AP/ship"] == pytest.approx(1.0)


def test_results_are_in_coco_format(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.update([prediction(truth, 10, [([3, 4, 13, 24], 0.5, "ship")])])
    (result,) = evaluator.results()
    assert result["category_id"] == CATEGORY_IDS["ship"]
    assert result["bbox"] == [3, 4, 10, 20]
    assert result["segmentation"]["size"] == [150, 180]
    assert isinstance(result["segmentation"]["counts"], str)
    assert np.array_equal(rle.decode(result["segmentation"]), rectangle([3, 4, 13, 24], 150, 180))


def test_silent_repeatable_and_without_effect_on_its_input(truth, predictions, capsys):
    original = copy.deepcopy(truth)
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.update(predictions)
    first = evaluator.compute()
    assert evaluator.compute() == first
    assert truth == original
    assert capsys.readouterr() == ("", "")


def test_unknown_kind_is_named(truth):
    with pytest.raises(UserError, match=r"'boundry'.*did you mean boundary"):
        CocoEvaluator(truth, CLASSES, kinds=["boundry"])


def test_unknown_class_is_named(truth):
    with pytest.raises(UserError, match=r"'plan'.*did you mean plane"):
        CocoEvaluator(truth, ["plan"])


def test_annotations_of_no_class_are_refused(truth):
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] == 9]
    with pytest.raises(UserError, match="no annotation of any class"):
        CocoEvaluator(truth, CLASSES)


def test_missing_field_is_named(truth):
    del truth["annotations"][0]["area"]
    with pytest.raises(UserError, match="annotation 1 lacks 'area'"):
        CocoEvaluator(truth, CLASSES)


def test_two_categories_of_one_name_are_refused(truth):
    truth["categories"] = [*CATEGORIES, {"id": 30, "name": "ship"}]
    with pytest.raises(UserError, match="two categories named 'ship'"):
        CocoEvaluator(truth, CLASSES)


def test_masks_of_another_size_are_refused(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    wrong = prediction(truth, 10, [([3, 4, 13, 24], 0.5, "ship")])
    wrong.masks = wrong.masks[:, :100]
    with pytest.raises(UserError, match=r"image 10 is 150 x 180.*its masks are 100 x 180"):
        evaluator.update([wrong])


def test_unknown_image_is_refused(truth):
    wrong = prediction(truth, 10, [])
    wrong.image_id = 77
    with pytest.raises(UserError, match="image 77"):
        CocoEvaluator(truth, CLASSES).update([wrong])
