"""Feature-distillation losses, combined by name in the recipe.

Axes: B batch, C channels, H W the teacher's grid.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from distill.errors import UserError, unknown_name


def l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over channels: (B, C, H, W) twice -> (B, H, W). RS4D's loss (by its run names)."""
    return (estimate - target).abs().mean(dim=1)


def l2(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (estimate - target).square().mean(dim=1)


def cosine(estimate: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine between channel vectors: (B, C, H, W) twice -> (B, H, W)."""
    return 1 - F.cosine_similarity(estimate, target, dim=1)


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2, "cosine": cosine}


@dataclass
class LossSettings:
    """Which terms, and how they are weighted.

    Args:
        terms: Weight of each term by name.
        corrupted_weight: Weight of positions whose token was corrupted, against 1 for the others.
        standardize: Compare z-scored targets, by the teacher's per-channel mean and standard deviation. Breaks the
            plateau of targets whose constant part dominates. The exported student emits the teacher's scale where its
            last norm can take it; see `distill.tasks.matching.last_map`.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"l1": 1.0})
    corrupted_weight: float = 1.0
    standardize: bool = False

    def __post_init__(self) -> None:
        """Checks the names.

        Raises:
            UserError: An unknown term, no term, or a negative weight.
        """
        for name, weight in self.terms.items():
            if name not in TERMS:
                raise unknown_name("loss term in model.loss.terms", name, TERMS)
            if weight < 0:
                raise UserError(f"model.loss.terms.{name} is {weight}; a weight cannot be negative")
        if not any(self.terms.values()):
            raise UserError("model.loss.terms is empty; name at least one of " + ", ".join(TERMS))
        if self.corrupted_weight < 0:
            raise UserError(f"model.loss.corrupted_weight is {self.corrupted_weight}; a weight cannot be negative")


def position_losses(settings: LossSettings, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Evaluates the terms at every position, in fp32.

    Args:
        settings: Names of the terms.
        estimate: The student's aligned map (B, C, H, W).
        target: The teacher's map (B, C, H, W).

    Returns:
        (B, H, W) of each term by name, and of "l1" in any case: the corruption's control follows it.
    """
    estimate, target = estimate.float(), target.float()
    return {name: TERMS[name](estimate, target) for name in {**settings.terms, "l1": None}}


def combine(settings: LossSettings, maps: dict[str, Tensor], corrupted: Tensor | None) -> dict[str, Tensor]:
    """Averages the terms over positions, and sums them.

    Args:
        settings: Names and weights.
        maps: From `position_losses`.
        corrupted: Fraction of each position that was corrupted (B, H, W), or None.

    Returns:
        Scalars: every term by name, unweighted by `terms`, and their weighted sum as "loss".
    """
    weight = None
    if corrupted is not None and settings.corrupted_weight != 1:
        weight = 1 + corrupted * (settings.corrupted_weight - 1)
    values = {
        name: maps[name].mean() if weight is None else (maps[name] * weight).sum() / weight.sum()
        for name in settings.terms
    }
    zero = maps["l1"].new_zeros(())
    values["loss"] = sum((settings.terms[name] * values[name] for name in settings.terms), start=zero)
    return values
