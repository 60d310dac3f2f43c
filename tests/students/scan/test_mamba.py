"""How mamba-ssm's kernel is called, by a stand-in with its conditions, and what is made of its results."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan import interface, mamba_cuda
from students.scan.errors import ScanArgumentError
from students.scan.interface import run_scan
from students.scan.problem import Traits
from tests.students.scan.problems import DIFFERENTIABLE, IMAGES, Problem, build, cast, check

PROBLEMS = [
    Problem(),
    Problem(length=1, batch=1),
    Problem(groups=3, skip=False, gate=False, bias=False, softplus=False),
    Problem(batch=0),
    *(problem for problem in IMAGES if not (problem.complex or problem.constant_C or problem.initial_state)),
]


def compute(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, bias: Tensor | None, softplus: bool
) -> tuple[Tensor, Tensor]:
    """The kernel's forward pass, with its conditions on layouts and dtypes."""
    assert u.shape[0] > 0, "CUDA launches no empty grid"
    assert all(x.is_contiguous() and x.dtype == u.dtype for x in (u, delta, B, C))
    assert all(x is None or (x.is_contiguous() and x.dtype == torch.float32) for x in (A, D, bias))
    step = delta.float() if bias is None else delta.float() + bias[:, None]
    step = F.softplus(step) if softplus else step
    B, C = (x.float().repeat_interleave(u.shape[1] // x.shape[1], 1) for x in (B, C))
    state, outputs = u.new_zeros(*u.shape[:2], A.shape[1], dtype=torch.float32), []
    for t in range(u.shape[2]):
        entering = (step[..., t] * u[..., t].float())[..., None] * B[..., t]
        state = torch.exp(step[..., t, None] * A) * state + entering
        outputs.append((state * C[..., t]).sum(-1))
    y = torch.stack(outputs, 2)
    return (y if D is None else y + D[:, None] * u.float()).to(u.dtype), state


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    assert z is None
    y, state = compute(u, delta, A, B, C, D, bias, softplus)
    starts = torch.zeros(*u.shape[:2], -(-u.shape[2] // 2048), 2 * A.shape[1])
    starts[:, :, -1, 1::2] = state
    return y, starts


def backward(*arguments: object) -> Sequence[Tensor | None]:
    *inputs, z, bias, grad, starts, out, grad_z, softplus, recompute = arguments
    assert grad.is_contiguous()
    assert grad.dtype == inputs[0].dtype
    assert starts.is_contiguous()
    assert (z, out, grad_z, recompute) == (None, None, None, False)
    leaves = [None if x is None else x.detach().requires_grad_() for x in (*inputs, bias)]

    def differentiate() -> tuple[Tensor, ...]:
        y, _ = compute(*leaves, softplus)
        return torch.autograd.grad(y, [x for x in leaves if x is not None], grad)

    with ThreadPoolExecutor(1) as other:  # this thread is inside an operator, where autograd records nothing
        found = iter(other.submit(differentiate).result())
    return [None if x is None else next(found) for x in leaves]


@pytest.fixture
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mamba_cuda, "_kernel", lambda: SimpleNamespace(fwd=forward, bwd=backward))
    monkeypatch.setattr(interface, "choose_backend", lambda name, traits: name)  # it would ask for a GPU


@pytest.mark.usefixtures("_stand_in")
@pytest.mark.parametrize("last", [False, True], ids=["", "last"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_calls_the_kernel_as_it_wants(problem: Problem, last: bool) -> None:
    check(problem, torch.float32, "mamba-ssm", last=last)
    check(replace(problem, dtype=torch.bfloat16), torch.bfloat16, "mamba-ssm", last=last, tolerance=4e-2)


@pytest.mark.usefixtures("_stand_in")
@pytest.mark.parametrize("batch", [0, 2])
def test_operator(batch: int) -> None:
    """Shapes and dtypes are those that the fake kernels promise, also where the kernel is not called."""
    scan = cast(build(Problem(batch=batch, order="cross", grid=(3, 5), rank=2)), torch.float32)
    leaves = [None if (x := getattr(scan, name)) is None else x.clone().requires_grad_() for name in DIFFERENTIABLE]
    rest = (scan.order, scan.delta_softplus, scan.scale, True, "mamba-ssm")
    torch.library.opcheck(torch.ops.distill.selective_scan.default, (*leaves, *rest))


@pytest.mark.usefixtures("_stand_in")
def test_more_states_than_the_kernel_takes() -> None:
    scan = cast(build(Problem(channels=2, length=3, states=257)), torch.float32)
    with pytest.raises(ScanArgumentError, match=r"^A has 257 states.* up to 256.*'chunked'") as caught:
        run_scan(scan, "mamba-ssm")
    assert "\n" not in str(caught.value)


def test_says_what_it_cannot_run() -> None:
    assert "cpu" in mamba_cuda.obstacle(Traits("cpu"))
    refused = {"double": "float64", "complex": "complex", "constant": "constant", "initial_state": "initial state"}
    for trait, word in refused.items():
        assert word in mamba_cuda.obstacle(Traits("cuda", **{trait: True}))


@pytest.fixture
def _fresh_probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    mamba_cuda._probe.cache_clear()
    yield
    mamba_cuda._probe.cache_clear()


@pytest.mark.usefixtures("_fresh_probe")
@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'selective_scan_cuda'"), OSError("bad\nlink")])
def test_says_how_to_build_the_extension(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def absent(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(mamba_cuda, "import_module", absent)
    reason = mamba_cuda.obstacle(Traits("cuda"))
    assert str(error).splitlines()[0] in reason
    assert reason.endswith("MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation mamba-ssm")
    assert "\n" not in reason
