"""`distill::selective_scan` as a PyTorch operator: fake kernels, autograd, autocast, compile, export, DDP, FLOPs."""

from dataclasses import astuple, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode

from students.scan import selective_scan, selective_scan_2d
from students.scan.operator import scan_forward
from students.scan.problem import Scan
from tests.students.scan.problems import DIFFERENTIABLE, Problem, able, build, cast, run


def arguments(scan: Scan, grad: bool = True) -> list[Any]:
    values = {field.name: getattr(scan, field.name) for field in fields(scan)}
    return [
        x.clone().requires_grad_(grad) if name in DIFFERENTIABLE and x is not None else x for name, x in values.items()
    ]


PROBLEMS = [
    Problem(length=13, groups=2, initial_state=True),
    Problem(length=13, skip=False, gate=False, bias=False, softplus=False),
    Problem(order="atrous", grid=(3, 5), rank=2),
    Problem(length=13, complex=True, constant_B=True),
]
CASES = [
    pytest.param(problem, backend, id=f"{problem}-{backend}")
    for problem in PROBLEMS
    for backend in able(problem, torch.float32)
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("problem", "backend"), CASES)
def test_opcheck(problem: Problem, backend: str, training: bool) -> None:
    inputs = arguments(cast(build(problem), torch.float32), training)
    torch.library.opcheck(torch.ops.distill.selective_scan.default, (*inputs, training, backend))


@pytest.mark.parametrize(
    "problem",
    [
        Problem(channels=4, length=5, groups=2, initial_state=True),
        Problem(channels=2, length=5, complex=True, initial_state=True),
        Problem(channels=2, length=5, complex=True, constant_B=True, constant_C=True, softplus=False),
        Problem(channels=2, order="cross", grid=(2, 3), rank=2, shared=False, mean=True),
        Problem(channels=2, order="atrous", grid=(3, 2), rank=2),
    ],
    ids=str,
)
def test_gradcheck(problem: Problem) -> None:
    scan = build(problem)
    rest = (scan.order, scan.delta_softplus, scan.scale, True, "chunked")
    leaves = arguments(scan)[: len(DIFFERENTIABLE)]
    assert torch.autograd.gradcheck(lambda *x: scan_forward(*x, *rest)[:2], leaves)


def test_one_output_alone_can_be_differentiated() -> None:
    """A gradient that autograd does not hand over is zero."""
    for index in (0, 1):
        inputs = arguments(cast(build(Problem(initial_state=True)), torch.float32))
        reference = arguments(build(Problem(initial_state=True)))
        found = torch.autograd.grad(scan_forward(*inputs, True, "chunked")[index].sum(), inputs[0])
        exact = torch.autograd.grad(run_reference(reference)[index].sum(), reference[0])
        torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-4, atol=1e-4)


def run_reference(values: list[Any]) -> tuple[Tensor, Tensor]:
    from students.scan.reference import scan_reference

    return scan_reference(Scan(*values))


def test_outside_training_it_cannot_be_differentiated() -> None:
    out = scan_forward(*arguments(cast(build(Problem()), torch.float32)), False, "chunked")[0]
    with pytest.raises(RuntimeError, match="training=False"):
        out.sum().backward()


def test_autocast_does_not_reach_the_scan() -> None:
    problem = Problem(order="cross", grid=(3, 4), rank=2)
    for backend in able(problem, torch.float32):
        scan = cast(build(problem), torch.float32)
        plain = run(scan, backend)
        with torch.autocast("cpu", torch.bfloat16):
            under_autocast = run(scan, backend)
        assert all(torch.equal(x, under_autocast[name]) for name, x in plain.items())


