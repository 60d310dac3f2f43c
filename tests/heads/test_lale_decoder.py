"""LALE's decoder: the published sizes of encoder and decoder, and the cheaper fusion against the published one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distill.errors import UserError
from distill.evaluation.cost import count_macs
from distill.layers import StarReLU
from distill.weights import write_weights
from heads import LALEDecoder
from students import LALE, RS4D

CLASSES = ["tree", "shrub", "grass", "crop", "built-up", "barren", "water"]
PARAMETERS = {"S1": 1_567_461, "S2": 2_612_685, "S3": 3_657_909, "S4": 4_703_133}
MACS = {"S1": 0.59e9, "S2": 0.78e9}  # published, at 256 px
ATEN = torch.ops.aten


class Segmenter(nn.Module):
    """Encoder and decoder, the logits as large as the image."""

    def __init__(self, variant: str = "S1", as_published: bool = False) -> None:
        super().__init__()
        self.student = LALE(variant)
        self.decoder = LALEDecoder(self.student.feature_info, CLASSES)
        if as_published:
            self.decoder.fuse = self.decoder.fuse_as_published  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        logits = self.decoder(self.student(images))
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


def build(**arguments: Any) -> LALEDecoder:
    torch.manual_seed(0)
    return LALEDecoder(LALE().feature_info, CLASSES, **arguments)


def features(height: int = 64, width: int = 64, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, c, -(-height // s), -(-width // s), generator=generator, dtype=dtype)
        for c, s in zip((32, 64, 128, 256), (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters_of_encoder_and_decoder(variant: str) -> None:
    with torch.device("meta"):
        model = Segmenter(variant)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]


@pytest.mark.parametrize("variant", MACS)
def test_published_multiply_adds(variant: str) -> None:
    """In fvcore's convention: products, plus 2 a value of a batch norm and 4 a value of a bilinear interpolation."""
    extra = {
        ATEN.native_batch_norm: lambda shape, *_, **__: 2 * 2 * shape.numel(),
        ATEN.upsample_bilinear2d: lambda *_, out_shape, **__: 2 * 4 * out_shape.numel(),
    }
    with torch.device("meta"), torch.no_grad():
        model, inputs = Segmenter(variant, as_published=True).eval(), torch.empty(1, 3, 256, 256)
        with FlopCounterMode(display=False, custom_mapping=extra) as counter:
            model(inputs)
    counted = counter.get_flop_counts()["Global"]
    assert counted.keys() == {ATEN.convolution, ATEN.bmm, *extra}
    assert counter.get_total_flops() / 2 == pytest.approx(MACS[variant], rel=0.02)


def test_multiply_adds_of_the_cheaper_fusion() -> None:
    """Mixing 512 to 128 channels: a quarter of it at 64 x 64, the others on coarser grids."""
    with torch.device("meta"):
        published, ours = (count_macs(Segmenter("S1", as_published), 256) for as_published in (True, False))
    assert ours == pytest.approx(0.40e9, rel=0.01)
    mixing = 512 * 128 * 64**2
    assert published - ours == mixing - mixing // 4 * (1 + 1 / 4 + 1 / 16 + 1 / 64)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 50), (33, 17), (31, 200), (1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fusing_before_upsampling_changes_nothing(
    height: int, width: int, dtype: torch.dtype, tolerance: float
) -> None:
    decoder = build(dropout=0.0).to(dtype).eval()  # in eval mode a batch norm does not blow up rounding
    nn.init.uniform_(decoder.norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    for project in decoder.project:
        nn.init.normal_(project.bias)
    results = []
    for fuse in (decoder.fuse, decoder.fuse_as_published):
        decoder.fuse = fuse  # type: ignore[method-assign]
        inputs = [feature.requires_grad_() for feature in features(height, width, dtype)]
        logits = decoder(inputs)
        weight = torch.randn(logits.shape, dtype=dtype, generator=torch.Generator().manual_seed(2)) / logits.numel()
        gradients = torch.autograd.grad((weight * logits).sum(), [*inputs, *decoder.parameters()])
        results.append([logits, *gradients])
    assert len(results[0]) == 1 + 4 + 8 + 6 + 2 - 1
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_fusions_agree_in_training_and_under_autocast() -> None:
    results = []
    for name in ("fuse", "fuse_as_published"):
        decoder = build().train()
        decoder.fuse = getattr(decoder, name)  # type: ignore[method-assign]
        torch.manual_seed(3)  # of dropout
        plain = decoder(features(50, 37))
        with torch.autocast("cpu", torch.bfloat16):
            results.append((plain, decoder(features(50, 37)).float()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0.1, atol=0.1)


def test_layers_behind_the_fusion() -> None:
    decoder, maps = build().eval(), features(50, 37)
    state = decoder.state_dict()
    projected = [F.conv2d(x, state[f"project.{i}.weight"], state[f"project.{i}.bias"]) for i, x in enumerate(maps)]
    grown = [F.interpolate(p, (13, 10), mode="bilinear", align_corners=False) for p in projected]
    mixed = F.conv2d(torch.cat(grown, 1), state["mix.weight"]) / (1 + 1e-5) ** 0.5  # as a fresh batch norm does
    expected = F.conv2d(StarReLU()(mixed), state["classify.weight"], state["classify.bias"])
    torch.testing.assert_close(decoder(maps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (97, 50), (33, 17)])
def test_logits_lie_on_the_finest_grid(height: int, width: int) -> None:
    decoder = build().eval()
    assert decoder.stride == 4
    assert decoder(features(height, width)).shape == (2, 7, -(-height // 4), -(-width // 4))


def test_maps_of_one_stride() -> None:
    student = RS4D("tiny", image_size=32, patch_size=8)
    decoder = LALEDecoder(student.feature_info, CLASSES[:2], channels=16)
    logits = decoder(student(torch.randn(2, 3, 33, 40)))
    assert logits.shape == (2, 2, 5, 5)
    assert decoder.stride == 8


def test_compiles_with_the_encoder() -> None:
    model = Segmenter().eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    images = torch.randn(1, 3, 48, 33)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))


def test_round_trip(tmp_path: Path) -> None:
    decoder = build()
    decoder(features())  # moves the running statistics
    write_weights(decoder, tmp_path / "decoder.safetensors", {})
    torch.manual_seed(9)
    again = LALEDecoder(LALE().feature_info, CLASSES, checkpoint=str(tmp_path / "decoder.safetensors"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in decoder.state_dict().items())
    with pytest.raises(UserError, match="does not fit LALEDecoder"):
        LALEDecoder(LALE().feature_info, CLASSES[:3], checkpoint=str(tmp_path / "decoder.safetensors"))


def test_bad_arguments(maps: Any) -> None:
    with pytest.raises(UserError, match="at least one class"):
        LALEDecoder(LALE().feature_info, [])
    with pytest.raises(UserError, match=r"must be the finest \(got strides \[8, 4\]\)"):
        LALEDecoder(maps([8, 8], [8, 4]), CLASSES)


def test_overfits_two_images() -> None:
    torch.manual_seed(0)
    model, images = Segmenter().train(), torch.randn(2, 3, 32, 32)
    truth = F.interpolate(torch.randint(7, (2, 1, 4, 4)).float(), scale_factor=8)[:, 0].long()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        losses.append(F.cross_entropy(model(images), truth))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[0] > 1.5
    assert losses[-1] < 0.3
