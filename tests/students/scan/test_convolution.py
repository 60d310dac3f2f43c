"""The depth-wise convolution: compiled kernels and PyTorch's path against `conv1d`, outputs and gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from students.scan import bidirectional_conv1d, causal_conv1d, convolution, cpu

SIZES = [(2, 33, 17, 4), (1, 300, 64, 3), (3, 1, 5, 4), (2, 129, 16, 1), (1, 5, 3, 7), (0, 4, 4, 2)]  # B, L, D, W


@pytest.fixture(params=[*cpu.ISAS, "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every compiled convolution, and PyTorch's."""
    if request.param == "plain":
        monkeypatch.setattr(convolution, "_kernels_load", lambda: False)
        return "plain"
    found = cpu.library.load(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    monkeypatch.setattr(cpu.library, "best", lambda: found)
    return request.param


def inputs(batch: int, length: int, channels: int, taps: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(length)
    shapes = ((batch, length, channels), (channels, taps), (channels,))
    return [torch.randn(shape, generator=random).requires_grad_() for shape in shapes]


def oracle(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None, before: int) -> Tensor:
    """The convolution of x (B, L, D) with `before` taps in the past."""
    padded = F.pad(x.mT, (before, weight.shape[1] - 1 - before))
    y = F.conv1d(padded, weight[:, None], bias, groups=len(bias)).mT
    return F.silu(y) if activation else y


def assert_same(actual: Tensor, expected: Tensor, tensors: list[Tensor]) -> None:
    random = torch.Generator().manual_seed(0)
    direction = torch.randn(expected.shape, generator=random)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad((y * direction).sum(), tensors) for y in (actual, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("padding", ["causal", "same"])
def test_equals_conv1d(path: str, sizes: tuple[int, ...], activation: str | None, padding: str) -> None:
    x, weight, bias = inputs(*sizes)
    before = sizes[3] - 1 if padding == "causal" else (sizes[3] - 1) // 2
    actual = causal_conv1d(x.mT, weight, bias, activation, padding=padding)
    assert_same(actual.mT, oracle(x, weight, bias, activation, before), [x, weight, bias])


@pytest.mark.parametrize("sizes", SIZES)
def test_bidirectional_is_the_convolution_of_the_reversed_sequence(path: str, sizes: tuple[int, ...]) -> None:
    x, weight, bias = inputs(*sizes)
    ahead, back = (oracle(y, weight, bias, "silu", sizes[3] - 1) for y in (x, x.flip(1)))
    expected = torch.stack([ahead, back.flip(1)], dim=1)
    assert_same(bidirectional_conv1d(x, weight, bias, "silu"), expected, [x, weight, bias])


def test_no_bias_and_any_strides(path: str) -> None:
    x, weight, _ = inputs(2, 33, 18, 4)
    strided = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    half = torch.cat([x, x], dim=2)[..., :18]  # as a projection is split in two
    for y in (strided, half):
        expected = oracle(x, weight, torch.zeros(18), None, 3)
        assert_same(causal_conv1d(y.mT, weight).mT, expected, [x, weight])


@pytest.mark.skipif(cpu.library.best() is None, reason="no C++ compiler")
def test_gradients_do_not_depend_on_the_number_of_threads() -> None:
    tensors = inputs(2, 1023, 192, 4)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = bidirectional_conv1d(*tensors, "silu")
            results.append([y, *torch.autograd.grad(y.square().sum(), tensors)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_changes_nothing(path: str, dtype: torch.dtype) -> None:
    """Lightning's true half precision sets it."""
    tensors = inputs(2, 33, 17, 4)

    def run() -> list[Tensor]:
        y = bidirectional_conv1d(*tensors, "silu")
        return [y, *torch.autograd.grad(y.sum(), tensors)]

    expected = run()
    torch.set_default_dtype(dtype)
    try:
        assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))
    finally:
        torch.set_default_dtype(torch.float32)


def test_autocast_changes_nothing(path: str) -> None:
    tensors = inputs(2, 33, 17, 4)
    expected = bidirectional_conv1d(*tensors, "silu")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bidirectional_conv1d(*tensors, "silu"), expected)


def test_bfloat16_stays_bfloat16() -> None:
    x, weight, bias = inputs(2, 33, 16, 4)
    y = causal_conv1d(x.bfloat16().mT, weight, bias, "silu")
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float().mT, oracle(x, weight, bias, "silu", 3), rtol=5e-2, atol=5e-2)


@pytest.mark.skipif(cpu.library.best() is None, reason="no C++ compiler")
def test_operator() -> None:
    x, weight, bias = inputs(2, 9, 5, 4)
    torch.library.opcheck(torch.ops.distill.convolve.default, (x, weight, bias, True, [-3, 3], [1, -1]))
    with FlopCounterMode(display=False) as counter:
        bidirectional_conv1d(x, weight, bias)
    assert counter.get_total_flops() == 2 * 2 * 2 * 9 * 5 * 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("x", (torch.zeros(2, 5), torch.zeros(5, 4))),
        ("x", ([[1.0]], torch.zeros(5, 4))),
        ("weight", (torch.zeros(2, 5, 7), 3)),
        ("weight", (torch.zeros(2, 5, 7), torch.zeros(5, 4, device="meta"))),
        ("x", (torch.zeros(2, 5, 7, dtype=torch.int32), torch.zeros(5, 4))),
        ("weight", (torch.zeros(2, 5, 7), torch.zeros(4, 4))),
        ("weight", (torch.zeros(2, 5, 7), torch.zeros(5))),
        ("bias", (torch.zeros(2, 5, 7), torch.zeros(5, 4), torch.zeros(4))),
        ("activation", (torch.zeros(2, 5, 7), torch.zeros(5, 4), None, "relu")),
    ],
)
def test_bad_argument_is_named(name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=f"^{name} ") as caught:
        causal_conv1d(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_padding_is_causal_or_same() -> None:
    with pytest.raises(ValueError, match=r"^padding "):
        causal_conv1d(torch.zeros(1, 1, 1), torch.zeros(1, 1), padding="valid")