def sequence(length: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(length)
    u, delta = (torch.randn(2, 6, length, generator=random) for _ in range(2))
    B, C = (torch.randn(2, 2, 3, length, generator=random) for _ in range(2))
    return [u.requires_grad_(), delta, -torch.rand(6, 3, generator=random), B, C]


def scan_sequence(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    u, delta, A, B, C = tensors
    return selective_scan(u * 2, delta, A, B, C, z=u, delta_softplus=True, return_last_state=True)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_once_for_all_lengths(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which vector instructions there are is found by compiling for each; the scan is no code of Inductor's.
    monkeypatch.setattr("torch._inductor.config.cpp.simdlen", 0)
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(scan_sequence, backend=counter, fullgraph=True)
    for length in (33, 65, 200):
        inputs = sequence(length)
        for index in (0, 1, 3, 4):
            torch._dynamo.mark_dynamic(inputs[index], inputs[index].dim() - 1)
        found = compiled(*inputs)
        exact = scan_sequence(*inputs)
        gradients = [torch.autograd.grad(out.sum() + last.sum(), inputs[0])[0] for out, last in (found, exact)]
        for one, other in zip((*found, gradients[0]), (*exact, gradients[1]), strict=True):
            torch.testing.assert_close(one, other)
    assert counter.frame_count == 1


def image(height: int, width: int, directions: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(height)
    shape = (2, height, width)
    return {
        "u": torch.randn(*shape, 6, generator=random).requires_grad_(),
        "delta": torch.randn(*shape, directions, 2, generator=random),
        "A": -torch.rand(6, 3, generator=random),
        "B": torch.randn(*shape, directions, 3, generator=random),
        "C": torch.randn(*shape, directions, 3, generator=random),
        "delta_weight": torch.randn(directions, 6, 2, generator=random),
    }


@pytest.mark.parametrize(
    ("order", "directions"), [("bidirectional", 2), ("snake", 4), ("window:3", 2), ("atrous", 4), ("table", 1)]
)
def test_images_compile_once_for_all_sizes(order: str, directions: int) -> None:
    def scan_image(table: Tensor, **tensors: Tensor) -> Tensor:
        return selective_scan_2d(**tensors, delta_softplus=True, order=table if order == "table" else order)

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(scan_image, backend=counter, fullgraph=True, dynamic=True)
    # Sizes equal to no other, which would share its symbol, and more than one chunk of the kernels: one is special.
    for height, width in ((9, 10), (12, 8), (11, 14)):
        inputs = image(height, width, directions) | {"table": torch.randperm(height * width).unsqueeze(0)}
        found, exact = compiled(**inputs), scan_image(**inputs)
        torch.testing.assert_close(found, exact)
        gradients = [torch.autograd.grad(out.square().sum(), inputs["u"])[0] for out in (found, exact)]
        torch.testing.assert_close(*gradients)
    assert counter.frame_count == 1


class Scanner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.rand(6, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, u: Tensor, B: Tensor) -> Tensor:
        return selective_scan(u, u, -self.A_log.exp(), B, B, delta_softplus=True)


def test_exports_with_dynamic_length() -> None:
    length = torch.export.Dim("length", min=2, max=4096)
    with torch.no_grad():
        example = (torch.randn(2, 6, 33), torch.randn(2, 3, 33))
        program = torch.export.export(Scanner(), example, dynamic_shapes=({2: length}, {2: length}))
        again = (torch.randn(2, 6, 70), torch.randn(2, 3, 70))
        torch.testing.assert_close(program.module()(*again), Scanner()(*again))
    assert "distill.selective_scan.default" in str(program.graph)


def batches() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(4, 6, 20, generator=random), torch.randn(4, 3, 20, generator=random)


def train_in_parallel(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"init_method": f"file://{folder}/store", "timeout": timedelta(seconds=90)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, **settings)
    model = nn.parallel.DistributedDataParallel(Scanner())
    u, B = (x[2 * rank : 2 * rank + 2] for x in batches())
    model(u, B).square().mean().backward()
    torch.save(model.module.A_log.grad, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(tmp_path: Path) -> None:
    """Processes that begin anew: a fork of this one waits for threads that earlier tests have started."""
    torch.multiprocessing.start_processes(train_in_parallel, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    alone = Scanner()
    alone(*batches()).square().mean().backward()
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone.A_log.grad)


def test_flops_are_counted_per_state_update() -> None:
    inputs = sequence(33)
    updates = 2 * 6 * 3 * 33
    with FlopCounterMode(display=False) as counter:
        out = selective_scan(*inputs, delta_softplus=True)
        assert counter.get_total_flops() == 2 * 3 * updates
        out.sum().backward()
    assert counter.get_total_flops() == 2 * (3 + 10) * updates


def test_flops_of_images_include_the_low_rank_product() -> None:
    inputs = image(4, 5, 4)
    with FlopCounterMode(display=False) as counter:
        selective_scan_2d(**inputs, order="cross")
    assert counter.get_total_flops() == 2 * 2 * 20 * 4 * 6 * (3 * 3 + 2)


def test_scan_is_a_plain_tuple_of_the_operator() -> None:
    """The operator takes the fields of `Scan` in their order."""
    names = [argument.name for argument in torch.ops.distill.selective_scan.default._schema.arguments]
    assert names == [*(field.name for field in fields(Scan)), "training", "backend"]
    assert len(astuple(build(Problem()))) == len(names) - 2
