"""The depth-wise convolution: compiled kernels and PyTorch's path against `conv1d`, outputs and gradients."""

from itertools import product

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


# rtol and atol of causal-conv1d's own tests: of output, states and gradient of x. Those of weight and bias, which stay
# in float32, are held to 1e-3 whatever the dtype of the tokens.
PUBLISHED = {torch.float32: (3e-4, 1e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (1e-2, 5e-2)}


@pytest.mark.parametrize("dtype", PUBLISHED)
@pytest.mark.parametrize("length", [1, 2, 129, 372])
def test_published_tolerances(path: str, length: int, dtype: torch.dtype) -> None:
    """Tokens of any dtype under weights in float32: neither the weights nor the sums may be rounded to it."""
    rtol, atol = PUBLISHED[dtype]
    options = product((1, 2, 3, 4, 7), (None, "silu"), (False, True), (False, True), ("causal", "same"))
    for taps, activation, with_bias, with_states, padding in options:
        if with_states and padding == "same":
            continue
        x, weight, bias = (tensor.detach() for tensor in inputs(2, length, 24, taps))
        states = torch.randn(2, taps - 1, 24, generator=torch.Generator().manual_seed(1))
        leaves = {"x": x.to(dtype).mT, "weight": weight}
        leaves |= {"bias": bias} if with_bias else {}
        leaves |= {"states": states.to(dtype).mT} if with_states else {}
        for leaf in leaves.values():
            leaf.requires_grad_()

        tokens, before = leaves["x"].float(), taps - 1 if padding == "causal" else (taps - 1) // 2
        past = leaves["states"].float() if with_states else tokens.new_zeros(2, 24, before)
        whole = torch.cat([past, tokens, tokens.new_zeros(2, 24, taps - 1 - before)], dim=2)
        expected = F.conv1d(whole, weight[:, None], leaves.get("bias"), groups=24)
        expected = (F.silu(expected) if activation else expected).to(dtype)
        arguments = (leaves["x"], weight, leaves.get("bias"), activation)
        if padding == "same":
            outputs, exact = [causal_conv1d(*arguments, padding="same")], [expected]
        else:
            given = leaves.get("states")
            outputs = list(causal_conv1d(*arguments, initial_states=given, return_final_states=True))
            exact = [expected, whole[..., length:].to(dtype)]
            assert torch.equal(outputs[0], causal_conv1d(*arguments, initial_states=given))
            assert outputs[1].shape == (2, 24, taps - 1)

        random = torch.Generator().manual_seed(2)
        directions = [torch.randn(y.shape, generator=random).to(dtype) for y in exact]
        gradients = [
            dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), directions, allow_unused=True), strict=True))
            for y in (outputs, exact)
        ]
        for y, other in zip(outputs, exact, strict=True):
            assert y.dtype == dtype
            torch.testing.assert_close(y, other, rtol=rtol, atol=atol)
        for name, leaf in leaves.items():
            found, other = (gradient[name] for gradient in gradients)
            tolerance = (1e-3, 1e-3) if name in ("weight", "bias") else (rtol, atol)
            assert found.dtype == leaf.dtype
            torch.testing.assert_close(
                found, other, rtol=tolerance[0], atol=tolerance[1], msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded_once(path: str, dtype: torch.dtype) -> None:
    x, weight, bias = inputs(2, 129, 24, 4)
    y, exact = (bidirectional_conv1d(tokens, weight, bias, "silu") for tokens in (x.to(dtype), x.to(dtype).float()))
    assert torch.equal(y, exact.to(dtype))


def test_states_continue_a_sequence(path: str) -> None:
    x, weight, bias = (tensor.detach() for tensor in inputs(2, 33, 18, 4))
    whole = causal_conv1d(x.mT, weight, bias, "silu")
    for cut in (1, 2, 17):  # shorter than the states, too
        first, states = causal_conv1d(x.mT[..., :cut], weight, bias, "silu", return_final_states=True)
        second = causal_conv1d(x.mT[..., cut:], weight, bias, "silu", initial_states=states)
        torch.testing.assert_close(torch.cat([first, second], dim=-1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("directions", ["causal", "bidirectional"])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_the_gpu_kernel_serves_both_directions(
    directions: str, activation: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with causal-conv1d's signature takes its place; the reverse is the causal one on flipped tokens."""
    monkeypatch.setattr(convolution, "_kernels_load", lambda: False)
    calls = []

    def causal_conv1d_fn(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, seq_idx: None = None, activation: str | None = None
    ) -> Tensor:
        assert weight.dtype == bias.dtype == torch.float32
        assert x.stride(1) == 1
        assert x.shape[1] % 8 == x.stride(0) % 8 == x.stride(2) % 8 == 0
        calls.append(x.dtype)
        return oracle(x.float().mT, weight, bias, activation, weight.shape[1] - 1).mT.to(x.dtype)

    def run(x: Tensor) -> list[Tensor]:
        if directions == "causal":
            y = causal_conv1d(x.mT, weight, bias, activation)
        else:
            y = bidirectional_conv1d(x, weight, bias, activation)
        return [y, *torch.autograd.grad(y.float().square().sum(), [x, weight, bias])]

    x, weight, bias = inputs(2, 33, 16, 4)
    for dtype in (torch.float32, torch.bfloat16):
        tokens = x.detach().to(dtype).requires_grad_()
        with monkeypatch.context() as patch:
            patch.setattr(convolution, "_cuda_kernel", lambda: causal_conv1d_fn)
            patch.setattr(convolution, "_suits_cuda_kernel", lambda x, taps: True)
            found = run(tokens)
        assert calls == [dtype] * (1 if directions == "causal" else 2)
        calls.clear()
        for one, other in zip(found, run(tokens), strict=True):
            torch.testing.assert_close(one, other)
        assert not calls, "without it PyTorch's convolution runs"


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


@pytest.mark.parametrize(
    "states",
    [torch.zeros(2, 5, 4), torch.zeros(1, 5, 3), torch.zeros(2, 5, 3, device="meta"), torch.zeros(2, 5, 3).int()],
)
def test_wrong_states_are_named(states: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^initial_states ") as caught:
        causal_conv1d(torch.zeros(2, 5, 7), torch.zeros(5, 4), initial_states=states)
    assert "\n" not in str(caught.value)


def test_states_are_for_causal_padding() -> None:
    with pytest.raises(ValueError, match=r"^initial_states and return_final_states need padding 'causal'"):
        causal_conv1d(torch.zeros(2, 5, 7), torch.zeros(5, 4), padding="same", return_final_states=True)
