"""What the models of the study on NWPU VHR-10 are worth: probes of frozen features, and average precision."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nwpu_data import StudyData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from distill.data.annotations import CocoAnnotations
from distill.evaluation.probes.scores import Labelled, few_shot_score, linear_score
from distill.tasks.probes.base import Features
from distill.tasks.probes.objects import ObjectProbe

SHOTS = (5, 20)  # labels of each class; then all
DRAWS = 8
SPLITS = ("val", "untied")  # all validation images, and those that show no place of a training image


def probe_scores(data: StudyData, features: Features) -> dict[str, dict[str, float]]:
    """Balanced accuracy of linear probes of objects by number of labels, on each of `SPLITS`."""
    images, annotations = str(data.nwpu / "images"), data.nwpu / "annotations"
    files = [images, str(annotations / "train.json"), images, str(annotations / "val.json")]
    probe = ObjectProbe(*files, tokens=False, per_class=None, val_per_class=None, shots=None)
    read = probe.load()
    train, val = (probe.extract(part, features)[0] for part in (read.train, read.val))
    untied = _of_untied(data, read.class_names)
    parts = {"val": val, "untied": val[untied]}
    return {split: _by_labels(train, part, len(read.class_names)) for split, part in parts.items()}


def _by_labels(train: Labelled, val: Labelled, classes: int) -> dict[str, float]:
    found = {str(shots): few_shot_score(train, val, classes, shots, DRAWS) for shots in SHOTS}
    return found | {"all": linear_score(train, val, classes)}


def _of_untied(data: StudyData, class_names: list[str]) -> Tensor:
    """Numbers of the validation objects in images that show no place of a training image."""
    content = CocoAnnotations(str(data.nwpu / "annotations/val.json"), class_names, scored=True)
    untied = set(data.untied)
    shown = [image["id"] in untied for image in content.images for _ in content.objects(image["id"])]
    return torch.tensor(shown).nonzero()[:, 0]


def average_precision(data: StudyData, predictions: Path, selecting: bool = False) -> dict[str, dict[str, float]]:
    """AP and AP50 of boxes and masks of COCO results on NWPU's validation images, on each of `SPLITS`.

    Args:
        data: The images.
        predictions: The results.
        selecting: Whether they are of the training images that are left out; these are "select".
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.part("select") if selecting else data.nwpu / "annotations/val.json"))
        results: list[dict[str, Any]] = json.loads(predictions.read_text(encoding="utf-8"))
        found = truth.loadRes(results) if results else None
        every = truth.getImgIds()
        chosen = {"select": every} if selecting else {"val": every, "untied": data.untied}
        return {split: _scores(truth, found, ids) for split, ids in chosen.items()}


def _scores(truth: COCO, found: COCO | None, ids: list[int]) -> dict[str, float]:
    scores = {}
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        values = np.zeros(2)
        if found is not None:
            evaluation = COCOeval(truth, found, kind)
            evaluation.params.imgIds = ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            values = evaluation.stats[:2]
        scores |= {f"{name}/AP": float(values[0]), f"{name}/AP50": float(values[1])}
    return scores
