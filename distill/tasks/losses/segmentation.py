"""Segmentation losses, combined by name in the recipe.

Axes: B batch, K classes, H W pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.class_table import IGNORE
from distill.errors import UserError, unknown_name


@dataclass
class SegmentationLossSettings:
    """The loss terms and their weights.

    Args:
        terms: Weight of each term by name: cross_entropy, dice, focal, ohem, boundary.
        class_weights: Weight of each class in every term, in label order; by default all 1.
        focal_gamma: Exponent of focal: how much less a pixel counts that is right already. 0 is cross-entropy.
        ohem_threshold: Pixels whose own class has a lower probability than this are hard.
        ohem_fraction: Share of the pixels that ohem keeps at least, the hardest first.
        boundary_tolerance: Pixels by which boundary lets a predicted border miss the true one.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: list[float] | None = None
    focal_gamma: float = 2.0
    ohem_threshold: float = 0.7
    ohem_fraction: float = 1 / 16
    boundary_tolerance: int = 2

    def __post_init__(self) -> None:
        """Checks names and ranges.

        Raises:
            UserError: An unknown term, a negative weight, or a number out of its range.
        """
        for name, weight in self.terms.items():
            if name not in TERMS:
                raise unknown_name("loss term in model.loss.terms", name, TERMS)
            if weight < 0:
                raise UserError(f"model.loss.terms.{name} is {weight}; a weight cannot be negative")
        weights = self.class_weights
        if weights is not None and (any(weight < 0 for weight in weights) or not any(weights)):
            raise UserError(f"model.loss.class_weights is {weights}; weights are 0 or more, and one of them above 0")
        if self.focal_gamma < 0 or self.boundary_tolerance < 0:
            raise UserError(
                f"model.loss has focal_gamma {self.focal_gamma} and boundary_tolerance {self.boundary_tolerance}; "
                "both must be 0 or more"
            )
        if not 0 < self.ohem_threshold <= 1 or not 0 < self.ohem_fraction <= 1:
            raise UserError(
                f"model.loss has ohem_threshold {self.ohem_threshold} and ohem_fraction {self.ohem_fraction}; both "
                "must be above 0 and at most 1"
            )

    def require_a_term(self) -> None:
        """Checks that there is a loss term; for models without a teacher.

        Raises:
            UserError: No term has a weight.
        """
        if not any(self.terms.values()):
            raise UserError(f"model.loss.terms is empty; name at least one of {', '.join(TERMS)}, or a model.teacher")

    def weights_of(self, like: Tensor) -> Tensor:
        """The weights (K,) of the classes of logits (B, K, ...), on their device."""
        return like.new_ones(like.shape[1]) if self.class_weights is None else like.new_tensor(self.class_weights)

    def require_classes(self, class_names: list[str]) -> None:
        """Checks the class weights once the classes are known.

        Raises:
            UserError: There are more or fewer weights than classes.
        """
        if self.class_weights is not None and len(self.class_weights) != len(class_names):
            raise UserError(
                f"model.loss.class_weights has {len(self.class_weights)} numbers, but the data has "
                f"{len(class_names)} classes; give one for each of {', '.join(class_names)}"
            )


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, settings: SegmentationLossSettings) -> Tensor:
    """Mean of -log p over the labelled pixels, p the probability of a pixel's own class."""
    return _mean(*_pixels(logits, labels, weights))


def focal(logits: Tensor, labels: Tensor, weights: Tensor, settings: SegmentationLossSettings) -> Tensor:
    """Mean of -(1 - p)^γ log p over the labelled pixels.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (https://arxiv.org/abs/1708.02002), equation
    5, its α a weight by class; softmax in place of the sigmoid.
    """
    entropy, weight = _pixels(logits, labels, weights)
    # expm1, because 1 - p loses every digit where p is nearly 1; the floor keeps the slope of roots (γ < 1) finite.
    missing = -torch.expm1(-entropy)
    return _mean(missing.clamp_min(1e-12) ** settings.focal_gamma * entropy, weight)


def ohem(logits: Tensor, labels: Tensor, weights: Tensor, settings: SegmentationLossSettings) -> Tensor:
    """Cross-entropy over the hard pixels of the batch alone, but over a fixed share of them at least.

    Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016
    (https://arxiv.org/abs/1604.03540); per pixel, with threshold 0.7 and at least a sixteenth, as in BiSeNet's
    training (https://arxiv.org/abs/1808.00897).
    """
    entropy, weight = _pixels(logits, labels, weights)
    labelled = labels != IGNORE
    # Counts stay on the device: of the hardest pixels, the last one that belongs to the share is looked up there.
    ranked = entropy.detach().masked_fill(~labelled, -1).flatten()
    least = (settings.ohem_fraction * labelled.sum(dtype=torch.float64)).ceil().long()
    hardest = ranked.topk(math.ceil(settings.ohem_fraction * len(ranked))).values
    bound = hardest.gather(0, (least - 1).clamp(0, len(hardest) - 1)[None])
    hard = ranked >= bound.clamp_max(-math.log(settings.ohem_threshold))
    return _mean(entropy, weight * (hard.view_as(entropy) & labelled))


