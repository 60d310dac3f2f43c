"""The side of training views by optimizer step, where it grows during a run."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from distill.errors import UserError


@dataclass(frozen=True)
class SizeStage:
    """A first part of a run, in which training views are smaller.

    Args:
        size: Side S of the views in pixels.
        until: Optimizer steps of the run, from its start, after which the next side is shown; counted as
            `trainer.max_steps`, so gradient accumulation changes nothing, and the batches of a step have one side.
    """

    size: int
    until: int


class SizeSchedule:
    """Sides of the views by optimizer step: those of `stages`, then `last`. A function of the step, without a state.

    Args:
        stages: In order.
        last: Side in pixels after the last of them.

    Raises:
        UserError: There is no stage, a side is below 1, or the steps do not grow.
    """

    def __init__(self, stages: Sequence[SizeStage], last: int) -> None:
        if not stages:
            raise UserError("data.sizes is empty; list stages such as {size: 256, until: 1000}, or set it to null")
        if wrong := [stage.size for stage in stages if stage.size < 1]:
            raise UserError(f"data.sizes has the size {wrong[0]}; a side is 1 pixel or more")
        ends = [stage.until for stage in stages]
        if ends[0] < 1 or sorted(set(ends)) != ends:
            raise UserError(
                f"data.sizes has until {', '.join(map(str, ends))}; these are steps of the run: from 1 on, each above "
                "the one before"
            )
        self._ends = ends
        self._sizes = [*(stage.size for stage in stages), last]

    def at(self, step: int) -> int:
        """The side in pixels at an optimizer step, counted from 0."""
        return self._sizes[bisect_right(self._ends, step)]

    def parts(self, first: int, end: int) -> list[tuple[int, int]]:
        """The steps from `first` to before `end`, as (side in pixels, number of steps) in order."""
        marks = [first, *(mark for mark in self._ends if first < mark < end), end]
        return [(self.at(low), high - low) for low, high in pairwise(marks) if low < high]

    def sentence(self, steps: int) -> str:
        """The stages of a run of so many steps: "256 px for 1,000 steps, then 512 px for 200 steps"."""
        return ", then ".join(
            f"{size} px for {count:,} step{'s' * (count != 1)}" for size, count in self.parts(0, steps)
        )

    def unreached(self, steps: int) -> list[int]:
        """The sides that a run of so many steps never shows."""
        return [size for size, start in zip(self._sizes[1:], self._ends, strict=True) if start >= steps]
