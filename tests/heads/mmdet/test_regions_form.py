"""The exported form of two-stage heads against their `predict`."""

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from heads import CascadeMaskRCNN, DenseMasks, MaskRCNN
from heads.mmdet.compact_masks import paste

SMALL = {"neck_channels": 32, "fc_channels": 64, "mask_convs": 1, "proposals": 64, "max_detections": 10}
CLASSES = ["ship", "plane", "car"]
AGNOSTIC = {"roi_head.mask_head.class_agnostic": True, "roi_head.mask_head.num_classes": 3}
CASES = {
    "MaskRCNN": (MaskRCNN, {}),
    "light MaskRCNN": (MaskRCNN, {"neck_skip_finest": True, "overrides": AGNOSTIC | {"rpn_head.num_convs": 2}}),
    "one box for all classes": (MaskRCNN, {"overrides": {"roi_head.bbox_head.reg_class_agnostic": True}}),
    "CascadeMaskRCNN": (CascadeMaskRCNN, {}),
    "a box for each class": (CascadeMaskRCNN, {"overrides": {"roi_head.bbox_head.reg_class_agnostic": False}}),
    "suppression over all classes": (
        MaskRCNN,
        {"overrides": {"test_cfg.rcnn.nms.class_agnostic": True, "test_cfg.rpn.nms_pre": 7}},
    ),
}
SIZES = [((64, 64), (64, 64)), ((96, 64), (90, 50)), ((56, 136), (56, 130))]  # padded, real


def decided(head: torch.nn.Module, factor: float = 8.0) -> torch.nn.Module:
    """With scores that differ, as after training."""
    with torch.no_grad():
        for part in head.roi_head.bbox_head.parameters():
            part.mul_(factor)
    return head.eval()


def assert_same(head, features: list[Tensor], target) -> int:
    """Compares, and returns how many instances there are.

    Where fewer proposals than the limit count, products of more rows are rounded in another order.
    """
    with torch.no_grad():
        expected = head.predict(features, [target])[0]
        boxes, scores, labels, count, masks = head.export_form().module(features, torch.tensor(target.size))
    limit = head.max_detections
    assert [len(x) for x in (boxes, scores, labels, masks)] == [limit] * 4
    assert count == len(expected.boxes)
    torch.testing.assert_close(boxes[:count], expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(scores[:count], expected.scores, atol=1e-5, rtol=0)
    assert torch.equal(labels[:count], expected.labels)
    pasted = paste(masks[:count], boxes[:count], target.size, head.export_form().settings["mask_threshold"])
    assert (pasted.dense() != expected.masks[:]).sum() <= 1e-4 * pasted.dense().numel()
    assert not any(x[count:].any() for x in (boxes, scores, labels, masks))
    return int(count)


@pytest.mark.parametrize("case", CASES)
def test_equals_predict(case, student, target):
    torch.manual_seed(1)
    head_class, arguments = CASES[case]
    head = decided(head_class(student.feature_info, CLASSES, **SMALL | {"score_threshold": 0.3} | arguments))
    found = 0
    for padded, real in SIZES:
        features = student(torch.randn(1, 3, *padded))
        found += assert_same(head, features, target([], [], size=real))
    assert found


def test_no_instance_and_more_than_the_limit(student, target):
    torch.manual_seed(1)
    features = student(torch.randn(1, 3, 64, 64))
    head = decided(MaskRCNN(student.feature_info, CLASSES, **SMALL | {"score_threshold": 0.0}))
    assert assert_same(head, features, target([], [])) == 10
    head.max_detections = 25  # as `distill.load` may raise it
    assert assert_same(head, features, target([], [])) == 25
    head.score_threshold = 1.0
    assert assert_same(head, features, target([], [])) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"test_cfg.rcnn.nms.type": "soft_nms"}, "test_cfg.rcnn.nms.type soft_nms, and a graph can be written for nms"),
        ({"test_cfg.rpn.nms.max_num": 5}, "test_cfg.rpn.nms keys max_num"),
        ({"roi_head.mask_roi_extractor.roi_layer.pool_mode": "max"}, "pool_mode max, and .* written for avg"),
        ({"roi_head.bbox_head.bbox_coder": {"type": "LegacyDeltaXYWHBBoxCoder"}}, "bbox_coder.type LegacyDelta"),
        ({"test_cfg.rcnn.max_per_img": -1}, "max_per_img above 0: False"),
    ],
)
def test_what_the_form_does_not_know_is_one_line(student, overrides, message):
    head = MaskRCNN(student.feature_info, CLASSES, **SMALL, overrides=overrides)
    with pytest.raises(UserError, match=message) as raised:
        head.export_form()
    assert "\n" not in str(raised.value)


def test_dense_masks_give_their_probabilities(student):
    head = DenseMasks(student.feature_info, CLASSES, threshold=0.4, min_area=9)
    form = head.export_form()
    assert form.kind == "planes"
    assert form.settings == {"mask_threshold": 0.4, "min_area": 9.0}
    features = student(torch.randn(1, 3, 64, 96))
    (probabilities,) = form.module(features, torch.tensor([64, 96]))
    assert torch.equal(probabilities, head(features).sigmoid())
