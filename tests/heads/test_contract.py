"""Every head on every kind of student: a training step and a prediction on real aerial images, or on drawn ones."""

from pathlib import Path

import pytest
import torch

from distill.data import NWPU, CocoInstances
from distill.data.coco import collate
from heads import CascadeMaskRCNN, MaskRCNN, RSPrompter
from students import RS4D, TimmStudent

NWPU_ROOT = Path(__file__).parents[2] / "../shared/data/nwpu"
SIDE = 128
SMALL = {"neck_channels": 64, "fc_channels": 64, "roi_samples": 64, "proposals": 100}
HEADS = {
    MaskRCNN: {"mask_convs": 1},
    CascadeMaskRCNN: {"mask_convs": 1},
    RSPrompter: {"decoder_channels": 64, "mask_points": 784},
}
# timm starts residual branches at zero, and what lies behind a zero has no gradient in the first step.
RESNET = {"out_indices": [1, 2, 3, 4], "options": {"zero_init_last": False}}


def rs4d(frozen):
    return RS4D("tiny", image_size=SIDE, patch_size=8, frozen_layers=frozen)


def frozen_timm(name, frozen, **arguments):
    student = TimmStudent(name, **arguments)
    for parameter in list(student.parameters())[:frozen]:
        parameter.requires_grad_(False)
    return student


STUDENTS = {
    "rs4d": lambda: rs4d(0),
    "rs4d-partly-frozen": lambda: rs4d(3),
    "rs4d-frozen": lambda: rs4d(6),
    "resnet18": lambda: frozen_timm("resnet18", 0, **RESNET),
    "resnet18-partly-frozen": lambda: frozen_timm("resnet18", 15, **RESNET),
    "efficientvit_b0": lambda: frozen_timm("efficientvit_b0", 0),
    "efficientvit_b0-partly-frozen": lambda: frozen_timm("efficientvit_b0", 15),
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Two training images with objects of several classes, and the class names."""
    settings = {"image_size": SIDE, "batch_size": 2, "num_workers": 0, "seed": 0}
    if NWPU_ROOT.is_dir():
        data = NWPU(root=str(NWPU_ROOT), **settings)
    else:
        from distill.data.synthetic import write_scenes

        root = tmp_path_factory.mktemp("scenes")
        write_scenes(root, "train", 4, SIDE, seed=0)
        images, annotations = str(root / "train/images"), str(root / "train/annotations.json")
        data = CocoInstances(images, annotations, images, annotations, **settings)
    views = data.dataset("train")
    samples = [views[index] for index in range(len(views)) if index < 40]
    samples.sort(key=lambda sample: len(sample[1].labels.unique()), reverse=True)
    return collate(samples[:2]), data.class_names


@pytest.mark.parametrize("head_class", HEADS, ids=lambda head: head.__name__)
@pytest.mark.parametrize("student", STUDENTS)
def test_trains_and_predicts(student, head_class, batch):
    torch.manual_seed(0)
    backbone = STUDENTS[student]()
    samples, class_names = batch
    head = head_class(backbone.feature_info, class_names, score_threshold=0.0, **SMALL, **HEADS[head_class])
    before = {name: tensor.clone() for name, tensor in backbone.named_parameters()}
    parameters = [p for p in [*backbone.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    losses = head.loss(backbone(samples["image"]), samples["targets"])
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in [*backbone.named_parameters(), *head.named_parameters()]:
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    optimizer.step()
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[name]) == (not parameter.requires_grad), name
    assert ("frozen" in student) == any(not p.requires_grad for p in backbone.parameters())

    backbone.eval()
    head.eval()
    with torch.no_grad():
        predictions = head.predict(backbone(samples["image"]), samples["targets"])
    for found, target in zip(predictions, samples["targets"], strict=True):
        height, width = target.original_size
        assert len(found.scores) > 0
        assert found.masks.shape == (len(found.scores), height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
