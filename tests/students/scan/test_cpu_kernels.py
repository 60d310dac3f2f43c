"""What only the compiled kernels can get wrong: layouts, shared and strided memory, lanes and threads."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from students.scan import cpu, selective_scan
from students.scan.interface import run_scan
from students.scan.orders import scan_order
from students.scan.problem import Scan, Traits
from tests.students.scan.problems import DIFFERENTIABLE, Problem, assert_close, build, cast, expected, run

BACKENDS = [
    pytest.param(
        f"cpu-{isa}",
        marks=pytest.mark.skipif(bool(reason := cpu.CpuBackend(isa).obstacle(Traits("cpu"))), reason=reason),
    )
    for isa in cpu.ISAS
]
TOLERANCE = 1e-4
every_kernel = pytest.mark.parametrize("backend", BACKENDS)


def change(scan: Scan, function: Callable[[Tensor], Tensor], *names: str) -> Scan:
    return replace(scan, **{name: function(x) for name in names if (x := getattr(scan, name)) is not None})


@every_kernel
@pytest.mark.parametrize("channels", [17, 200])
@pytest.mark.parametrize("states", [16, 19])
def test_time_contiguous_inputs(backend: str, channels: int, states: int) -> None:
    """mamba-ssm's layout, (B, D, L), read through transposed registers."""
    problem = Problem(channels=channels, states=states, length=37)
    scan = change(cast(build(problem), torch.float32), lambda x: x.mT.contiguous().mT, "u", "delta", "z", "B", "C")
    assert scan.u.stride(2) == 1
    assert_close(run(scan, backend), expected(problem), TOLERANCE)


@every_kernel
def test_expanded_inputs(backend: str) -> None:
    """A tensor that directions share by a stride of zero has a gradient for each of them."""
    problem = Problem(channels=17, order="bidirectional", grid=(3, 7))
    scan = cast(build(problem), torch.float32)
    leaf = scan.u.clone().requires_grad_()
    out, _ = run_scan(replace(scan, u=leaf.expand(-1, 2, -1, -1)), backend)
    (found,) = torch.autograd.grad(out.square().sum(), leaf)
    leaf = build(problem).u.clone().requires_grad_()
    out, _ = run_scan(replace(build(problem), u=leaf), "reference")
    (wanted,) = torch.autograd.grad(out.square().sum(), leaf)
    assert_close({"u": found}, {"u": wanted}, TOLERANCE)


@every_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_changes_nothing(backend: str, dtype: torch.dtype) -> None:
    """Lightning's true half precision sets it."""
    scan = cast(build(Problem(channels=17, initial_state=True)), torch.float32)
    plain = run(scan, backend)
    torch.set_default_dtype(dtype)
    try:
        found = run(scan, backend)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@every_kernel
def test_nan_stays_in_its_image(backend: str) -> None:
    """Lanes beyond the last channel keep nothing of the unit that a thread worked on before."""
    scan = cast(build(Problem(channels=200, length=33, states=16)), torch.float32)
    scan = change(scan, lambda x: x.mT.contiguous().mT, "u", "delta", "z", "B", "C")
    for name in ("u", "z"):
        getattr(scan, name)[0] = float("nan")
    found = run(scan, backend)
    for name in ("out", "last_state", *(f"gradient of {name}" for name in ("u", "delta", "z", "B", "C"))):
        assert torch.isfinite(found[name][1]).all(), name


@every_kernel
@pytest.mark.parametrize("name", ["delta", "B", "C"])
def test_infinity_in_idle_lanes_is_not_summed(backend: str, name: str) -> None:
    """17 channels leave 15 lanes idle, in which 0 * inf is NaN."""
    scan = change(build(Problem(channels=17, length=33, rank=3)), torch.clone, name)  # the original is cached
    getattr(scan, name)[0, 0, ..., 20, 0] = float("inf")
    found, wanted = run(cast(scan, torch.float32), backend), run(scan, "reference")
    for part in ("gradient of B", "gradient of C"):
        assert torch.equal(torch.isfinite(found[part]), torch.isfinite(wanted[part])), part


@every_kernel
@pytest.mark.parametrize(
    "rows",
    [
        [[-1, -1, -1]],
        [[-1, -1, -1], [2, 0, 1]],
        [[0, 1, 2, 3, -1, -1], [3, 1, -1, -1, -1, -1]],
        [[3, 2, 1, 0], [1, -1, -1, -1], [0, 2, -1, -1]],
    ],
)
def test_rows_of_any_length(backend: str, rows: list[list[int]]) -> None:
    order = torch.tensor(rows, dtype=torch.int32)
    problem = Problem(channels=5, grid=(2, 2), order={1: "raster", 2: "bidirectional"}.get(len(rows), "cross"))
    scan = build(problem)
    scan = replace(
        scan,
        order=order,
        **{name: x[: len(rows)] for name in ("A", "D", "delta_bias") if (x := getattr(scan, name)) is not None},
    )
    scan = change(scan, lambda x: x[:, : len(rows)], "delta", "B", "C")
    assert_close(run(cast(scan, torch.float32), backend), run(scan, "reference"), TOLERANCE)


