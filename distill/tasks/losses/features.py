"""Feature-distillation losses, combined by name in the recipe.

Axes: B batch, C channels, H W the teacher's grid.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import UserError, unknown_name
from distill.layers import without_autocast
from distill.tasks.losses.distributions import channel_wise
from distill.tasks.losses.masked import MaskedGenerator
from distill.tasks.losses.relations import cka, gram
from distill.tasks.losses.schedule import Weight, require_weight, weight_at

STANDARDIZATIONS = ("none", "channel", "phi_s")


def l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over channels: (B, C, H, W) twice -> (B, H, W). RS4D's loss (by its run names)."""
    return (estimate - target).abs().mean(dim=1)


def l2(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (estimate - target).square().mean(dim=1)


def smooth_l1(estimate: Tensor, target: Tensor, beta: float) -> Tensor:
    """Mean over channels of x² / 2β below β and |x| - β / 2 above: (B, C, H, W) twice -> (B, H, W).

    Source: Girshick, "Fast R-CNN", ICCV 2015 (https://arxiv.org/abs/1504.08083), equation 3, which has β = 1.
    """
    return F.smooth_l1_loss(estimate, target, reduction="none", beta=beta).mean(dim=1)


def cosine(estimate: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine between channel vectors: (B, C, H, W) twice -> (B, H, W)."""
    return 1 - F.cosine_similarity(estimate, target, dim=1)


@dataclass
class LossSettings:
    """The loss terms and their weights.

    Args:
        terms: Weight of each term by name: l1, l2, smooth_l1, cosine, centred_cosine, gram, cka, cwd, mgd. A weight is
            a number, or a schedule {start, end, steps, shape}.
        corrupted_weight: Weight of positions whose token was corrupted, against 1 for the others. For terms on
            positions: l1, l2, smooth_l1, cosine, centred_cosine, mgd.
        standardize: What is compared: "none", the teacher's maps; "channel" (or true), z-scores by its mean and
            standard deviation of each channel; "phi_s", maps rotated so that all channels have one variance. Breaks the
            plateau of targets whose constant part dominates. The exported student emits the teacher's scale where its
            last norm can take it; see `distill.tasks.matching.last_map`.
        smooth_l1_beta: Difference from which on smooth_l1 is linear.
        relation_tokens: Positions of an image that gram and cka compare at most.
        cwd_temperature: Temperature of cwd.
        mgd_masked: Share of the positions that mgd masks.
    """

    terms: dict[str, Weight] = field(default_factory=lambda: {"l1": 1.0, "cosine": 1.0})
    corrupted_weight: float = 1.0
    standardize: bool | str = "channel"
    smooth_l1_beta: float = 1.0
    relation_tokens: int = 512
    cwd_temperature: float = 4.0
    mgd_masked: float = 0.65

    def __post_init__(self) -> None:
        """Checks names and ranges; true and false are earlier names of "channel" and "none".

        Raises:
            UserError: An unknown name, no term, or a number out of its range.
        """
        for name, weight in self.terms.items():
            if name not in TERMS:
                raise unknown_name("loss term in model.loss.terms", name, TERMS)
            require_weight(f"model.loss.terms.{name}", weight)
        if not any(self.terms.values()):
            raise UserError("model.loss.terms is empty; name at least one of " + ", ".join(TERMS))
        if self.corrupted_weight < 0:
            raise UserError(f"model.loss.corrupted_weight is {self.corrupted_weight}; a weight cannot be negative")
        if isinstance(self.standardize, bool):
            self.standardize = "channel" if self.standardize else "none"
        if self.standardize not in STANDARDIZATIONS:
            raise unknown_name("model.loss.standardize", self.standardize, STANDARDIZATIONS)
        if self.smooth_l1_beta <= 0 or self.cwd_temperature <= 0 or self.relation_tokens < 2:
            raise UserError(
                f"model.loss has smooth_l1_beta {self.smooth_l1_beta}, cwd_temperature {self.cwd_temperature} and "
                f"relation_tokens {self.relation_tokens}; the first two must be above 0, the last at least 2"
            )
        if not 0 <= self.mgd_masked < 1:
            raise UserError(f"model.loss.mgd_masked is {self.mgd_masked}; it must lie in [0, 1)")

    def generators(self, channels: int) -> nn.ModuleDict:
        """Networks that some terms train beside the student, for maps of so many channels."""
        return nn.ModuleDict({"mgd": MaskedGenerator(channels, self.mgd_masked)} if "mgd" in self.terms else {})


@dataclass(frozen=True)
class Compared:
    """The two maps that a term compares.

    Attributes:
        estimate: The student's aligned map (B, C, H, W), float32.
        target: The teacher's (B, C, H, W), float32.
        mean: The target's mean by channel (C,).
        generators: Those of the settings.
    """

    estimate: Tensor
    target: Tensor
    mean: Tensor
    generators: nn.ModuleDict

    def centred(self) -> tuple[Tensor, Tensor]:
        """Both maps minus the target's mean."""
        mean = self.mean[:, None, None]
        return self.estimate - mean, self.target - mean


# Of positions (B, H, W), or of whole maps: a scalar.
TERMS: dict[str, Callable[[Compared, LossSettings], Tensor]] = {
    "l1": lambda maps, _: l1(maps.estimate, maps.target),
    "l2": lambda maps, _: l2(maps.estimate, maps.target),
    "smooth_l1": lambda maps, own: smooth_l1(maps.estimate, maps.target, own.smooth_l1_beta),
    "cosine": lambda maps, _: cosine(maps.estimate, maps.target),
    "centred_cosine": lambda maps, _: cosine(*maps.centred()),
    "gram": lambda maps, own: gram(maps.estimate, maps.target, own.relation_tokens),
    "cka": lambda maps, own: cka(maps.estimate, maps.target, own.relation_tokens),
    "cwd": lambda maps, own: channel_wise(maps.estimate, maps.target, own.cwd_temperature),
    "mgd": lambda maps, _: l2(maps.generators["mgd"](maps.estimate), maps.target),
}


def evaluate(
    settings: LossSettings, estimate: Tensor, target: Tensor, mean: Tensor, generators: nn.ModuleDict
) -> dict[str, Tensor]:
    """Evaluates the terms, in fp32 also under autocast.

    Args:
        settings: Names of the terms.
        estimate: The student's aligned map (B, C, H, W).
        target: The teacher's map (B, C, H, W).
        mean: The target's mean by channel (C,).
        generators: From `LossSettings.generators`.

    Returns:
        (B, H, W) of each term on positions and a scalar of each on whole maps, by name, and (B, H, W) of "l1" in any
        case: the corruption's control follows it.
    """
    wide = torch.promote_types(estimate.dtype, torch.float32)
    maps = Compared(estimate.to(wide), target.to(wide), mean, generators)
    with without_autocast(estimate):
        return {name: TERMS[name](maps, settings) for name in {**settings.terms, "l1": None}}


def combine(
    settings: LossSettings, parts: dict[str, Tensor], corrupted: Tensor | None, step: int = 0
) -> dict[str, Tensor]:
    """Averages the terms over positions, and sums them.

    Args:
        settings: Names and weights.
        parts: From `evaluate`.
        corrupted: Fraction of each position that was corrupted (B, H, W), or None.
        step: The optimizer step, for weights that change.

    Returns:
        Scalars: every term by name, unweighted by `terms`, and their weighted sum as "loss". Terms on positions are 0
        where no position has weight.
    """
    weight = None
    if corrupted is not None and settings.corrupted_weight != 1:
        weight = 1 + corrupted * (settings.corrupted_weight - 1)
    values = {
        name: parts[name].mean()
        if weight is None or parts[name].ndim == 0
        else (parts[name] * weight).sum() / weight.sum().clamp_min(1e-12)
        for name in settings.terms
    }
    zero = parts["l1"].new_zeros(())
    weights = {name: weight_at(given, step) for name, given in settings.terms.items()}
    values["loss"] = sum((weights[name] * values[name] for name in settings.terms), start=zero)
    return values
