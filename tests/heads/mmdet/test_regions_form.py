"""The exported form of two-stage heads against their `predict`."""

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from heads import CascadeMaskRCNN, DenseMasks, MaskRCNN, RSPrompter
from heads.mmdet.compact_masks import paste

SMALL = {"neck_channels": 32, "fc_channels": 64, "proposals": 64, "max_detections": 10}
CLASSES = ["ship", "plane", "car"]
AGNOSTIC = {"roi_head.mask_head.class_agnostic": True, "roi_head.mask_head.num_classes": 3}
CASES = {
    "MaskRCNN": (MaskRCNN, {}),
    "light MaskRCNN": (MaskRCNN, {"neck_skip_finest": True, "overrides": AGNOSTIC | {"rpn_head.num_convs": 2}}),
    "one box for all classes": (MaskRCNN, {"overrides": {"roi_head.bbox_head.reg_class_agnostic": True}}),
    "CascadeMaskRCNN": (CascadeMaskRCNN, {}),
    "a box for each class": (CascadeMaskRCNN, {"overrides": {"roi_head.bbox_head.reg_class_agnostic": False}}),
    "RSPrompter": (RSPrompter, {"overrides": {"roi_head.mask_head.decoder_chunk": 3}}),
    "suppression over all classes": (
        MaskRCNN,
        {"overrides": {"test_cfg.rcnn.nms.class_agnostic": True, "test_cfg.rpn.nms_pre": 7}},
    ),
}
SIZES = [((64, 64), (64, 64)), ((96, 64), (90, 50)), ((56, 136), (56, 130))]  # padded, real


def built(head_class, student, **arguments):
    own = {"decoder_channels": 32} if head_class is RSPrompter else {"mask_convs": 1}
    return head_class(student.feature_info, CLASSES, **SMALL | own | arguments)


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
    form = head.export_form()
    with torch.no_grad():
        expected = head.predict(features, [target])[0]
        boxes, scores, labels, count, masks = form.module(features, torch.tensor(target.size))
    limit = head.max_detections
    assert [len(x) for x in (boxes, scores, labels, masks)] == [limit] * 4
    assert count == len(expected.boxes)
    torch.testing.assert_close(boxes[:count], expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(scores[:count], expected.scores, atol=1e-5, rtol=0)
    assert torch.equal(labels[:count], expected.labels)
    threshold = form.settings["mask_threshold"]
    if form.kind == "frames":
        pasted = head.roi_head.mask_head._binary(masks[:count, None], target.size, target.size, threshold)
    else:
        pasted = paste(masks[:count], boxes[:count], target.size, threshold)
    assert (pasted.dense() != expected.masks[:]).sum() <= 1e-4 * pasted.dense().numel()
    assert not any(x[count:].any() for x in (boxes, scores, labels, masks))
    return int(count)


@pytest.mark.parametrize("case", CASES)
def test_equals_predict(case, student, target):
    torch.manual_seed(1)
    head_class, arguments = CASES[case]
    head = decided(built(head_class, student, **{"score_threshold": 0.3} | arguments))
    found = 0
    for padded, real in SIZES:
        features = student(torch.randn(1, 3, *padded))
        found += assert_same(head, features, target([], [], size=real))
    assert found


@pytest.mark.parametrize("head_class", [MaskRCNN, RSPrompter])
def test_no_instance_and_more_than_the_limit(head_class, student, target):
    torch.manual_seed(1)
    features = student(torch.randn(1, 3, 64, 64))
    head = decided(built(head_class, student, score_threshold=0.0))
    assert assert_same(head, features, target([], [])) == 10
    head.max_detections = 25  # as `distill.load` may raise it
    assert assert_same(head, features, target([], [])) == 25
    head.score_threshold = 1.0
    assert assert_same(head, features, target([], [])) == 0
    head.score_threshold, head.max_detections = 0.0, 1
    assert assert_same(head, features, target([], [])) == 1


@pytest.mark.parametrize(
    ("head_class", "overrides", "message"),
    [
        (MaskRCNN, {"test_cfg.rcnn.nms.type": "soft_nms"}, "nms.type soft_nms, and a graph can be written for nms"),
        (MaskRCNN, {"test_cfg.rpn.nms.max_num": 5}, "test_cfg.rpn.nms keys max_num"),
        (MaskRCNN, {"roi_head.mask_roi_extractor.roi_layer.pool_mode": "max"}, "pool_mode max, and .* written for avg"),
        (MaskRCNN, {"roi_head.bbox_head.bbox_coder": {"type": "LegacyDeltaXYWHBBoxCoder"}}, "coder.type LegacyDelta"),
        (MaskRCNN, {"test_cfg.rcnn.max_per_img": -1}, "max_per_img above 0: False"),
        (RSPrompter, {"test_cfg.rcnn.nms.type": "soft_nms"}, "^heads.RSPrompter cannot be exported: .*soft_nms"),
        (
            RSPrompter,
            {"roi_head.positional_encoding": {"type": "LearnedPositionalEncoding", "num_feats": 16, "_delete_": True}},
            "roi_head.positional_encoding.type LearnedPositionalEncoding, and .* for SinePositionalEncoding",
        ),
    ],
)
def test_what_the_form_does_not_know_is_one_line(student, head_class, overrides, message):
    head = built(head_class, student, overrides=overrides)
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
