"""The Triton backend on a GPU."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed")

from students.scan import selective_scan
from students.scan.problem import Traits
from students.scan.triton import launch, obstacle
from tests.students.scan.triton_cases import ALL, CASES, Case, differences, failures, make_scan, run

LARGE = {
    "image": Case(192, 1024, 16, 2, directions=2, rank=12, order="bidirectional", shared=True, options=ALL),
    "image in bfloat16": Case(
        192, 1024, 16, 2, directions=2, rank=12, order="bidirectional", dtype=torch.bfloat16, options=ALL
    ),
    "sequence": Case(200, 3136, 16, options=ALL),
    "many sequences": Case(96, 197, 8, batch=64, options="skip gate bias softplus"),
    "many states": Case(33, 65, 64, batch=2, options=ALL),
    "most states": Case(5, 40, 256, options=ALL),
    "parts of several blocks": Case(768, 65, 64, options=ALL),
    "rank 48": Case(768, 256, 16, directions=2, rank=48, order="bidirectional", shared=True, options=ALL),
}


def test_the_backend_runs_here() -> None:
    assert obstacle(Traits("cuda")) == ""


@pytest.mark.parametrize("group", CASES)
def test_small_scans_are_those_of_the_reference(group: str) -> None:
    assert failures(group, "cuda") == {name: {} for name in CASES[group]}


@pytest.mark.parametrize("name", LARGE)
def test_large_scans_are_those_of_the_reference(name: str) -> None:
    # Sums of thousands of terms in float32: ten times the tolerance of the small ones, which is 2e-4.
    limit = 10 if LARGE[name].dtype == torch.float32 else 1
    assert {what: x for what, x in differences(LARGE[name], "cuda").items() if not x <= limit} == {}


@pytest.mark.parametrize("name", LARGE)
def test_results_repeat_bit_by_bit(name: str) -> None:
    scan = make_scan(LARGE[name], "cuda")
    grad_out = torch.randn(scan.batch, scan.tokens, scan.channels, device="cuda")
    first, second = (run(scan, grad_out, None) for _ in range(2))
    assert [what for what in first if not torch.equal(first[what], second[what])] == []


def test_segments_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = make_scan(LARGE["sequence"], "cuda")
    grad_out = torch.randn(scan.batch, scan.tokens, scan.channels, device="cuda")

    def segments() -> list[int]:
        return [launch.Launch(scan, cut).segments for cut in (launch.FORWARD, launch.BACKWARD)]

    assert min(segments()) > 1
    cut = run(scan, grad_out, None)
    monkeypatch.setattr(launch, "FEWEST_SEGMENTS", scan.tokens)
    assert segments() == [1, 1]
    whole = run(scan, grad_out, None)
    for what in whole:
        torch.testing.assert_close(cut[what], whole[what], rtol=1e-4, atol=1e-4 * whole[what].abs().max().item())


@pytest.mark.parametrize("full", [False, True], ids=["plain", "gate, skip and bias"])
def test_compiles_into_one_graph(full: bool) -> None:
    torch.manual_seed(0)
    u, delta, z = (torch.randn(2, 48, 100, device="cuda", requires_grad=True) for _ in range(3))
    D, bias = (torch.randn(48, device="cuda", requires_grad=True) for _ in range(2))
    A = -torch.rand(48, 16, device="cuda")
    B, C = (torch.randn(2, 16, 100, device="cuda") for _ in range(2))
    leaves = (u, delta, D, z, bias) if full else (u, delta)

    def scan(u: torch.Tensor, delta: torch.Tensor, *options: torch.Tensor) -> torch.Tensor:
        out = selective_scan(u, delta, A, B, C, *(options or (None,) * 3), delta_softplus=True, backend="triton")
        assert isinstance(out, torch.Tensor)
        return out

    eager, compiled = scan(*leaves), torch.compile(scan, fullgraph=True)(*leaves)
    torch.testing.assert_close(compiled, eager)
    grad = torch.randn_like(eager)
    expected = torch.autograd.grad(eager, leaves, grad)
    for x, y in zip(torch.autograd.grad(compiled, leaves, grad), expected, strict=True):
        torch.testing.assert_close(x, y)