def dice(logits: Tensor, labels: Tensor, weights: Tensor, settings: SegmentationLossSettings) -> Tensor:
    """Mean over classes of 1 - 2 Σ p t / Σ (p + t), sums over all labelled pixels of the batch, t = 1 where a class is.

    A class that the batch does not show costs nothing, yet counts in the mean: the multiclass Dice loss of
    segmentation_models_pytorch, which the ARAS400k benchmark trains with.

    Source: V-Net (https://arxiv.org/abs/1606.04797), section 3, without the squares.
    """
    truth, valid = _planes(labels, logits.shape[1])
    probability = logits.softmax(1) * valid
    overlap = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    shown = truth.sum((0, 2, 3)) > 0
    return _mean((1 - 2 * overlap / total.clamp_min(1e-7)) * shown, weights)


def boundary(logits: Tensor, labels: Tensor, weights: Tensor, settings: SegmentationLossSettings) -> Tensor:
    """One minus the F1 of class borders, mean over the images and classes that have any.

    A border is what a 3 x 3 minimum filter takes off a class; a border pixel is right if the other side has one within
    the tolerance. Next to pixels without a label there is no border. On its own it cannot train: predictions without
    any border have no slope.

    Source: Bokhovkin and Burnaev, "Boundary Loss for Remote Sensing Imagery Semantic Segmentation", ISNN 2019
    (https://arxiv.org/abs/1905.07852), equations 1 to 5; they average over absent classes, too, at a constant cost.
    """
    truth, valid = _planes(labels, logits.shape[1])
    true_edge = _edge(truth, valid)
    found_edge = _edge(logits.softmax(1), valid)
    precision = _sum(found_edge * _grow(true_edge, settings.boundary_tolerance)) / _sum(found_edge).clamp_min(1e-7)
    recall = _sum(true_edge * _grow(found_edge, settings.boundary_tolerance)) / _sum(true_edge).clamp_min(1e-7)
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-7)
    return _mean(1 - f1, weights * (_sum(true_edge) > 0))


Term = Callable[[Tensor, Tensor, Tensor, SegmentationLossSettings], Tensor]
TERMS: dict[str, Term] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "focal": focal,
    "ohem": ohem,
    "boundary": boundary,
}


def combine(
    settings: SegmentationLossSettings, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Evaluates the terms in fp32.

    Args:
        settings: Names and weights.
        logits: (B, K, H, W).
        labels: (B, H, W), integers below K, or `IGNORE`; at the resolution of the logits.
        class_weights: Those of the settings (K,) on the device, where they are already.

    Returns:
        Scalars: every term by name, unweighted by `terms`, and their weighted sum as "loss". All are 0 where no pixel
        is labelled.
    """
    logits, labels = logits.float(), labels.long()
    weights = settings.weights_of(logits) if class_weights is None else class_weights
    values = {name: TERMS[name](logits, labels, weights, settings) for name in settings.terms}
    values["loss"] = sum((settings.terms[name] * values[name] for name in settings.terms), start=logits.new_zeros(()))
    return values


def _pixels(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """-log p and the weight of the class of every pixel (B, H, W); both are 0 where a pixel has no label."""
    labelled = labels != IGNORE
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return entropy, weights[labels.where(labelled, 0)] * labelled


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean; 0, with a gradient of 0, where nothing has weight."""
    return (values * weight).sum() / weight.expand_as(values).sum().clamp_min(1e-12)


def _planes(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """A plane of 0 and 1 for each class (B, K, H, W), and where pixels are labelled (B, 1, H, W)."""
    valid = (labels != IGNORE)[:, None]
    truth = labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]
    return (truth & valid).float(), valid.float()


def _edge(planes: Tensor, valid: Tensor) -> Tensor:
    """The inner border of every plane (B, K, H, W), none where or because pixels have no label."""
    outside = (1 - planes) * valid
    return (_grow(outside, 1) - outside) * valid


def _grow(planes: Tensor, by: int) -> Tensor:
    """The largest value within `by` pixels."""
    return F.max_pool2d(planes, 2 * by + 1, stride=1, padding=by)


def _sum(planes: Tensor) -> Tensor:
    return planes.sum((2, 3))
