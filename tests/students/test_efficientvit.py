"""EfficientViT: published sizes, timm's features, its own arguments; what every student does is in tests/contract."""

from pathlib import Path
from typing import ClassVar

import pytest
import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distill.contracts import TeacherBase
from distill.errors import UserError
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.weights import write_weights
from students.efficientvit import EfficientViT
from students.linear_attention import MultiScaleLinearAttention
from tests.students.released_layout import shuffle_norms

PARAMETERS = {
    "b0": 682_608,
    "b1": 4_643_936,
    "b2": 14_977_008,
    "b3": 38_997_440,
    "l0": 27_805_472,
    "l1": 38_037_280,
    "l2": 49_090_208,
    "l3": 193_998_144,
    "xl0": 96_622_752,
    "xl1": 167_266_976,
}
MACS = {("b0", 256): 0.119e9, ("b1", 256): 0.648e9, ("b2", 256): 2.002e9, ("b3", 256): 5.078e9, ("l1", 512): 27.0e9}


def build(variant: str = "b0", **arguments: object) -> EfficientViT:
    torch.manual_seed(0)
    return EfficientViT(variant, **arguments)  # type: ignore[arg-type]


def images(height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_count(variant: str) -> None:
    with torch.device("meta"):
        model = EfficientViT(variant)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]


@pytest.mark.parametrize(("variant", "side"), MACS)
def test_multiply_adds(variant: str, side: int) -> None:
    with FakeTensorMode():
        model, inputs = EfficientViT(variant).eval(), torch.empty(1, 3, side, side)
        with FlopCounterMode(display=False) as counter:
            model(inputs)
    assert counter.get_total_flops() / 2 == pytest.approx(MACS[variant, side], rel=0.01)


@pytest.mark.parametrize("variant", ["b0", "b1", "b2", "b3", "l1", "l2", "l3"])
def test_equals_timm(variant: str) -> None:
    """Same names, same features, once timm's attention has the released ε."""
    torch.manual_seed(0)
    theirs = shuffle_norms(timm.create_model(f"efficientvit_{variant}", head_widths=(8, 8)))
    for module in theirs.modules():
        if hasattr(module, "aggreg"):
            module.eps = 1e-15
    with torch.device("meta"):
        ours = EfficientViT(variant).eval()
    weights = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("head.")}
    ours.load_state_dict(weights, assign=True)
    inputs = images(64, 96, batch=1)
    with torch.no_grad():
        expected = theirs.forward_intermediates(inputs, intermediates_only=True)
        for one, other in zip(ours(inputs), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=4e-6)


def test_weights_of_the_timm_model_load(tmp_path: Path) -> None:
    theirs = shuffle_norms(timm.create_model("efficientvit_b0"))
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = build(attention_eps=1e-5, checkpoint=str(tmp_path / "timm.pth")).eval()
    expected = theirs.forward_intermediates(images(), intermediates_only=True)
    for one, other in zip(ours(images()), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=4e-6)


@pytest.mark.parametrize(("variant", "eps"), [("b1", 1e-5), ("l0", 1e-6), ("l1", 1e-7), ("l3", 1e-7), ("xl1", 1e-6)])
def test_released_epsilons(variant: str, eps: float) -> None:
    with torch.device("meta"):
        model, other = EfficientViT(variant), EfficientViT(variant, norm_eps=3e-4, attention_eps=1e-5)
    for wanted, attention, student in ((eps, 1e-15, model), (3e-4, 1e-5, other)):
        norms = [module.eps for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) > 10
        assert set(norms) == {wanted}
        assert {m.eps for m in student.modules() if isinstance(m, MultiScaleLinearAttention)} == {attention}


def test_feature_info() -> None:
    model = build()
    assert model.feature_info.channels() == [16, 32, 64, 128]
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    assert model.mean == IMAGENET_DEFAULT_MEAN
    with torch.device("meta"):
        assert EfficientViT("xl0").feature_info.reduction() == [4, 8, 16, 32, 64]


def test_taps_are_the_same_maps_and_later_stages_are_not_built() -> None:
    everything = build().eval()
    chosen = build(out_indices=[0, 2]).eval()
    chosen.load_state_dict({n: t for n, t in everything.state_dict().items() if not n.startswith("stages.3.")})
    maps = everything(images())
    for feature, index in zip(chosen(images()), (0, 2), strict=True):
        assert torch.equal(feature, maps[index])
    assert chosen.feature_info.channels() == [16, 64]
    assert chosen.feature_info.reduction() == [4, 16]


class Stripes(TeacherBase):
    """A teacher of 16 channels at stride 16."""

    channels: ClassVar = {"stripes": 16}
    reduction: ClassVar = {"stripes": 16}

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        means = F.avg_pool2d(inputs, 16).mean(1, keepdim=True)
        return {"stripes": torch.cat([torch.sin(i * means) for i in range(1, 17)], 1)}


def test_distils_under_corrupted_images() -> None:
    with pytest.raises(UserError, match=r"set model.corruption.level to 'image'"):
        DistillationModule(Stripes(), build(), "stripes", CorruptionSettings(noise=0.2, mask=0.2))
    corruption = CorruptionSettings(noise=0.2, mask=0.2, level="image", patch_size=8)
    module = DistillationModule(Stripes(), build(out_indices=[2]), "stripes", corruption)
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3)
    pixels, losses = images().sigmoid(), []
    for _ in range(30):
        maps, touched = module.student_maps(pixels, corrupted=True)
        assert touched is not None
        target = module.raw_target({"image": pixels})
        losses.append((module.match.estimate(maps, target.shape[-2:]) - target).abs().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_weights_of_another_variant_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    write_weights(build(), path, {})
    with pytest.raises(UserError, match="does not fit EfficientViT"):
        build("b1", checkpoint=str(path))
    write_weights(build(out_indices=[0, 1]), path, {})
    with pytest.raises(UserError, match="parameters are missing"):
        build(checkpoint=str(path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"variant": "b4"}, "did you mean b3"),
        ({"attention_precision": "flaot32"}, "did you mean float32"),
        ({"out_indices": [0, 4]}, "increasing numbers from 0 to 3"),
        ({"out_indices": [2, 1]}, "increasing numbers from 0 to 3"),
        ({"out_indices": []}, "increasing numbers from 0 to 3"),
        ({"checkpoint": "missing.pth"}, "does not exist"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        build(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
