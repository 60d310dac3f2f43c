"""The chunked backend: every way to cut a problem, and its plans."""

import pytest
import torch

from students.scan import chunked
from tests.students.scan.problems import Problem, assert_close, build, expected, run

PROBLEMS = [
    Problem(batch=3, length=1, groups=2),
    Problem(batch=3, length=33, groups=2, initial_state=True),
    Problem(batch=3, length=197, initial_state=True),
    Problem(batch=3, length=197, complex=True, initial_state=True, groups=2),
    Problem(batch=3, length=65, constant_B=True, constant_C=True, initial_state=True),
    Problem(batch=3, order="atrous", grid=(9, 9), rank=2, initial_state=True),
]


@pytest.mark.parametrize(("step", "block"), [(8, 64), (64, 256), (256, 1024), (2**14, 2**10)])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_every_way_to_cut_is_the_same(monkeypatch: pytest.MonkeyPatch, step: int, block: int, problem: Problem) -> None:
    monkeypatch.setitem(chunked._STEP_ELEMENTS, "cpu", step)
    monkeypatch.setitem(chunked._BLOCK_ELEMENTS, "cpu", block)
    assert_close(run(build(problem), "chunked"), expected(problem), 1e-9)


def test_plans_cover_one_and_many_lanes_slabs_and_blocks() -> None:
    """The sizes above are only worth something if they reach every branch."""
    few = chunked.plan_blocks(2, 512, 16, 3, "cpu")
    long = chunked.plan_blocks(2, 512, 16, 4096, "cpu")
    many = chunked.plan_blocks(2, 16, 4, 4096, "cpu")
    assert few.lanes == 1
    assert long.lanes >= 8, "Python must not run once per token"
    assert long.blocks > 1
    assert many.lanes > 1
    assert many.rows == 2
    assert chunked.plan_blocks(64, 4096, 16, 64, "cpu").channels < 4096
    for plan in (long, many):
        assert plan.tokens * (plan.blocks - 1) < 4096 <= plan.tokens * plan.blocks


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 4096, 65_537])
@pytest.mark.parametrize(("channels", "states"), [(1, 1), (17, 3), (512, 16), (4096, 64)])
def test_starts_hold_every_block_of_the_plan(length: int, channels: int, states: int) -> None:
    u = torch.empty(2, 1, length, channels, device="meta")
    A = torch.empty(1, channels, states, device="meta")
    weights = torch.empty(2, 1, 1, length, states, device="meta")
    scan = chunked.Scan(u, u, None, A, weights, weights, None, None, None, None, None, True, 1.0)
    plan = chunked.plan_blocks(2, channels, states, length, "meta")
    blocks = chunked.starts_shape(scan)[0]
    assert plan.blocks <= blocks <= length


def test_nothing_is_kept_outside_training() -> None:
    result = chunked.forward(build(Problem()), training=False)
    assert result.starts.numel() == result.ungated.numel() == 0
