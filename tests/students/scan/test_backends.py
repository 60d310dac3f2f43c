"""Every backend of the CPU against the float64 reference: outputs, last states and all gradients."""

from dataclasses import replace

import pytest
import torch

from students.scan.backends import BACKENDS
from students.scan.interface import run_scan
from students.scan.problem import Scan
from tests.students.scan.problems import Problem, able, assert_close, build, cast, expected, run

CHANNELS = (1, 15, 16, 17, 192, 200)
LENGTHS = (1, 2, 31, 32, 33, 65, 197, 1023, 3136)
STATES = (1, 3, 8, 16, 64)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}


def grid() -> list[Problem]:
    """Every pair of two sizes, with options that change from one to the next."""
    problems = []
    for i, channels in enumerate(CHANNELS):
        for j, length in enumerate(LENGTHS):
            problems.append(
                Problem(
                    channels=channels,
                    length=length,
                    states=STATES[(i + j) % len(STATES)],
                    batch=1 if channels * length > 2**14 else 2,
                    groups={15: 3, 16: 2, 192: 4, 200: 2}.get(channels, 1) if j % 2 else 1,
                    skip=(i + j) % 3 > 0,
                    gate=(i + j) % 2 > 0,
                    bias=(i + j) % 4 > 0,
                    initial_state=(i + 2 * j) % 3 == 0,
                )
            )
    return problems


def cases(problems: list[Problem], *dtypes: torch.dtype) -> list[object]:
    return [
        pytest.param(problem, dtype, backend, id=f"{problem}-{str(dtype).removeprefix('torch.')}-{backend}")
        for problem in problems
        for dtype in dtypes
        for backend in able(problem, dtype)
    ]


