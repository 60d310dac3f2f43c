"""Resizing by matrix products against `torch.nn.functional.interpolate`, outputs and gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.layers import resize

MODES = [(mode, antialias) for mode in ("bilinear", "bicubic") for antialias in (False, True)]
SIZES = [
    ((7, 9), (7, 9)),
    ((7, 9), (14, 5)),
    ((1, 1), (5, 4)),
    ((64, 64), (37, 100)),
    ((5, 13), (1, 1)),
    ((64, 2), (65, 3)),
    ((2, 3), (128, 200)),
]


def maps(*grid: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, *grid, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize(("mode", "antialias"), MODES)
def test_equals_interpolate(mode: str, antialias: bool, source: tuple[int, int], target: tuple[int, int]) -> None:
    """In float64 to its precision; in float32 ours is the closer one to float64, whose positions PyTorch rounds."""
    x = maps(*source, dtype=torch.float64).requires_grad_()
    found, expected = resize(x, target, mode, antialias), F.interpolate(x, target, mode=mode, antialias=antialias)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [torch.autograd.grad(y, x, direction)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)

    single = x.detach().float()
    found32, theirs32 = (
        resize(single, target, mode, antialias),
        F.interpolate(single, target, mode=mode, antialias=antialias),
    )
    exact = F.interpolate(single.double(), target, mode=mode, antialias=antialias)
    torch.testing.assert_close(found32.double(), exact, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(found32, theirs32, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("mode", "antialias"), MODES)
def test_half_precision_is_float32_rounded_once(mode: str, antialias: bool, dtype: torch.dtype) -> None:
    """Under autocast too, which would round the weights of a plain matrix product."""
    x = maps(7, 9).to(dtype)
    expected = resize(x.float(), (14, 5), mode, antialias).to(dtype)
    assert torch.equal(resize(x, (14, 5), mode, antialias), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize(x, (14, 5), mode, antialias), expected)
        assert torch.equal(resize(x.float(), (14, 5), mode, antialias).to(dtype), expected)


@pytest.mark.parametrize(("mode", "antialias"), MODES)
def test_constants_stay_and_equal_grids_change_nothing(mode: str, antialias: bool) -> None:
    torch.testing.assert_close(
        resize(torch.full((1, 1, 5, 7), 3.0), (11, 2), mode, antialias), torch.full((1, 1, 11, 2), 3.0)
    )
    assert torch.equal(resize(maps(5, 7), (5, 7), mode, antialias), maps(5, 7))


def test_layout_device_and_empty_batches() -> None:
    x = maps(8, 6)
    lasting = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(resize(lasting, (5, 7), "bicubic"), resize(x, (5, 7), "bicubic"))
    assert resize(x.to("meta"), (5, 7), "bilinear", antialias=True).shape == (2, 3, 5, 7)
    assert resize(x[:0], (5, 7), "bicubic").shape == (0, 3, 5, 7)


class _Resizer(torch.nn.Module):
    def forward(self, x: Tensor, like: Tensor) -> list[Tensor]:
        return [resize(x, like.shape[-2:], *mode) for mode in MODES]


def test_exports_with_sizes_that_vary() -> None:
    names = [torch.export.Dim(name, min=2, max=512) for name in ("h", "w", "H", "W")]
    shapes = ({2: names[0], 3: names[1]}, {2: names[2], 3: names[3]})
    program = torch.export.export(_Resizer(), (maps(6, 8), maps(12, 5)), dynamic_shapes=shapes).module()
    for source, target in (((6, 8), (12, 5)), ((9, 4), (3, 17)), ((5, 5), (5, 5))):
        arguments = (maps(*source), maps(*target))
        for found, expected in zip(program(*arguments), _Resizer()(*arguments), strict=True):
            assert torch.equal(found, expected)
