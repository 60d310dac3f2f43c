"""Published annotations, scored as if a model had predicted them."""

from pathlib import Path

import pytest
import torch

from distill.contracts import Prediction
from distill.data.annotations import CocoAnnotations
from distill.data.masks import decode_mask
from distill.evaluation.coco import CocoEvaluator

NWPU = Path(__file__).parents[2] / "../shared/data/nwpu/annotations/val.json"


@pytest.mark.parametrize(("boxes", "expected"), [("published", 1.0), ("of masks", 0.97)])
def test_nwpu_found_perfectly(boxes: str, expected: float) -> None:
    """Published boxes are inclusive, one pixel wider than the masks: a detector that follows masks stays below 1."""
    if not NWPU.is_file():
        pytest.skip("NWPU VHR-10 is not here")
    annotations = CocoAnnotations(NWPU)
    kinds = ("box", "mask", "boundary") if boxes == "published" else ("box",)
    images = annotations.images[::3]  # all take three times as long
    truth = annotations.ground_truth(image["id"] for image in images)
    evaluator = CocoEvaluator(truth, annotations.class_names, kinds=kinds)
    for image in images:
        records = annotations.objects(image["id"])
        masks = torch.stack(
            [torch.from_numpy(decode_mask(r["segmentation"], image["height"], image["width"])).bool() for r in records]
        )
        if boxes == "published":
            corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in records)])
        else:
            corners = torch.stack([extent(mask) for mask in masks])
        labels = torch.tensor([record["label"] for record in records])
        evaluator.update([Prediction(image["id"], corners.float(), torch.ones(len(records)), labels, masks)])
    scores = evaluator.compute()
    assert scores["box/AP"] == pytest.approx(expected, abs=5e-3)
    for kind in kinds[1:]:
        assert scores[f"{kind}/AP"] == pytest.approx(1)


def extent(mask: torch.Tensor) -> torch.Tensor:
    """The box (4,) of a mask (H, W), exclusive at the far edge."""
    rows, columns = mask.nonzero(as_tuple=True)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
