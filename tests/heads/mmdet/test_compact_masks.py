"""Compact masks have the bits of MMDetection's dense ones, wherever the boxes lie."""

from types import SimpleNamespace

import pytest
import torch

from heads.mmdet.compact_masks import paste
from heads.mmdet.float32 import steps


@pytest.fixture
def dense_head():
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    return FCNMaskHead(num_convs=0, in_channels=8, conv_out_channels=8, num_classes=3)


def test_pasting_has_the_bits_of_mmdetection(dense_head):
    generator = torch.Generator().manual_seed(0)
    height, width = 53, 71
    corners = torch.rand(60, 2, 2, generator=generator).mul(1.2).sub(0.1).clamp(0, 1).sort(dim=1).values
    boxes = (corners * torch.tensor([width, height])).flatten(1)
    odd = [[0, 0, width, height], [0, 0, 0.4, 0.4], [70.5, 52.5, 71, 53], [30, 20, 30, 40], [30, 20, 30.001, 20.001]]
    boxes = torch.cat([boxes, torch.tensor(odd)])
    logits = torch.randn(len(boxes), 3, 28, 28, generator=generator) * 3
    labels = torch.randint(3, (len(boxes),), generator=generator)
    for threshold in (0.5, 0.3):
        meta, settings = {"ori_shape": (height, width), "scale_factor": (1.0, 1.0)}, SimpleNamespace()
        settings.mask_thr_binary = threshold
        expected = dense_head._predict_by_feat_single(logits, boxes.clone(), labels, meta, settings, rescale=True)
        cells = logits.sigmoid()[torch.arange(len(boxes)), labels]
        found = paste(cells, boxes, (height, width), threshold)
        assert torch.equal(found.dense(), expected)
        assert expected.any()
        assert found.pixels.numel() < expected.numel() / 2


def test_a_box_outside_of_the_image_has_no_pixel():
    boxes = torch.tensor([[-30.0, -30, -20, -20], [90, 90, 99, 99]])
    found = paste(torch.ones(2, 28, 28), boxes, (40, 50), 0.5)
    assert found.shape == (2, 40, 50)
    assert not found.dense().any()


def test_predictions_have_the_bits_of_dense_ones(student, head_class, small, target):
    """Of files of two sizes, one padded; random weights put boxes everywhere, also across the border."""
    torch.manual_seed(3)
    head = head_class(student.feature_info, ["ship", "plane"], score_threshold=0.0, **small).eval()
    targets = [target([], [], size=(48, 64), original_size=(96, 192)), target([], [], original_size=(50, 70))]
    features = student(torch.randn(2, 3, 64, 64))
    compact = head.predict(features, targets)
    for part in steps(head.roi_head.mask_head):
        part.compact = False  # of the prompt head
        part.__dict__.pop("_predict_by_feat_single", None)  # of MMDetection's
    for found, dense, wanted in zip(compact, head.predict(features, targets), targets, strict=True):
        assert len(found.scores) > 20
        assert torch.equal(found.boxes, dense.boxes)
        assert found.masks.shape[1:] == wanted.original_size
        assert torch.equal(found.masks.dense(), dense.masks.dense())
        assert found.masks.dense().any()
        height, width = wanted.original_size
        assert (found.boxes.amax(dim=0)[2:] > torch.tensor([width, height]) - 1).all()


def test_a_mask_head_that_pastes_in_its_own_way_is_made_compact(student, head_class, small, target, monkeypatch):
    torch.manual_seed(3)
    head = head_class(student.feature_info, ["ship"], score_threshold=0.0, **small).eval()
    features = student(torch.randn(1, 3, 64, 64))
    (expected,) = head.predict(features, [target([], [])])

    def dense_predict(*arguments, **keywords):
        results = predict(*arguments, **keywords)
        for result in results:
            dense = result.masks.dense()
            del result.masks
            result.masks = dense
        return results

    predict = head.roi_head.predict
    monkeypatch.setattr(head.roi_head, "predict", dense_predict)
    (found,) = head.predict(features, [target([], [])])
    assert torch.equal(found.masks.dense(), expected.masks.dense())
    assert found.masks.pixels.numel() <= expected.masks.pixels.numel()
