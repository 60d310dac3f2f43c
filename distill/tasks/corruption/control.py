"""Controllers: how strong the corruption is at a step, a factor in [0, 1] on the fractions of noise and mask.

Pure functions, of the step alone or of the state and what was observed. The latter take and return scalar tensors, so
that nothing waits for the device that has them.
"""

import math

import torch
from torch import Tensor


def linear(step: int, start: float, end: float, steps: int) -> float:
    """From `start` at step 0 to `end` at step `steps` and after it, along a line."""
    return start + (end - start) * min(step / steps, 1.0)


def cosine(step: int, start: float, end: float, steps: int) -> float:
    """From `start` at step 0 to `end` at step `steps` and after it, along half a cosine: flat at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2


def running(mean: Tensor, value: Tensor, momentum: float) -> Tensor:
    """A running mean after one more value."""
    return torch.lerp(mean, value, 1 - momentum)


def adaptive(progress: Tensor, goal: float) -> Tensor:
    """How far the student has come from the image-independent baseline to the goal.

    Our reading of RS4D's "adaptive" (a reconstruction). It has no feedback from the corruption: as the training error
    falls, the strength rises and seldom comes back. In a run of 300 steps it was at 1 from step 69 on, so that it is a
    ramp whose length the student's first progress sets.

    Args:
        progress: Running training L1 as a fraction of the baseline's.
        goal: Its value at which the strength is 1.
    """
    return ((1.0 - progress) / (1.0 - goal)).clamp(0.0, 1.0)


def plateau(
    strength: Tensor,
    progress: Tensor,
    reference: Tensor,
    gap: tuple[float, float],
    bounds: tuple[float, float],
    steps: int,
) -> Tensor:
    """The strength after one step, raised while the student keeps up and lowered when it falls behind.

    More corruption raises the training error at once, so that the loop is closed: the strength settles where the
    corruption costs what `gap` allows. Between the two numbers of `gap` it holds, and noise of the batches does not
    make it flutter.

    Args:
        strength: The strength of this step.
        progress: Running L1 on corrupted training images, as a fraction of the baseline's on the same images.
        reference: L1 on clean validation images, as a fraction of the baseline's on them; 0 before the first
            validation, until which the strength holds.
        gap: Below the first number progress / reference raises the strength, above the second lowers it.
        bounds: Least and largest strength.
        steps: Steps from one bound to the other.
    """
    low, high = gap
    ahead = progress < low * reference
    behind = (progress > high * reference) & (reference > 0)
    change = (ahead.to(strength) - behind.to(strength)) * ((bounds[1] - bounds[0]) / steps)
    return (strength + change).clamp(*bounds)
