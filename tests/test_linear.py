"""Linear layers by oneDNN against `torch.nn.functional.linear`: outputs, gradients, and where PyTorch's is kept."""

import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distill import linear as module
from distill.linear import Linear, linear, use_onednn
from tests.operators import Operators

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
# Widths below and from that on from which oneDNN also multiplies the weight's gradient.
SHAPES = [((3, 7, 40), 24), ((50, 96), 130), ((2, 3, 5, 16), 256), ((9,), 5), ((0, 8), 4)]


@pytest.fixture(autouse=True)
def on_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever processor the tests run on."""
    monkeypatch.setattr(module, "_FASTER", True)


def by_onednn(*tensors: Tensor, under: AbstractContextManager[Any] | None = None) -> bool:
    with under or nullcontext(), Operators() as ran:
        linear(*tensors)
    return any("mkldnn" in name for name in ran.names)


def operands(shape: tuple[int, ...], width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (shape, (width, shape[-1]), (width,))
    return [torch.randn(*sides, generator=generator, dtype=dtype).requires_grad_() for sides in shapes]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("shape", "width"), SHAPES)
def test_outputs_and_gradients(shape: tuple[int, ...], width: int, biased: bool) -> None:
    given = operands(shape, width)[: 3 if biased else 2]
    assert by_onednn(*given)
    mine, others = linear(*given), F.linear(*given)
    torch.testing.assert_close(mine, others)
    upstream = torch.randn(others.shape, generator=torch.Generator().manual_seed(1))
    found, wanted = (torch.autograd.grad(y, given, upstream) for y in (mine, others))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_only_what_is_trained_has_a_gradient(trained: int) -> None:
    given = [x.detach() for x in operands((6, 20), 140)]
    given[trained].requires_grad_()
    linear(*given).square().mean().backward()
    found = given[trained].grad
    given[trained].grad = None
    F.linear(*given).square().mean().backward()
    torch.testing.assert_close(found, given[trained].grad)
    assert [x.grad is not None for x in given] == [index == trained for index in range(3)]


def test_what_follows_may_change_the_output_in_place() -> None:
    x, weight, bias = operands((3, 7, 40), 24)
    mine, others = (torch.autograd.grad(f(x, weight, bias).relu_().sum(), weight) for f in (linear, F.linear))
    torch.testing.assert_close(mine, others)


def test_strided_operands() -> None:
    x, weight, bias = (x.detach() for x in operands((6, 40), 24))
    x, weight = x[:, ::2].requires_grad_(), weight.t()[:20].t().requires_grad_()
    mine, others = linear(x, weight, bias), F.linear(x, weight, bias)
    torch.testing.assert_close(mine, others)
    gradients = (torch.autograd.grad(y.sum(), (x, weight)) for y in (mine, others))
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
def test_pytorch_computes_elsewhere() -> None:
    given = operands((4, 8), 6)
    assert by_onednn(*given)
    assert by_onednn(*given, under=torch.inference_mode())
    assert not by_onednn(*given, under=torch.autocast("cpu", torch.bfloat16))
    assert not by_onednn(*operands((4, 8), 6, torch.float64))
    assert not by_onednn(*(x.to("meta") for x in given))
    off = torch.backends.mkldnn.flags(enabled=False)  # type: ignore[no-untyped-call]
    assert not by_onednn(*given, under=off)


def test_pytorch_computes_on_other_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FASTER", False)
    assert not by_onednn(*operands((4, 8), 6))


def test_without_onednn_the_package_is_imported() -> None:
    """As on macOS, where PyTorch has no such operators."""
    code = """
import torch
torch.backends.mkldnn.is_available = lambda: False
class Absent:
    def __getattr__(self, name):
        raise AttributeError(name)
torch.ops.mkldnn = Absent()
from distill.linear import Linear
print(Linear(3, 2)(torch.ones(1, 3)).shape)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_traced_and_functional_transforms() -> None:
    layer, x = Linear(8, 6), torch.randn(4, 8)
    assert "mkldnn" not in str(torch.jit.trace(layer, x).inlined_graph)  # type: ignore[no-untyped-call]
    weight = layer.weight.detach()
    found = torch.func.grad(lambda given: linear(x, given).square().mean())(weight)
    torch.testing.assert_close(found, torch.func.grad(lambda given: F.linear(x, given).square().mean())(weight))


def test_exported_graphs_have_pytorchs_operator() -> None:
    exported = torch.export.export(Linear(8, 6), (torch.randn(4, 8),))
    assert "aten.linear.default" in exported.graph_module.code
    assert "mkldnn" not in exported.graph_module.code


def test_multiply_adds_are_counted() -> None:
    given, counts = operands((5, 8), 6), []
    for function in (linear, F.linear):
        with FlopCounterMode(display=False) as counter:
            function(*given)
        counts.append(counter.get_total_flops())
    assert counts == [2 * 5 * 8 * 6] * 2


def test_layers_of_a_model_are_replaced_with_their_weights() -> None:
    class Quantised(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.GELU(), nn.Linear(16, 4)), Quantised(4, 4))
    x, keys = torch.randn(3, 8), list(model.state_dict())
    expected = model(x)
    assert use_onednn(model) is model
    assert [type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)] == [Linear, Linear, Quantised]
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model(x), expected)
