"""Loss weights that change during a run."""

import math
from dataclasses import dataclass

from distill.errors import UserError, unknown_name

SHAPES = ("constant", "linear", "cosine")


@dataclass
class Schedule:
    """A weight that changes from one value to another.

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


Weight = float | Schedule


def require_weight(key: str, weight: Weight) -> None:
    """Checks a weight.

    Args:
        key: The recipe's key of it.
        weight: A number or a schedule.

    Raises:
        UserError: It is negative, or a schedule has no steps or an unknown shape.
    """
    if not isinstance(weight, Schedule):
        if weight < 0:
            raise UserError(f"{key} is {weight}; a weight cannot be negative")
        return
    if weight.start < 0 or weight.end < 0:
        raise UserError(f"{key} goes from {weight.start} to {weight.end}; a weight cannot be negative")
    if weight.steps < 1:
        raise UserError(f"{key}.steps is {weight.steps}; it must be at least 1")
    if weight.shape not in SHAPES:
        raise unknown_name(f"{key}.shape", weight.shape, SHAPES)


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
