"""Per-pixel KL distillation of a teacher's class probabilities.

Axes: B batch, K classes, H W pixels.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from distill.errors import UserError


@dataclass
class SoftTargetSettings:
    """How a teacher's probabilities enter the loss.

    Args:
        weight: Weight of `soft_targets` beside the terms of `model.loss`.
        temperature: Divides both logits. Above 1, unlikely classes get more weight.
    """

    weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A negative weight, or a temperature that is not above 0.
        """
        if self.weight < 0 or self.temperature <= 0:
            raise UserError(
                f"model.soft_targets has weight {self.weight} and temperature {self.temperature}; the weight must be 0 "
                "or more, the temperature above 0"
            )


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(teacher / T) || softmax(logits / T)), the mean over all pixels, labelled or not.

    With T² the gradient keeps its size, whatever the temperature.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (https://arxiv.org/abs/1503.02531),
    section 2, for T and T²; Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019
    (https://arxiv.org/abs/1903.04197), section 3.1, for the mean over pixels.

    Args:
        logits: The student's (B, K, H, W).
        teacher: The teacher's, of the same shape.
        temperature: T.
    """
    own, target = (F.log_softmax(x / temperature, dim=1) for x in (logits, teacher))
    return temperature**2 * F.kl_div(own, target, reduction="none", log_target=True).sum(1).mean()
