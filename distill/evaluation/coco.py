"""COCO average precision of boxes, masks and boundaries, with the numbers of pycocotools.

Axes: N instances, H W pixels of the image file. Boxes are (x1, y1, x2, y2) in pixels, exclusive at the far edge.
"""

import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.contracts import Prediction
from distill.data.masks import encode_patch
from distill.errors import UserError, unknown_name
from distill.evaluation.boundary import BoundaryEval
from distill.evaluation.confusion import count_confusions
from distill.evaluation.metrics import KINDS
from distill.evaluation.scores import Scores
from distill.instance_masks import InstanceMasks

_NEEDED = ("image_id", "category_id", "bbox", "area", "segmentation")


class CocoEvaluator:
    """Collects predictions, then scores them against COCO annotations.

    Only images that were seen by `update` count, so that a short sanity round is scored on its own images. Annotations
    are read as they are: boxes with inclusive far edges, as some converters write them, are not repaired, because the
    published numbers were not either.

    Attributes:
        category_ids: Category id of each class, in label order.
        records: One entry per image seen: its id and its instances in COCO's result format. Plain lists and numbers,
            to be gathered over processes; an image that two processes saw counts once.

    Args:
        ground_truth: The annotation file's content.
        class_names: Names in label order; each must be a category of the file. Other categories are left out.
        max_detections: Instances of each class in an image that count, best first. COCO's 100 is too few for dense
            tiles.
        kinds: What is scored, of "box", "mask" and "boundary" (see `distill.evaluation.boundary`).

    Raises:
        UserError: A class that the file lacks, no annotation of any class, or an annotation without a field that
            COCO's metric needs.
    """

    def __init__(
        self,
        ground_truth: dict[str, Any],
        class_names: list[str],
        max_detections: int = 100,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        if max_detections < 1:
            raise UserError(f"max_detections must be at least 1 (got {max_detections})")
        for kind in kinds:
            if kind not in KINDS:
                raise unknown_name("kind of average precision", kind, KINDS)
        self.class_names = class_names
        self.max_detections = max_detections
        self.kinds = tuple(kinds)
        self.records: list[tuple[int, list[dict[str, Any]]]] = []
        self.category_ids = _category_ids(ground_truth, class_names)
        self._images = {image["id"]: image for image in ground_truth["images"]}
        self._truth = _quiet_coco(
            ground_truth["images"],
            [{"id": i, "name": name} for i, name in zip(self.category_ids, class_names, strict=True)],
            _annotations(ground_truth, set(self.category_ids)),
        )

    def update(self, predictions: list[Prediction]) -> None:
        """Takes in the predictions of some images; masks are kept run-length encoded.

        Raises:
            UserError: An image that the annotation file lacks, or masks of another size than its image.
        """
        for prediction in predictions:
            self.records.append((prediction.image_id, self._encode(prediction)))

    def results(self) -> list[dict[str, Any]]:
        """All instances in COCO's result format (JSON-ready): boxes as x, y, width, height, masks as RLE strings."""
        distinct: dict[int, list[dict[str, Any]]] = {}
        for image_id, instances in self.records:
            distinct.setdefault(image_id, instances)
        return [dict(instance) for instances in distinct.values() for instance in instances]

    def compute(self) -> dict[str, float]:
        """Scores the images seen so far.

        Returns:
            For each kind, here `box`: `box/AP` (mean over IoU .50:.95), `box/AP50`, `box/AP75`, `box/AP_small`,
            `box/AP_medium`, `box/AP_large` (COCO's areas: 32 and 96 px squared), `box/AR`, and `box/AP/<class>`. Where
            the images hold nothing to find, of a class or of a size, the value is NaN and not 0 (pycocotools: -1): it
            must not enter an average. The keys are always the same. Without predictions the values are 0.
        """
        return summarise(self.score())

    def score(self) -> dict[str, Scores]:
        """Precision and recall of each kind, by class, size, recall and IoU threshold."""
        return {kind: self._score(kind) for kind in self.kinds}

    def confusion(self) -> NDArray[np.int64]:
        """Counts (K + 1, K + 1) of true against predicted classes in the images seen; the last is the background."""
        labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        found = defaultdict(list)
        for result in self.results():
            found[result["image_id"]].append(result)
        total = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)
        for image_id in self.seen():
            annotations = self._truth.loadAnns(self._truth.getAnnIds(imgIds=[image_id]))
            objects = [{**a, "segmentation": self._truth.annToRLE(a)} for a in annotations]
            total += count_confusions(objects, found[image_id], labels)
        return total

    def objects(self) -> dict[str, int]:
        """How many objects of each class the images seen hold, regions to ignore left out."""
        ids = self._truth.getAnnIds(imgIds=self.seen(), iscrowd=False) if self.records else []
        of_category = [a["category_id"] for a in self._truth.loadAnns(ids)]
        return {n: of_category.count(i) for n, i in zip(self.class_names, self.category_ids, strict=True)}

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Height and width of every image of the annotation file, by id."""
        return {image_id: (image["height"], image["width"]) for image_id, image in self._images.items()}

    def seen(self) -> list[int]:
        """Ids of the images that were scored."""
        return sorted({image_id for image_id, _ in self.records})

    def _encode(self, prediction: Prediction) -> list[dict[str, Any]]:
        image = self._images.get(prediction.image_id)
        if image is None:
            raise UserError(
                f"image {prediction.image_id} was predicted but is not in the annotation file; evaluate with the "
                "annotation file that the images were read by"
            )
        size = image["height"], image["width"]
        masks = prediction.masks
        if masks.shape[1:] != size:
            raise UserError(
                f"image {prediction.image_id} is {size[0]} x {size[1]} (height x width) in the "
                f"annotation file but its masks are {' x '.join(map(str, masks.shape[1:]))}; correct the file"
            )
        patches = (masks if isinstance(masks, InstanceMasks) else InstanceMasks.from_dense(masks)).patches()
        boxes, scores, labels = prediction.boxes.tolist(), prediction.scores.tolist(), prediction.labels.tolist()
        instances = []
        for (x1, y1, x2, y2), score, label, patch in zip(boxes, scores, labels, patches, strict=True):
            instances.append(
                {
                    "image_id": prediction.image_id,
                    "category_id": self.category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                    "segmentation": encode_patch(patch, *size),
                }
            )
        return instances

    def _score(self, kind: str) -> Scores:
        evaluator = BoundaryEval if kind == "boundary" else COCOeval
        iou_type = "bbox" if kind == "box" else "segm"
        evaluation = evaluator(self._truth, self._detections(iou_type), iou_type)
        parameters = evaluation.params
        parameters.imgIds = self.seen()
        parameters.catIds = list(self.category_ids)
        # COCOeval.summarize() looks for a limit of exactly 100 and reports -1 under any other, hence `Scores`.
        parameters.maxDets = [self.max_detections]
        with redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
        # COCOeval has sorted the category ids by now; labels may come in any order.
        order = [sorted(self.category_ids).index(i) for i in self.category_ids]
        precision, recall = evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0]
        return Scores(self.class_names, precision[:, :, order], recall[:, order])

    def _detections(self, iou_type: str) -> COCO:
        results = self.results()
        if iou_type == "segm":
            # With a box at hand loadRes takes the box's area for the mask's and sorts masks into the wrong size.
            for result in results:
                del result["bbox"]
        if not results:  # loadRes fails on an empty list
            return _quiet_coco([], [], [])
        with redirect_stdout(io.StringIO()):
            return self._truth.loadRes(results)


def summarise(scores: dict[str, Scores]) -> dict[str, float]:
    """The averages of each kind as `<kind>/<name>`."""
    return {f"{kind}/{name}": value for kind, found in scores.items() for name, value in found.summary().items()}


def _category_ids(ground_truth: dict[str, Any], class_names: list[str]) -> list[int]:
    """Category ids in label order."""
    ids: dict[str, int] = {}
    for category in ground_truth["categories"]:
        if category["name"] in ids:
            raise UserError(f"the annotation file has two categories named {category['name']!r}; merge or rename them")
        ids[category["name"]] = category["id"]
    for name in class_names:
        if name not in ids:
            raise unknown_name("class in the annotation file", name, ids)
    return [ids[name] for name in class_names]


def _annotations(ground_truth: dict[str, Any], category_ids: set[int]) -> list[dict[str, Any]]:
    """Copies of the annotations of these categories, numbered from 1.

    The copies keep COCOeval's marks out of the caller's dictionary. The numbers replace the file's own, because
    COCOeval stores the matched annotation's id in an array where 0 means "no match".
    """
    kept = [a for a in ground_truth["annotations"] if a["category_id"] in category_ids]
    if not kept:
        raise UserError(
            "the annotation file holds no annotation of any class, so there is nothing to score; check the category "
            "ids of its annotations against its categories"
        )
    for annotation in kept:
        for field in _NEEDED:
            if field not in annotation:
                raise UserError(
                    f"annotation {annotation.get('id')} lacks {field!r}, which COCO's metric needs; add it to the file"
                )
    return [{"iscrowd": 0, **annotation, "id": number} for number, annotation in enumerate(kept, start=1)]


def _quiet_coco(images: list[Any], categories: list[Any], annotations: list[Any]) -> COCO:
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
        coco.createIndex()
    return coco
