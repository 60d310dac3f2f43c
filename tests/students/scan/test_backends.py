"""Every backend of the CPU against the float64 reference: outputs, last states and all gradients."""

from dataclasses import replace

import pytest
import torch

from students.scan.backends import BACKENDS
from students.scan.interface import run_scan
from students.scan.problem import Scan, Traits
from tests.students.scan.problems import (
    CHANNELS,
    DIFFERENTIABLE,
    IMAGES,
    LENGTHS,
    OPTIONS,
    STATE_OPTIONS,
    STATES,
    TOLERANCE,
    Problem,
    assert_close,
    build,
    cases,
    cast,
    check,
    expected,
    grid,
    run,
)


def test_the_grid_covers_every_pair_of_sizes() -> None:
    problems = grid()
    assert {(p.channels, p.length) for p in problems} == {(d, t) for d in CHANNELS for t in LENGTHS}
    assert {(p.channels, p.states) for p in problems} == {(d, n) for d in CHANNELS for n in STATES}
    assert {(p.length, p.states) for p in problems} == {(t, n) for t in LENGTHS for n in STATES}


@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(grid(), torch.float32))
def test_sizes(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check(problem, dtype, backend)


@pytest.mark.parametrize(
    ("problem", "dtype", "backend"), cases([*OPTIONS, *STATE_OPTIONS], torch.float32, torch.float64)
)
def test_options(problem: Problem, dtype: torch.dtype, backend: str) -> None:
    check(problem, dtype, backend)


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


NOT_FINITE = [
    Problem(channels=17, length=65, initial_state=True),
    Problem(channels=16, order="bidirectional", grid=(5, 7), rank=2),
    Problem(channels=17, length=65, constant_B=True, constant_C=True),
]
CENTRE = {"u": (0, ..., 30, 1), "delta": (0, ..., 30, 1), "z": (0, 30, 1), "delta_weight": (0, 1, 1), "A": (0, 1, 1)}
CENTRE |= {"B": (0, ..., 30, 1), "C": (0, ..., 30, 1), "D": (0, 1), "delta_bias": (0, 1), "initial_state": (0, 0, 1, 1)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("problem", "dtype", "backend"), cases(NOT_FINITE, torch.float32))
def test_nan_and_inf_spread_as_in_the_reference(
    problem: Problem, dtype: torch.dtype, backend: str, value: float
) -> None:
    """From one entry of each tensor, of a token in the middle where it has tokens, to results and gradients."""
    scan = cast(build(problem), dtype)
    for name in DIFFERENTIABLE:
        if getattr(scan, name) is None:
            continue
        broken = getattr(scan, name).clone()
        broken[(0, 1, 1) if name in ("B", "C") and broken.dim() == 3 else CENTRE[name]] = value
        spoiled = replace(scan, **{name: broken})
        found, exact = run(spoiled, backend), run(spoiled, "reference")
        # A decay of inf makes NaN of the zero that the lanes of "chunked" start from.
        kinds = ("isfinite",) if name == "A" and value == float("inf") else ("isnan", "isposinf", "isneginf")
        for what, x in exact.items():
            for kind in kinds:
                same = torch.equal(getattr(found[what], kind)(), getattr(x, kind)())
                assert same, f"{kind} of {what} at {name}"


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


@pytest.mark.parametrize(
    ("problem", "dtype", "backend"),
    [case for case in cases(DETERMINISTIC, torch.float32) if case.values[2] != "chunked"],
)
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


HOMES = {name: "cpu" if name.startswith("cpu-") else "cuda" for name in BACKENDS if name != "chunked"}


@pytest.mark.parametrize("backend", HOMES)
def test_obstacles_say_what_is_in_the_way(backend: str) -> None:
    obstacle, home = BACKENDS[backend].obstacle, HOMES[backend]
    for device in {"cpu", "cuda", "meta"} - {home}:
        assert f"not on {device}" in obstacle(Traits(device))
    for kind in ("double", "complex", "constant"):
        reason = obstacle(Traits(home, **{kind: True}))
        assert reason not in ("", obstacle(Traits(home)))
        assert "\n" not in reason


def test_the_fallback_runs_everything() -> None:
    for device in ("cpu", "cuda", "meta"):
        assert BACKENDS["chunked"].obstacle(Traits(device, True, True, True, True)) == ""