@every_kernel
def test_gradient_of_the_last_state_alone_and_of_an_expanded_output(backend: str) -> None:
    exact = build(Problem(channels=17, gate=False))
    for pick in (lambda out, last: last.sum(), lambda out, last: out.sum()):
        found = []
        for scan, name in ((cast(exact, torch.float32), backend), (exact, "reference")):
            leaves = {n: x.clone().requires_grad_() for n in DIFFERENTIABLE if (x := getattr(scan, n)) is not None}
            gradients = torch.autograd.grad(
                pick(*run_scan(replace(scan, **leaves), name)),
                list(leaves.values()),
                allow_unused=True,
                materialize_grads=True,
            )
            found.append(dict(zip(leaves, gradients, strict=True)))
        assert_close(*found, TOLERANCE)


@every_kernel
def test_last_chunk_of_every_length(backend: str) -> None:
    for length in range(1, 2 * cpu.library.CHUNK + 2):
        u, delta = torch.randn(2, 1, 3, length).unbind(0)
        A, B, C = -torch.rand(3, 2), torch.randn(1, 2, length), torch.randn(1, 2, length)
        found = selective_scan(u, delta, A, B, C, delta_softplus=True, backend=backend)
        wanted = selective_scan(*(x.double() for x in (u, delta, A, B, C)), delta_softplus=True, backend="reference")
        torch.testing.assert_close(found.double(), wanted, rtol=TOLERANCE, atol=TOLERANCE)


@every_kernel
def test_elementary_functions_are_accurate(backend: str) -> None:
    """One step from h = 1 without input leaves exp(Δ A); one with A = 0 and u = B = 1 leaves softplus of delta."""
    x = torch.linspace(-30, 30, 4001).unsqueeze(1)
    one, nothing = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)

    def last_state(delta: Tensor, A: Tensor, u: Tensor, start: Tensor, softplus: bool) -> Tensor:
        channels = (1, len(x), 1)
        options = {"return_last_state": True, "initial_state": start.expand(channels), "backend": backend}
        return selective_scan(
            u.expand(channels), delta.expand(channels), A, one, one, None, None, None, softplus, **options
        )[1]

    found = last_state(one, x, nothing, one, False)[0].double()
    # The argument itself is a product, rounded: its error counts as often as it is large.
    assert ((found / x.double().exp() - 1).abs() <= 2e-7 + 1.2e-7 * x.abs()).all()
    found = last_state(x.unsqueeze(0), torch.zeros_like(x), one, nothing, True)[0].double()
    exact = torch.log1p(x.double().exp())
    assert ((found / exact - 1).abs() <= 4e-7 + 1.2e-7 * x.abs()).all()


def like_features(bias: float) -> Scan:
    """Both directions of 32 x 32 tokens of a student at initialisation; `bias` is that of Δ, before softplus.

    Inputs whose mean is not zero, as those of trained layers are: what a state remembers adds up.
    """
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    tokens, channels, states = 32**2, 32, 16
    spread = torch.linspace(-2, 2, channels).expand(2, -1)
    return Scan(
        u=1 + normal(1, 2, tokens, channels),
        delta=0.5 * normal(1, 2, tokens, channels),
        delta_weight=None,
        A=-torch.arange(1.0, states + 1).expand(2, channels, -1),
        B=1 + 0.3 * normal(1, 2, 1, tokens, states),
        C=1 + 0.3 * normal(1, 2, 1, tokens, states),
        D=normal(2, channels),
        z=normal(1, tokens, channels),
        delta_bias=bias + spread,
        initial_state=None,
        order=scan_order("bidirectional", 32, 32),
        delta_softplus=True,
        scale=0.5,
    )


@every_kernel
@pytest.mark.parametrize("bias", [-9, -5, 1], ids=["small steps", "steps at initialisation", "large steps"])
def test_as_accurate_as_the_loop_in_float32(backend: str, bias: float) -> None:
    """Errors that have a sign add up over all steps that a state remembers, which hides in a test of each operation."""
    scan = like_features(bias)
    exact = run(cast(scan, torch.float64), "chunked")

    def errors(found: dict[str, Tensor]) -> dict[str, float]:
        return {name: float((x - exact[name]).norm() / exact[name].norm()) for name, x in found.items()}

    found, loop = errors(run(scan, backend)), errors(run(scan, "reference"))
    assert {name: error for name, error in found.items() if error > 4 * loop[name]} == {}
