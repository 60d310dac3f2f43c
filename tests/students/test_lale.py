"""LALE's encoder: the sizes it was reconstructed from and its parts; what every student does is in tests/contract."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from distill.cli import main
from distill.errors import UserError
from distill.evaluation.cost import count_macs
from distill.parameter_groups import layer_depths
from distill.weights import load_student
from students import LALE, TimmStudent
from students.lale_blocks import Attention, ConvMixerBlock, RMSNorm2d, StarReLU, TransformerBlock

PARAMETERS = {"S1": 1_438_812, "S2": 2_484_036, "S3": 3_529_260, "S4": 4_574_484}


def build(variant: str = "S1", **arguments: object) -> LALE:
    torch.manual_seed(0)
    return LALE(variant, **arguments)  # type: ignore[arg-type]


def images(height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_count(variant: str) -> None:
    with torch.device("meta"):
        model = LALE(variant)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]
    assert not list(model.buffers())


def test_downsampling_of_7_by_7_grows_by_its_kernels_alone() -> None:
    with torch.device("meta"):
        model = LALE("S1", kernel_size=7)
        maps = model(torch.empty(1, 3, 97, 50))
    grown = (49 - 9) * (32 * 64 + 64 * 128 + 128 * 256)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS["S1"] + grown
    assert [tuple(feature.shape[2:]) for feature in maps] == [(25, 13), (13, 7), (7, 4), (4, 2)]


@pytest.mark.parametrize("variant", ["S1", "S2"])
def test_multiply_adds(variant: str) -> None:
    """Layer by layer, from the structure: at 256 px, convolutions and the two products of attention."""
    grids, channels, depth = (64**2, 32**2, 16**2, 8**2), (32, 64, 128, 256), int(variant[1])
    expected = 128**2 * 27 * 16 + 64**2 * 9 * 16 * 32
    expected += sum(g * 9 * c * c // 2 for g, c in zip(grids[1:], channels[1:], strict=True))
    expected += sum(depth * g * (9 * c + 8 * c * c) for g, c in zip(grids[:2], channels[:2], strict=True))
    for g, c in zip(grids[2:], channels[2:], strict=True):
        expected += depth * g * (12 * c * c + 9 * 4 * c + 2 * g * c)
    with torch.device("meta"):
        assert count_macs(LALE(variant), 256) == expected


def test_feature_info() -> None:
    info = build().feature_info
    assert list(info.channels()) == [32, 64, 128, 256]
    assert list(info.reduction()) == [4, 8, 16, 32]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_rms_norm_equals_pytorch(memory_format: torch.memory_format) -> None:
    norm = RMSNorm2d(12).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    expected = F.rms_norm(x.permute(0, 2, 3, 1), (12,), norm.weight, norm.eps).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)
    weight = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((weight * y).sum(), (x, norm.weight)) for y in (norm(x), expected))
    torch.testing.assert_close(ours, theirs)
    assert torch.isfinite(norm(torch.zeros(1, 12, 1, 1))).all()


def test_star_relu() -> None:
    x = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    star = StarReLU(scale=2.0, bias=-1.0)
    torch.testing.assert_close(star(x), torch.tensor([-1.0, -1.0, -0.5, 17.0]))
    gradients = torch.autograd.grad(star(x).sum(), (star.scale, star.bias))
    torch.testing.assert_close(gradients, (torch.tensor([9.25]), torch.tensor([4.0])))
    normal = StarReLU()(torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)))
    assert normal.mean().item() == pytest.approx(0, abs=0.01)
    assert normal.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squares_are_taken_in_float32(dtype: torch.dtype) -> None:
    """The square of 300 is beyond float16, and a sum of 256 squares beyond bfloat16's 8 bits."""
    x = (300 + torch.randn(2, 256, 3, 3, generator=torch.Generator().manual_seed(0))).to(dtype)
    for module in (RMSNorm2d(256), StarReLU(scale=1e-3, bias=0.0)):
        with torch.autocast("cpu", torch.bfloat16):
            low = module(x)
        assert low.dtype == dtype
        assert torch.equal(low, module(x.float()).to(dtype))


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    attention = Attention(64)
    x = torch.randn(2, 64, 3, 5)
    q, k, v = attention.qkv(x).reshape(2, 3, 2, 32, 15).unbind(1)
    weights = torch.softmax(q.mT @ k / 32**0.5, dim=-1)  # (B, heads, N, N)
    mixed = (weights @ v.mT).mT.reshape(2, 64, 3, 5)
    torch.testing.assert_close(attention(x), attention.proj(mixed))


