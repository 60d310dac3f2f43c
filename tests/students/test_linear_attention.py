"""Linear against quadratic attention, timm's module, and half precision against float32."""

import pytest
import torch
from timm.models.efficientvit_mit import LiteMLA
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import UserError
from students import linear_attention as module
from students.linear_attention import (
    PRECISIONS,
    MultiScaleLinearAttention,
    half_linear_attention,
    linear_attention,
)

HALF = [torch.float16, torch.bfloat16]


def tokens(count: int, dim: int = 16, scale: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, dim, count, generator=generator) * scale for _ in range(3))
    return q, k, v


def quadratic_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-15) -> Tensor:
    """Reference implementation, at a cost of N² d: all similarities, then the mean."""
    dtype = torch.promote_types(v.dtype, torch.float32)
    similarity = k.relu().to(dtype).transpose(-1, -2) @ q.relu().to(dtype)
    weights = similarity / (similarity.sum(-2, keepdim=True) + eps)
    return (v.to(dtype) @ weights).to(v.dtype)


def overflowing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The published form in the precision of its input."""
    q, k = q.relu(), k.relu()
    out = (F.pad(v, (0, 0, 0, 1), value=1.0) @ k.transpose(-1, -2)) @ q
    return out[..., :-1, :] / (out[..., -1:, :] + 1e-5)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 35, 143])
@pytest.mark.parametrize("dim", [16, 32])
def test_linear_equals_quadratic(count: int, dim: int) -> None:
    inputs = [x.requires_grad_() for x in tokens(count, dim)]
    fast, slow = linear_attention(*inputs), quadratic_attention(*inputs)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(slow)
    gradients = [torch.autograd.grad((weight * out).sum(), inputs) for out in (fast, slow)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_linear_equals_quadratic_in_double() -> None:
    inputs = [x.double() for x in tokens(77)]
    torch.testing.assert_close(linear_attention(*inputs), quadratic_attention(*inputs), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("scales", [(5,), (3,), (3, 5)])
def test_module_equals_timms(scales: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theirs = LiteMLA(64, 64, dim=32, scales=scales, norm_layer=(None, nn.BatchNorm2d), eps=1e-15).eval()
    ours = MultiScaleLinearAttention(64, 32, scales).eval()
    ours.load_state_dict(theirs.state_dict())
    for size in ((1, 1), (5, 7), (16, 12)):
        x = torch.randn(2, 64, *size)
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=4e-6)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("count", [1, 5, 256, 4096])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 100.0])
def test_half_precision_rounds_and_no_more(dtype: torch.dtype, count: int, scale: float) -> None:
    inputs = [x.to(dtype) for x in tokens(count, scale=scale)]
    exact = linear_attention(*(x.float() for x in inputs))
    error = (half_linear_attention(*inputs).float() - exact).norm() / exact.norm()
    assert error < torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_gradients(dtype: torch.dtype) -> None:
    weight = torch.randn(2, 3, 16, 1024, generator=torch.Generator().manual_seed(1))
    gradients = []
    for form, kind in ((half_linear_attention, dtype), (linear_attention, torch.float32)):
        inputs = [x.to(dtype).to(kind).requires_grad_() for x in tokens(1024, scale=10.0)]
        gradients.append(torch.autograd.grad((form(*inputs).float() * weight).sum(), inputs))
    for one, other in zip(*gradients, strict=True):
        assert (one.float() - other).norm() / other.norm() < 4 * torch.finfo(dtype).eps


def test_the_published_form_overflows_in_fp16() -> None:
    """What the two safe forms are for; without this, their tests would prove nothing."""
    inputs = [x.half() for x in tokens(4096, scale=30.0)]
    assert not overflowing(*inputs).isfinite().all()
    assert linear_attention(*inputs).isfinite().all()
    assert half_linear_attention(*inputs).isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("form", [linear_attention, half_linear_attention])
@pytest.mark.parametrize("dead", ["queries", "keys", "one token", "one channel", "all"])
def test_dead_queries_and_keys(dtype: torch.dtype, form: object, dead: str) -> None:
    q, k, v = (x.to(dtype) for x in tokens(64))
    if dead in ("queries", "all"):
        q = -q.abs()
    if dead in ("keys", "all"):
        k = -k.abs()
    if dead == "one token":
        q[..., 3] = -1
    if dead == "one channel":
        k[:, :, 5] = -1
    inputs = [x.requires_grad_() for x in (q, k, v)]
    out = form(*inputs)  # type: ignore[operator]
    assert out.isfinite().all()
    if dead in ("queries", "keys", "all"):
        assert not out.any()
    for gradient in torch.autograd.grad(out.float().sum(), inputs):
        assert gradient.isfinite().all()


def train(precision: str, dtype: torch.dtype, steps: int) -> tuple[list[float], int]:
    """Losses and skipped steps of a small model whose keys and values exceed fp16 when they are summed as published."""
    torch.manual_seed(0)
    attention = MultiScaleLinearAttention(16, 16, precision=precision)
    with torch.no_grad():
        attention.qkv.conv.weight.mul_(300)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish())
    head = nn.Conv2d(16, 1, 1)
    model = nn.ModuleList([stem, attention, head])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype == torch.float16)
    losses, skipped = [], 0
    for _ in range(steps):
        images = torch.randn(2, 3, 16, 16)
        with torch.autocast("cpu", dtype):
            x = stem(images)
            out = head(x + attention(x))
        loss = (out.float() - 3 * F.avg_pool2d(images.mean(1, keepdim=True), 2)).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        skipped += scaler.get_scale() < scale
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return losses, skipped


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_hundred_autocast_steps_without_nan(precision: str, dtype: torch.dtype) -> None:
    losses, skipped = train(precision, dtype, 200)
    assert torch.tensor(losses).isfinite().all()
    assert skipped <= 4
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])


def test_that_training_is_not_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "half_linear_attention", overflowing)
    losses, skipped = train("input", torch.float16, 3)
    assert not torch.tensor(losses).isfinite().any()
    assert skipped == 3


def test_precision_shows_in_half_only() -> None:
    torch.manual_seed(0)
    modules = {name: MultiScaleLinearAttention(32, 16, precision=name).eval() for name in PRECISIONS}
    modules["input"].load_state_dict(modules["float32"].state_dict())
    x = torch.randn(1, 32, 9, 8)
    assert torch.equal(modules["input"](x), modules["float32"](x))
    with torch.autocast("cpu", torch.bfloat16):
        low, full = modules["input"](x), modules["float32"](x)
    assert low.dtype == full.dtype == torch.bfloat16
    assert not torch.equal(low, full)
    torch.testing.assert_close(low, full, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiles_in_one_graph(precision: str) -> None:
    torch.manual_seed(0)
    attention = MultiScaleLinearAttention(32, 16, precision=precision).eval()
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        for size in (6, 9):
            x = torch.randn(1, 32, size, 8)
            torch.testing.assert_close(compiled(x), attention(x), rtol=0.05, atol=0.05)


def test_unknown_precision() -> None:
    with pytest.raises(UserError, match="valid names are float32, input"):
        MultiScaleLinearAttention(32, 16, precision="half")


def test_onnx_files_keep_epsilon() -> None:
    """Pixels whose queries are all negative have 0 / ε, where 0 / 0 would make the whole map NaN."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")

    class Attention(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return linear_attention(q, k, v)

    q, k, v = torch.randn(3, 1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    q[..., 2] = -1
    exported = torch.onnx.export(Attention().eval(), (q, k, v), dynamo=True, opset_version=18, verbose=False)
    assert exported is not None
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
    names = [node.name for node in session.get_inputs()]
    (found,) = session.run(None, {name: x.numpy() for name, x in zip(names, (q, k, v), strict=True)})
    assert (found[..., 2] == 0).all()
    torch.testing.assert_close(torch.from_numpy(found), linear_attention(q, k, v))
