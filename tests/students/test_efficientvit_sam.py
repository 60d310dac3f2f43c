"""EfficientViT-SAM's encoder: published sizes, SAM's embedding shape; what every student does is in tests/contract."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from distill.contracts import StudentBase
from distill.errors import UserError
from distill.weights import write_weights
from students import efficientvit
from students.efficientvit_sam import EfficientViTSAM
from tests.students.released_layout import shuffle_norms

PARAMETERS = {"l0": 30_728_224, "l1": 43_585_568, "l2": 57_264_032, "xl0": 112_893_344, "xl1": 199_281_568}
MACS = {"l0": 35e9, "l1": 49e9, "l2": 69e9, "xl0": 185e9, "xl1": 322e9}
SMALL = {
    "l0": {"widths": (8, 8, 16, 32, 32), "blocks": (1, 1, 1, 1, 1)},
    "xl0": {"widths": (8, 8, 8, 16, 32, 32), "blocks": (0, 1, 1, 1, 1, 1)},
}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """L0 and XL0 with narrow backbones."""
    for name, sizes in SMALL.items():
        monkeypatch.setitem(efficientvit._VARIANTS, name, replace(efficientvit._VARIANTS[name], **sizes))


def build(variant: str = "l0", **arguments: object) -> EfficientViTSAM:
    torch.manual_seed(0)
    return EfficientViTSAM(variant, **arguments)  # type: ignore[arg-type]


def images(height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_count(variant: str) -> None:
    with torch.device("meta"):
        model = EfficientViTSAM(variant)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]


@pytest.mark.parametrize("variant", MACS)
def test_embedding_and_multiply_adds_at_the_released_input(variant: str) -> None:
    side = 512 if variant.startswith("l") else 1024
    with FakeTensorMode():
        model, inputs = EfficientViTSAM(variant).eval(), torch.empty(1, 3, side, side)
        with FlopCounterMode(display=False) as counter:
            (embedding,) = model(inputs)
    assert embedding.shape == (1, 256, 64, 64)
    assert counter.get_total_flops() / 2 == pytest.approx(MACS[variant], rel=0.02)


@pytest.mark.parametrize(("variant", "half", "stride"), [("l0", False, 8), ("l0", True, 16), ("xl0", False, 16)])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 40), (33, 130)])
@pytest.mark.usefixtures("narrow")
def test_any_image_size(variant: str, half: bool, stride: int, height: int, width: int) -> None:
    model = build(variant, half_resolution=half).eval()
    assert isinstance(model, StudentBase)
    assert model.feature_info.channels() == [256]
    assert model.feature_info.reduction() == [stride]
    (embedding,) = model(images(height, width))
    assert embedding.shape == (2, 256, -(-height // stride), -(-width // stride))
    assert embedding.isfinite().all()
    torch.testing.assert_close(embedding.mean(1), torch.zeros_like(embedding[:, 0]), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("narrow")
def test_half_resolution_is_the_released_model_on_the_halved_image() -> None:
    model, halved = build().eval(), build(half_resolution=True).eval()
    pixels = images(32, 48)
    large = pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(halved(large)[0], model(pixels)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("narrow")
def test_gradient_of_every_parameter_of_xl(dtype: torch.dtype) -> None:
    model = build("xl0", attention_precision="input")
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        (embedding,) = model(images(128, 128))
    assert embedding.dtype == dtype
    (embedding.float() * torch.randn(embedding.shape)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.usefixtures("narrow")
def test_norm_keeps_fp16_finite() -> None:
    """Its squares are beyond fp16."""
    model = build()
    x = torch.full((1, 256, 2, 2), 3e4, dtype=torch.float16)
    x[:, ::2] *= -1
    out = model.norm(x)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, x.sign())


@pytest.mark.usefixtures("narrow")
def test_loaded_weights_keep_their_scale_and_hold_a_backbone(tmp_path: Path) -> None:
    model = shuffle_norms(build())
    model.rescale_output(0.16)
    path = tmp_path / "student.safetensors"
    write_weights(model, path, {})
    loaded = build(checkpoint=str(path))
    loaded.rescale_output(3.0)
    assert torch.equal(loaded.norm.weight, model.norm.weight)
    backbone = efficientvit.EfficientViT("l0", [1, 2, 3], checkpoint=str(path)).eval()
    for one, other in zip(backbone(images()), model.backbone(images()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"variant": "l3"}, "valid names are l0, l1, l2, xl0, xl1"),
        ({"attention_precision": "flaot32"}, "did you mean float32"),
        ({"checkpoint": "missing.pth"}, "does not exist"),
    ],
)
@pytest.mark.usefixtures("narrow")
def test_bad_arguments(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        build(**arguments)
    assert "\n" not in str(caught.value)
