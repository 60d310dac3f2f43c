"""What all two-stage heads have in common."""

import subprocess
import sys
from collections.abc import Callable

import jsonargparse
import pytest
import torch
import torchvision
from torch import nn

import heads
from distill.contracts import FeatureInfo, HeadBase
from distill.errors import UserError

LOSSES = {
    "MaskRCNN": {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"},
    "CascadeMaskRCNN": {"loss_rpn_cls", "loss_rpn_bbox"}
    | {f"s{step}.loss_{part}" for step in range(3) for part in ("cls", "bbox", "mask")},
    "RSPrompter": {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask", "loss_mask_dice"},
}


@pytest.fixture
def head(head_class, student, small):
    torch.manual_seed(1)
    return head_class(student.feature_info, ["ship", "plane"], **small)


def box_heads(head):
    part = head.roi_head.bbox_head
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def trained(head):
    return [(name, parameter) for name, parameter in head.named_parameters() if parameter.requires_grad]


def test_satisfies_the_contract_and_resolves_by_path(head, head_class):
    assert isinstance(head, HeadBase)
    assert getattr(heads, head_class.__name__) is head_class
    with pytest.raises(AttributeError, match="no attribute 'MaskRCN'"):
        heads.MaskRCN  # noqa: B018


def test_recipe_instantiates_it(student, head_class, small):
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--head", type=Callable[[FeatureInfo, list[str]], nn.Module])
    arguments = {**small, "overrides": {"test_cfg.rcnn.score_thr": 0.2}}
    given = {"class_path": f"heads.{head_class.__name__}", "init_args": arguments}
    factory = parser.instantiate_classes(parser.parse_object({"head": given})).head
    head = factory(student.feature_info, ["ship"])
    assert head.roi_head.test_cfg.score_thr == 0.2
    assert all(part.num_classes == 1 for part in box_heads(head))


def test_gradient_reaches_every_parameter(student, head, target):
    targets = [target([[4, 4, 30, 28], [34, 20, 60, 60]], [0, 1]), target([[10, 30, 24, 60]], [1])]
    losses = head.loss(student(torch.randn(2, 3, 64, 64)), targets)
    assert set(losses) == LOSSES[type(head).__name__]
    for name, loss in losses.items():
        assert loss.shape == (), name
        assert loss > 0, name
    sum(losses.values()).backward()
    for name, parameter in [*trained(head), *student.named_parameters()]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("norm", ["layer", "group", "batch", "none"])
def test_images_without_instances_train(student, head_class, small, target, norm):
    head = head_class(student.feature_info, ["ship", "plane"], neck_norm=norm, **small)
    empty, all_crowd = target([], []), target([[4, 4, 30, 28]], [0], crowd=[True])
    losses = head.loss(student(torch.randn(2, 3, 64, 64)), [empty, all_crowd])
    assert set(losses) == LOSSES[head_class.__name__]
    assert all(loss == 0 for name, loss in losses.items() if "cls" not in name)
    assert losses["loss_rpn_cls"] > 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for _, p in trained(head))


def test_crowd_regions_are_neither_objects_nor_background(student, head, target):
    """Under a crowd that covers the image only the true box trains the second stage; no proposal is background."""
    sampled = []
    box_heads(head)[0].register_forward_hook(lambda module, inputs, output: sampled.append(len(inputs[0])))
    features = student(torch.randn(1, 3, 64, 64))
    head.loss(features, [target([[4, 4, 30, 28]], [0])])
    head.loss(features, [target([[4, 4, 30, 28], [0, 0, 64, 64]], [0, 0], crowd=[False, True])])
    assert sampled == [32, 1]


def test_bfloat16_autocast_changes_little(student, head_class, small, target):
    targets = [target([[4, 4, 30, 28], [34, 20, 60, 60]], [0, 1])]
    images = torch.randn(1, 3, 64, 64)
    totals = {}
    for enabled in (False, True):
        torch.manual_seed(1)
        head = head_class(student.feature_info, ["ship", "plane"], **small)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = head.loss(student(images), targets)
            predictions = head.predict(student(images), targets)
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        assert predictions[0].boxes.dtype == predictions[0].scores.dtype == torch.float32
        totals[enabled] = sum(losses.values())
    totals[True].backward()
    assert all(torch.isfinite(p.grad).all() for _, p in trained(head))
    assert totals[True].item() == pytest.approx(totals[False].item(), rel=0.05)


@pytest.mark.parametrize(
    "head_class",
    [
        heads.MaskRCNN,
        *(pytest.param(head, marks=pytest.mark.slow) for head in (heads.CascadeMaskRCNN, heads.RSPrompter)),
    ],
    indirect=True,
    ids=lambda head: head.__name__,
)
def test_overfits_two_images_and_predicts_in_the_file_frame(student, head, target, image_of):
    """Non-square scaling and padding: the file is 96 x 192, read at 48 x 64 into a 64 x 64 input."""
    frame = {"size": (48, 64), "original_size": (96, 192)}
    targets = [
        target([[6, 4, 26, 24], [34, 18, 60, 44]], [0, 1], image_id=7, **frame),
        target([[20, 10, 52, 30]], [1], image_id=9, **frame),
    ]
    images = torch.stack([image_of(t) for t in targets])
    optimizer = torch.optim.AdamW([*student.parameters(), *head.parameters()], lr=3e-3)
    # At a constant rate boxes still move at the end, and differ from processor to processor.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 160)
    for _ in range(160):
        loss = sum(head.loss(student(images), targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    student.eval()
    head.eval()
    predictions = head.predict(student(images), targets)
    assert [p.image_id for p in predictions] == [7, 9]
    for found, wanted in zip(predictions, targets, strict=True):
        assert found.masks.dtype == torch.bool
        assert found.masks.shape[1:] == (96, 192)
        assert (found.scores.diff() <= 0).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([192, 96, 192, 96])).all()
        boxes = wanted.boxes * torch.tensor([3, 2, 3, 2])
        masks = wanted.masks[:, :48, :64].repeat_interleave(2, 1).repeat_interleave(3, 2)
        for box, mask, label in zip(boxes, masks, wanted.labels, strict=True):
            of_class = found.labels == label
            overlap, best = torchvision.ops.box_iou(box[None], found.boxes[of_class])[0].max(0)
            assert overlap > 0.7
            best_mask = found.masks[of_class][best]
            assert (best_mask & mask).sum() / (best_mask | mask).sum() > 0.7


def test_predicts_nothing_in_the_right_shapes(student, head_class, small, target):
    head = head_class(student.feature_info, ["ship", "plane"], score_threshold=1.0, **small).eval()
    (found,) = head.predict(student(torch.randn(1, 3, 64, 64)), [target([], [], original_size=(50, 70))])
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.int64
    assert found.masks.shape == (0, 50, 70)
    assert found.masks.dtype == torch.bool


def test_max_detections_limits(student, head_class, small, target):
    head = head_class(student.feature_info, ["ship"], score_threshold=0.0, max_detections=3, **small).eval()
    maps = student(torch.randn(1, 3, 64, 64))
    (found,) = head.predict(maps, [target([], [])])
    assert len(found.scores) == head.max_detections == 3
    assert (found.scores.diff() <= 0).all()
    head.max_detections = 70
    (more,) = head.predict(maps, [target([], [])])
    assert 3 < len(more.scores) <= 70
    assert torch.equal(more.boxes[:3], found.boxes)
    assert torch.equal(more.masks[:3], found.masks.dense())


def test_the_score_threshold_can_be_lowered(student, head_class, small, target):
    torch.manual_seed(1)
    head = head_class(student.feature_info, ["ship"], score_threshold=1.0, **small).eval()
    features = student(torch.randn(1, 3, 64, 64))
    assert head.score_threshold == 1.0
    assert not len(head.predict(features, [target([], [])])[0].scores)
    head.score_threshold = 0.0
    assert len(head.predict(features, [target([], [])])[0].scores)


def test_state_survives_a_round_trip(student, head, head_class, small, target):
    torch.manual_seed(2)
    other = head_class(student.feature_info, ["ship", "plane"], score_threshold=0.0, **small).eval()
    head.eval().roi_head.test_cfg["score_thr"] = 0.0
    other.load_state_dict(head.state_dict())
    features = student(torch.randn(1, 3, 64, 64))
    first, second = (h.predict(features, [target([], [])])[0] for h in (head, other))
    assert len(first.scores)
    assert torch.equal(first.boxes, second.boxes)


@pytest.mark.parametrize(
    ("class_names", "overrides", "message"),
    [
        ([], None, "at least one class"),
        (["ship"], {"rpn_hed": {"feat_channels": 8}}, "did you mean rpn_head"),
        (["ship"], {"rpn_head": {"feet": 3}}, "'feet'"),
        (["ship"], {"roi_head": {"type": "StandardRoiHead"}}, "StandardRoiHead"),
        (["ship"], {"test_cfg.rcnn.nms.type": "nmss"}, "section test_cfg.rcnn.nms 'nmss': did you mean nms"),
        (["ship"], {"test_cfg.rpn.nms.type": "softnms"}, "section test_cfg.rpn.nms 'softnms': did you mean soft_nms"),
        (["ship"], {"train_cfg.rcnn": None}, "train_cfg.rcnn is None, but that is a section"),
        (["ship"], {"train_cfg": {"_delete_": True, "rpn": {}, "rcnn": {}}}, "rpn_proposal"),
        (["ship"], {"roi_head.bbox_head.fc_out_channels": -3}, "negative dimension -3"),
        (["ship"], {"rpn_head.init_cfg": {"type": "Pretrained", "checkpoint": "absent.pth"}}, "absent.pth can not be"),
        (["ship"], {"roi_head.bbox_head.num_classes": 5}, "num_classes 5, but the data has 1 classes; leave"),
    ],
)
def test_unfit_settings_are_named_on_one_line(student, head_class, small, class_names, overrides, message):
    with pytest.raises(UserError, match=message) as raised:
        head_class(student.feature_info, class_names, overrides=overrides, **small)
    assert head_class.__name__ in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_second_stage_that_moves_no_boxes(student, target):
    """MMDetection's `with_reg: false`: its box head returns None beside the classes."""
    settings = heads.MaskRCNN.smoke_args() | {"overrides": {"roi_head.bbox_head.with_reg": False}}
    head = heads.MaskRCNN(student.feature_info, ["ship"], **settings)
    features = student(torch.randn(1, 3, 64, 64))
    assert "loss_bbox" not in head.loss(features, [target([[8, 8, 40, 40]], [0])])
    assert len(head.eval().predict(features, [target([], [])])[0].scores)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("neck_channels", 0, "1 or more"),
        ("neck_channels", 30, "a multiple of 4"),
        ("neck_hidden", 0, "1 or more"),
        ("fc_channels", 0, "1 or more"),
        ("anchor_scale", 0, "1 or more"),
        ("roi_samples", 0, "1 or more"),
        ("mask_convs", -1, "0 or more"),
        ("max_detections", 0, "1 or more"),
        ("proposals", 0, "1 or more"),
        ("score_threshold", 1.5, "in \\[0, 1\\]"),
        ("score_threshold", -0.1, "in \\[0, 1\\]"),
        ("dense_weight", -1.0, "0 or more"),
        ("dense_weight", float("nan"), "0 or more"),
    ],
)
def test_numbers_out_of_range_are_named_on_one_line(student, head_class, small, key, value, allowed):
    if key == "mask_convs" and head_class.__name__ == "RSPrompter":
        pytest.skip("its mask head has no convolutions to count")
    with pytest.raises(UserError, match=rf"^model\.head\.{key} is {value}; it must be {allowed}$"):
        head_class(student.feature_info, ["ship"], **small | {key: value})


