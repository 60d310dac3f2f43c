"""Losses on where in an image each channel is active.

Axes: B batch, C channels, H W grid.
"""

from torch import Tensor
from torch.nn import functional as F


def channel_wise(estimate: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² KL(target || estimate) of each channel's softmax over positions, mean over channels and images -> scalar.

    It does not see the mean of a channel.

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021
    (https://arxiv.org/abs/2011.13256), section 3.2; T = 4 there.

    Args:
        estimate: (B, C, H, W).
        target: (B, C, H, W).
        temperature: T. A higher one looks at more of each channel's positions.
    """
    own, true = (F.log_softmax(x.flatten(2) / temperature, dim=2) for x in (estimate, target))
    return temperature**2 * F.kl_div(own, true, reduction="none", log_target=True).sum(dim=2).mean()
