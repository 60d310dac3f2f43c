"""A student in a plain MMDetection config, as an MMDetection user would write it."""

import copy
from types import SimpleNamespace

import pytest
import torch

from distill.errors import UserError
from heads.mmdet.registered.float32_hook import Float32Hook
from heads.mmdet.registered.student import DistillStudent

CONFIG = """
custom_imports = dict(imports=["heads.mmdet.registered.student"], allow_failed_imports=False)
default_scope = "mmdet"
model = dict(
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_mask=True),
    backbone=dict(
        type="DistillStudent",
        class_path="timm.create_model",
        init_args=dict(
            model_name="vit_tiny_patch16_224", features_only=True, img_size=64, patch_size=8, depth=2, embed_dim=24,
            num_heads=2, out_indices=[0, 1])))
"""


@pytest.fixture
def neck_skip_finest():
    return False


@pytest.fixture
def head(head_class, maps, small, neck_skip_finest):
    torch.manual_seed(1)
    small = small | {"neck_skip_finest": neck_skip_finest}
    return head_class(maps([24, 24], [8, 8]), ["ship", "plane"], score_threshold=0.0, **small)


@pytest.fixture
def detector(head, tmp_path):
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    (tmp_path / "detector.py").write_text(CONFIG)
    config = Config.fromfile(tmp_path / "detector.py")
    config.merge_from_dict({"model": head.mmdet_config()})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return MODELS.build(config.model)


def sample_of(target):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    side = target.masks.shape[-1]
    sample = DetDataSample(
        metainfo={
            "img_shape": (side, side),
            "ori_shape": (side, side),
            "pad_shape": (side, side),
            "batch_input_shape": (side, side),
            "scale_factor": (1.0, 1.0),
        }
    )
    sample.gt_instances = InstanceData(
        bboxes=target.boxes, labels=target.labels, masks=BitmapMasks(target.masks.numpy().astype("uint8"), side, side)
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return sample


def test_detector_trains_and_predicts(detector, target):
    samples = [sample_of(target([[4, 4, 30, 28]], [0])), sample_of(target([[10, 30, 24, 60]], [1]))]
    data = detector.data_preprocessor(
        {"inputs": [torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8) for _ in samples], "data_samples": samples},
        training=True,
    )
    losses = detector(**data, mode="loss")
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    gradients = [p.grad for p in detector.backbone.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    detector.eval()
    with torch.no_grad():
        found = detector(**data, mode="predict")[0].pred_instances
    assert len(found) > 0
    assert found.masks.shape[1:] == (64, 64)


@pytest.mark.parametrize("neck_skip_finest", [False, True])
def test_detector_equals_our_head(detector, head, target):
    """Same weights, same features, same random numbers: the head is MMDetection's detector, number for number."""
    backbone = detector.backbone.student
    state = {name.replace("neck.neck.", "neck."): value for name, value in detector.state_dict().items()}
    head.load_state_dict({name: value for name, value in state.items() if not name.startswith("backbone.")})
    images = torch.randn(2, 3, 64, 64)
    targets = [target([[4, 4, 30, 28], [34, 20, 60, 60]], [0, 1]), target([[10, 30, 24, 60]], [1])]
    samples = [sample_of(t) for t in targets]

    torch.manual_seed(5)
    theirs = detector.loss(images, copy.deepcopy(samples))
    torch.manual_seed(5)
    ours = head.loss(backbone(images), targets)
    for name, loss in ours.items():
        torch.testing.assert_close(loss, sum(theirs[name]) if isinstance(theirs[name], list) else theirs[name].sum())

    detector.eval()
    with torch.no_grad():
        expected = detector.predict(images, samples)
        found = head.eval().predict(backbone(images), targets)
    for prediction, sample in zip(found, expected, strict=True):
        torch.testing.assert_close(prediction.boxes, sample.pred_instances.bboxes)
        torch.testing.assert_close(prediction.scores, sample.pred_instances.scores)
        assert torch.equal(prediction.labels, sample.pred_instances.labels)
        assert torch.equal(prediction.masks.dense(), sample.pred_instances.masks)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_detector_under_autocast_has_float32_boxes_and_gradients(detector, target, precision):
    """As MMEngine's runner trains it in mixed precision: with the hook that the config names."""
    truth = [target([[4, 4, 30, 28], [34, 20, 60, 60]], [0, 1])]
    images, samples = torch.randn(1, 3, 64, 64), [sample_of(truth[0])]
    expected, _ = detector.parse_losses(detector.loss(images, copy.deepcopy(samples)))
    Float32Hook().before_run(SimpleNamespace(model=detector))
    with torch.autocast("cpu", precision):
        total, _ = detector.parse_losses(detector.loss(images, copy.deepcopy(samples)))
        levels = detector.extract_feat(images)
        proposals = detector.rpn_head.predict(levels, samples, rescale=False)[0]
        found = detector.eval().predict(images, samples)[0].pred_instances
    assert total.item() == pytest.approx(expected.item(), rel=0.05)
    assert {level.dtype for level in levels} == {torch.float32}
    assert proposals.bboxes.dtype == found.bboxes.dtype == found.scores.dtype == torch.float32
    inside = proposals.bboxes[(proposals.bboxes > 0) & (proposals.bboxes < 64)]
    assert (inside != inside.round()).float().mean() > 0.9
    total.backward()
    gradients = [p.grad for p in detector.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_init_weights_keeps_the_student_and_draws_the_heads(detector):
    """MMEngine's runner calls `init_weights` on the whole detector when training starts."""
    before = copy.deepcopy(detector.state_dict())
    detector.init_weights()
    after = detector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert not torch.equal(before["rpn_head.rpn_conv.weight"], after["rpn_head.rpn_conv.weight"])


@pytest.mark.parametrize("class_path", ["RS4D", "students.NoSuchStudent", "no_such_package.RS4D"])
def test_wrong_class_path_is_named(class_path):
    with pytest.raises(UserError, match=f"class_path '{class_path}' cannot be imported"):
        DistillStudent(class_path)
