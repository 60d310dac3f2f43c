"""EfficientViT's segmentation head on maps of any student."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from heads.seg_head import RELEASED, SegHead

CLASSES = ["water", "grass", "road"]
PARAMETERS = {
    "b0_cityscapes": 24_083,
    "b1_cityscapes": 159_507,
    "b2_cityscapes": 346_771,
    "b3_cityscapes": 605_715,
    "l1_cityscapes": 2_204_947,
    "l2_cityscapes": 3_517_715,
    "b1_ade20k": 147_478,
    "b2_ade20k": 316_374,
    "b3_ade20k": 548_758,
    "l1_ade20k": 2_372_246,
    "l2_ade20k": 2_372_246,
}
WIDTHS = {"b0": 32, "b1": 64, "b2": 96, "b3": 128, "l1": 128, "l2": 128}  # of stage 2; the next have twice and 4 times


def features(channels: list[int], strides: list[int], height: int = 64, width: int = 96) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, -(-height // s), -(-width // s), generator=generator)
        for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize("model", RELEASED)
def test_parameter_count(maps: Callable, model: str) -> None:
    width = WIDTHS[model[:2]]
    classes = [str(index) for index in range(19 if model.endswith("cityscapes") else 150)]
    with torch.device("meta"):
        head = SegHead(maps([width, 2 * width, 4 * width], [8, 16, 32]), classes, **RELEASED[model])
    assert sum(parameter.numel() for parameter in head.parameters()) == PARAMETERS[model]


def test_released_settings_are_all_counted() -> None:
    assert RELEASED.keys() == PARAMETERS.keys()


@pytest.mark.parametrize(
    ("channels", "strides", "stride"),
    [
        ([8, 16, 32, 64], [4, 8, 16, 32], 8),
        ([16, 32, 64], [8, 16, 32], 8),
        ([16, 16, 16, 16], [16, 16, 16, 16], 16),
        ([16, 32], [4, 8], 4),
        ([24], [8], 8),
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (33, 70), (8, 8)])
def test_maps_of_any_student(
    maps: Callable, channels: list[int], strides: list[int], stride: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    head = SegHead(maps(channels, strides), CLASSES)
    assert head.stride == stride
    inputs = [x.requires_grad_() for x in features(channels, strides, *size)]
    logits = head(inputs)
    assert logits.shape == (2, 3, -(-size[0] // stride), -(-size[1] // stride))
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert all(x.grad is not None for x in inputs[-3:])
    assert all(x.grad is None for x in inputs[:-3])


def test_every_map_reaches_the_logits(maps: Callable) -> None:
    torch.manual_seed(0)
    head = SegHead(maps([16, 32, 64], [8, 16, 32]), CLASSES).eval()
    inputs = features([16, 32, 64], [8, 16, 32])
    expected = head(inputs)
    for index in range(3):
        changed = [x + (i == index) for i, x in enumerate(inputs)]
        assert not torch.allclose(head(changed), expected)


def test_autocast(maps: Callable) -> None:
    torch.manual_seed(0)
    head = SegHead(maps([16, 32, 64], [8, 16, 32]), CLASSES, **RELEASED["l1_cityscapes"]).eval()
    inputs = features([16, 32, 64], [8, 16, 32])
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(inputs)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), head(inputs), rtol=0.05, atol=0.05)


def test_dropout_is_before_the_classifier(maps: Callable) -> None:
    head = SegHead(maps([16], [8]), CLASSES, dropout=1.0)
    assert torch.equal(head(features([16], [8])), head.classifier.bias[None, :, None, None].expand(2, 3, 8, 12))


def test_checkpoint(maps: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    info, inputs = maps([16, 32, 64], [8, 16, 32]), features([16, 32, 64], [8, 16, 32])
    head = SegHead(info, CLASSES).eval()
    path = str(tmp_path / "head.pth")
    torch.save(head.state_dict(), path)
    assert torch.equal(SegHead(info, CLASSES, checkpoint=path).eval()(inputs), head(inputs))
    with pytest.raises(UserError, match="does not fit SegHead"):
        SegHead(info, [*CLASSES, "roof"], checkpoint=path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"block": "mbconw"}, "did you mean mbconv"),
        ({"activation": "gelo"}, "did you mean gelu"),
        ({"class_names": []}, "at least one class"),
    ],
)
def test_bad_arguments(maps: Callable, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        SegHead(maps([16], [8]), **({"class_names": CLASSES} | arguments))
    assert "\n" not in str(caught.value)