def test_overrides_reach_the_built_parts(student, head_class, small):
    loss = {"_delete_": True, "type": "L1Loss", "loss_weight": 2.0}
    head = head_class(
        student.feature_info, ["ship"], overrides={"roi_head": {"bbox_head": {"loss_bbox": loss}}}, **small
    )
    for part in box_heads(head):
        assert type(part.loss_bbox).__name__ == "L1Loss"
        assert part.loss_bbox.loss_weight == 2.0


def test_anchors_stay_when_the_finest_level_goes(student, head_class, small):
    whole, rest = (
        head_class(student.feature_info, ["ship"], neck_skip_finest=skip, **small).rpn_head.prior_generator
        for skip in (False, True)
    )
    assert all(torch.equal(one, two) for one, two in zip(rest.base_anchors, whole.base_anchors[:5], strict=True))
    assert [one[0] for one in rest.strides] == [2 * one[0] for one in whole.strides]


def test_building_has_no_side_effects():
    code = """
import logging, multiprocessing, cv2
root = logging.getLogger()
before = (root.level, list(root.handlers), multiprocessing.get_start_method(allow_none=True), cv2.getNumThreads())
from heads import CascadeMaskRCNN, MaskRCNN
class Maps:
    channels = lambda self: [8]
    reduction = lambda self: [8]
class Pyramid:
    channels = lambda self: [8, 8]
    reduction = lambda self: [4, 8]
for head_class, maps in ((MaskRCNN, Maps()), (CascadeMaskRCNN, Pyramid())):
    head_class(maps, ["ship"], neck_channels=16, fc_channels=8, mask_convs=1)
assert before == (
    root.level, list(root.handlers), multiprocessing.get_start_method(allow_none=True), cv2.getNumThreads()
)
from mmengine.registry import DefaultScope
assert DefaultScope.get_current_instance() is None
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_dense_branch_trains_the_neck_and_is_gone_at_inference(student, head_class, small, target):
    torch.manual_seed(0)
    head = head_class(student.feature_info, ["a", "b"], dense_weight=0.5, **small)
    features = student(torch.rand(1, 3, 64, 64))
    truth = [target([[8, 8, 40, 40]], [1])]
    losses = head.loss(features, truth)
    assert {"loss_dense", "loss_dice"} <= losses.keys()
    (losses["loss_dense"] + losses["loss_dice"]).backward()
    assert head.dense.weight.grad.abs().sum() > 0
    assert next(head.neck.parameters()).grad.abs().sum() > 0
    plain = head_class(student.feature_info, ["a", "b"], **small)
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("dense.")})
    with torch.no_grad():
        one, other = (h.eval().predict(features, truth)[0] for h in (head, plain))
    assert torch.equal(one.boxes, other.boxes)
    assert not {"loss_dense", "loss_dice"} & plain.loss(features, truth).keys()