def check(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    tolerance = TOLERANCE[dtype]
    if dtype == torch.float32:  # a state that hardly decays adds up the errors of all exponentials, two ulps each
        tolerance += 2**-22 * problem.length
    assert_close(run(cast(build(problem), dtype), backend), expected(problem), tolerance)


def test_the_grid_covers_every_pair_of_sizes() -> None:
    problems = grid()
    assert {(p.channels, p.length) for p in problems} == {(d, t) for d in CHANNELS for t in LENGTHS}
    assert {(p.channels, p.states) for p in problems} == {(d, n) for d in CHANNELS for n in STATES}
    assert {(p.length, p.states) for p in problems} == {(t, n) for t in LENGTHS for n in STATES}


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(grid(), torch.float32))
def test_sizes(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check(problem, dtype, backend)


OPTIONS = [
    Problem(),
    Problem(skip=False),
    Problem(gate=False),
    Problem(bias=False),
    Problem(softplus=False),
    Problem(softplus=False, bias=False, skip=False, gate=False),
    Problem(initial_state=True),
    Problem(groups=2, initial_state=True),
    Problem(groups=6),
    Problem(rank=2),
    Problem(rank=2, bias=False, softplus=False),
    Problem(batch=0),
    Problem(batch=0, initial_state=True, groups=3),
]
STATE_OPTIONS = [
    Problem(complex=complex, constant_B=constant_B, constant_C=constant_C, groups=groups, initial_state=initial_state)
    for complex in (False, True)
    for constant_B, constant_C, groups, initial_state in (
        (False, False, 2, True),
        (True, False, 2, False),
        (False, True, 3, True),
        (True, True, 1, True),
    )
]


@pytest.mark.parametrize(
    ("problem", "dtype", "backend"), cases([*OPTIONS, *STATE_OPTIONS], torch.float32, torch.float64)
)
def test_options(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check(problem, dtype, backend)


IMAGES = [
    Problem(channels=17, order="bidirectional", grid=(5, 7), gate=True, mean=True),
    Problem(channels=17, order="bidirectional", grid=(33, 3), rank=3, states=16),
    Problem(channels=16, order="cross", grid=(5, 7), rank=3, shared=False),
    Problem(channels=5, order="cross", grid=(1, 1), bias=False, softplus=False),
    Problem(channels=6, order="snake", grid=(4, 9), groups=2, skip=False, initial_state=True),
    Problem(channels=6, order="window:3", grid=(5, 7), shared=False, gate=False, mean=True),
    Problem(channels=6, order="atrous", grid=(5, 7), rank=2, initial_state=True),
    Problem(channels=6, order="atrous", grid=(5, 7), softplus=False, shared=False),
    Problem(channels=6, order="atrous:3", grid=(2, 5), gate=False),
    Problem(channels=6, order="cross", grid=(2, 3), rank=2, batch=0),
    Problem(channels=6, order="cross", grid=(3, 4), complex=True, groups=2),
    Problem(channels=6, order="atrous", grid=(3, 5), complex=True, constant_B=True, softplus=False),
    Problem(channels=6, order="snake", grid=(3, 5), constant_C=True, rank=2),
]


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(IMAGES, torch.float32, torch.float64))
def test_images(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check(problem, dtype, backend)


LOW = [
    Problem(channels=17, length=65, dtype=torch.bfloat16),
    Problem(channels=17, order="cross", grid=(4, 5), rank=2, dtype=torch.bfloat16),
]


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(LOW, torch.bfloat16, torch.float16))
def test_low_precision_in_and_out_with_float32_inside(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    scan = cast(build(problem), dtype)
    found = run(scan, backend)
    assert_close(found, expected(problem), TOLERANCE[dtype])
    assert found["out"].dtype == found["gradient of B"].dtype == dtype
    assert found["last_state"].dtype == found["gradient of A"].dtype == torch.float32
    # The states never see the narrow dtype.
    assert_close({"last": found["last_state"]}, {"last": expected(problem)["last_state"]}, TOLERANCE[torch.float32])


EXTREME = [
    Problem(channels=17, length=197, decay="stiff", states=16, softplus=False, bias=False),
    Problem(channels=16, length=65, decay="zero"),
    Problem(channels=16, length=65, decay="growing"),
]


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(EXTREME, torch.float32, torch.float64))
def test_extreme_decay(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check(problem, dtype, backend)


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases([Problem(channels=17, length=65)], torch.float32))
def test_growth_overflows_as_in_the_reference(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    scan = cast(build(problem), dtype)
    scan = replace(scan, A=torch.full_like(scan.A, 30.0), delta=torch.ones_like(scan.delta))
    found, _ = run_scan(scan, backend)
    exact, _ = run_scan(scan, "reference")
    assert torch.equal(found.isfinite(), exact.isfinite())
    assert not found[:, -1].isfinite().any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["u", "delta", "B", "C"])
@pytest.mark.parametrize(
    ("problem", "dtype", "backend"), cases([Problem(channels=17, length=65, gate=False)], torch.float32)
)
def test_nan_and_inf_spread_as_in_the_reference(
    problem: Problem, dtype: torch.dtype, backend: str, name: str, value: float
) -> None:
    scan = cast(build(problem), dtype)
    broken = getattr(scan, name).clone()
    broken[0, ..., 40, 1] = value  # one channel, or one state, of a token in the middle
    scan = replace(scan, **{name: broken})
    found, last = run_scan(scan, backend)
    exact, exact_last = run_scan(scan, "reference")
    assert torch.equal(found.isfinite(), exact.isfinite())
    assert torch.equal(last.isfinite(), exact_last.isfinite())
    assert not exact.isfinite().all()


@pytest.mark.parametrize(
    ("problem", "dtype", "backend"),
    cases([Problem(channels=17, order="atrous", grid=(5, 5), rank=2, groups=1)], torch.float32),
)
def test_steps_beyond_a_row_read_nothing(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    """They are -1 in the table; token 0 and the last one belong to the first direction alone."""
    scan = cast(build(problem), dtype)
    changed = {}
    for name, axis in (("u", 2), ("delta", 2), ("B", 3), ("C", 3)):
        x = getattr(scan, name).clone()
        x.select(axis, 0).fill_(float("nan"))
        x.select(axis, -1).fill_(float("nan"))
        changed[name] = x
    found = run(replace(scan, **changed), backend)
    assert found["last_state"][:, 1:].isfinite().all()
    assert found["gradient of A"][1:].isfinite().all()
    assert found["gradient of B"][:, 1:].isfinite().all()
    assert found["gradient of delta"][:, 1:].isfinite().all()
    exact, _ = run_scan(replace(scan, **changed), "reference")
    assert torch.equal(found["out"].isfinite(), exact.isfinite())


def strided(scan: Scan) -> Scan:
    """The same values in memory of another order, some of it with gaps."""
    changed = {
        name: getattr(scan, name).transpose(0, -1).contiguous().transpose(0, -1) for name in ("u", "A", "C", "z")
    }
    changed |= {name: torch.stack([getattr(scan, name)] * 2, dim=-1)[..., 0] for name in ("delta", "B", "delta_bias")}
    return replace(scan, **changed)


@pytest.mark.parametrize(
    ("problem", "dtype", "backend"),
    cases([Problem(), Problem(order="cross", grid=(3, 5), groups=2, shared=False)], torch.float32),
)
def test_any_strides(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    scan = strided(cast(build(problem), dtype))
    assert not scan.u.is_contiguous()
    found = run(scan, backend)
    assert_close(found, expected(problem), TOLERANCE[dtype])
    assert all(x.is_contiguous() for name, x in found.items() if name != "out")


DETERMINISTIC = [
    Problem(channels=200, length=513, states=16, batch=1, groups=2),
    Problem(channels=192, order="cross", grid=(17, 16), states=8, rank=4),
]


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(DETERMINISTIC, torch.float32))
def test_thread_counts_give_the_same_bits(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    scan, before, results = cast(build(problem), dtype), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            results.append(run(scan, backend))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, x in results[0].items():
            assert torch.equal(x, other[name]), name


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases([Problem(), *IMAGES[2:5]], torch.float32))
def test_training_changes_no_output(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    scan = cast(build(problem), dtype)
    with torch.no_grad():
        out, last = run_scan(scan, backend)
    trained = run(scan, backend)
    assert torch.equal(out, trained["out"])
    assert torch.equal(last, trained["last_state"])


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
def test_obstacles_are_sentences(backend: str) -> None:
    for device in ("cpu", "cuda", "meta"):
        obstacle = BACKENDS[backend].obstacle(replace(build(Problem()).traits, device=device))
        assert "\n" not in obstacle
