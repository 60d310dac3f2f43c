"""Weights that change while a run goes on."""

import math
from dataclasses import dataclass

from distill.errors import UserError, unknown_name

SHAPES = ("constant", "linear", "cosine")


@dataclass
class Schedule:
    """A weight that goes from one value to another.

    Args:
        start: The weight at step 0.
        end: The weight from step `steps` on.
        steps: Optimizer steps between the two.
        shape: "linear"; "cosine", which leaves and arrives slowly; "constant", which keeps `start` until `steps`.
    """

    start: float
    end: float
    steps: int
    shape: str = "linear"

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A negative weight, no steps, or an unknown shape.
        """
        if self.start < 0 or self.end < 0:
            raise UserError(f"a schedule goes from {self.start} to {self.end}; a weight cannot be negative")
        if self.steps < 1:
            raise UserError(f"steps of a schedule is {self.steps}; it must be at least 1")
        if self.shape not in SHAPES:
            raise unknown_name("shape of a schedule", self.shape, SHAPES)


Weight = float | Schedule


def require_weight(key: str, weight: Weight) -> None:
    """Checks a weight that is a number; a schedule has checked itself.

    Raises:
        UserError: It is negative.
    """
    if not isinstance(weight, Schedule) and weight < 0:
        raise UserError(f"{key} is {weight}; a weight cannot be negative")


def weight_at(weight: Weight, step: int) -> float:
    """The value of a weight at an optimizer step, counted from 0."""
    if not isinstance(weight, Schedule):
        return weight
    done = min(step / weight.steps, 1.0)
    if weight.shape == "constant":
        done = math.floor(done)
    elif weight.shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return weight.start + (weight.end - weight.start) * done