@pytest.mark.parametrize("block", [ConvMixerBlock, TransformerBlock])
def test_blocks_add_two_branches_of_the_normed_input(block: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = block(32)
    x = 5 * torch.randn(2, 32, 4, 6)
    branch = module.mixer if block is ConvMixerBlock else module.attention
    middle = x + branch(F.rms_norm(x.movedim(1, 3), (32,), eps=1e-6).movedim(3, 1))
    expected = middle + module.mlp(F.rms_norm(middle.movedim(1, 3), (32,), eps=1e-6).movedim(3, 1))
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


def test_maps_are_normed_copies_of_the_stream() -> None:
    model = build()
    streams: list[Tensor] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda _, inputs, output: streams.extend([inputs[0], output]))
    maps = model(images(50, 37))
    for index, feature in enumerate(maps):
        assert torch.equal(feature, model.norms[index](streams[2 * index + 1]))
        torch.testing.assert_close(feature.square().mean(1), torch.ones(2, *feature.shape[2:]))
        assert index == 3 or streams[2 * index + 1] is streams[2 * index + 2]


def test_initialisation_keeps_the_scale() -> None:
    """Also in the deepest: behind every norm and activation values stay near one."""
    stds: dict[str, float] = {}
    model = build("S4")
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith("proj"):  # attention averages before it
            module.register_forward_hook(lambda m, i, y, name=name: stds.__setitem__(name, float(y.detach().std())))
    model(images(128, 128))
    assert all(0.2 < std < 5 for std in stds.values()), stds


def test_stars_start_as_told() -> None:
    stars = [m for m in build(star_scale=1.0, star_bias=0.0).modules() if isinstance(m, StarReLU)]
    assert len(stars) == 6
    assert all(star.scale.item() == 1 and star.bias.item() == 0 for star in stars)


def test_corruption_acts_on_patches_of_16_pixels() -> None:
    model, seen = build(), []
    streams: list[Tensor] = []
    model.stages[0].register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))

    def mask(tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(tokens)
        keep = torch.ones(tokens.shape[1], 1)
        keep[5] = 0  # row 1, column 2 of 3 x 3
        return tokens * keep, keep[:, 0] == 0

    inputs = images(40, 33)
    for maps in (model(inputs), model.forward_corrupted(inputs, mask)[0]):
        assert tuple(maps[0].shape) == (2, 32, 10, 9)
    assert seen[0].shape == (2, 9, model.token_channels)
    touched = (streams[0] != streams[1]).any(1)[0]
    expected = torch.zeros(10, 9, dtype=torch.bool)
    expected[4:8, 8:] = True
    assert torch.equal(touched, expected)
    for one, other in zip(model(inputs), model.forward_corrupted(inputs, lambda x: (x, x[..., 0] > 0))[0], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("level", ["token", "image"])
def test_distils(distill_recipe: Path, tmp_path: Path, level: str) -> None:
    recipe = yaml.safe_load(distill_recipe.read_text())
    recipe["model"]["init_args"]["student"] = {"class_path": "students.LALE", "init_args": {"variant": "S1"}}
    recipe["model"]["init_args"]["corruption"] = {"level": level}
    distill_recipe.write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(distill_recipe), "--trainer.max_steps=30", "--trainer.val_check_interval=15"]) == 0
    student = load_student(tmp_path / "run" / "student.safetensors")
    assert isinstance(student, LALE)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        ratios = [float(row["val/l1_ratio"]) for row in csv.DictReader(file) if row.get("val/l1_ratio")]
    assert ratios[1] < ratios[0]


def test_depths_for_the_decay_by_layer() -> None:
    depths = layer_depths(build())
    assert depths == sorted(depths)
    assert max(depths) == 7  # four blocks, three downsamplings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"variant": "S5"}, "unknown LALE variant 'S5'"),
        ({"variant": "tiny"}, "valid names are S1, S2, S3, S4"),
        ({"kernel_size": 5}, "allows 3 or 7"),
        ({"checkpoint": "missing.pth"}, "does not exist"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        build(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_variant_in_lower_case() -> None:
    assert build("s2").init_args == build("S2").init_args


@pytest.mark.parametrize("other", [lambda: build("S2"), lambda: TimmStudent("resnet10t")], ids=["variant", "student"])
def test_weights_of_another_student_are_refused(tmp_path: Path, other: Callable[[], nn.Module]) -> None:
    torch.save(other().state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not fit LALE"):
        build(checkpoint=str(tmp_path / "other.pth"))
