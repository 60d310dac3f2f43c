"""Losses on how the positions of a map relate to each other, whatever the basis of its channels.

N² numbers an image would be 64 MiB at 64 x 64 positions, and several of them are kept for the gradient. Above `tokens`
positions a random subset is compared, the same of both maps and of all images of a step.

Axes: B batch, C channels, H W grid, N tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def gram(estimate: Tensor, target: Tensor, tokens: int) -> Tensor:
    """Mean squared difference between the cosines of all pairs of positions of an image: (B, C, H, W) twice -> scalar.

    Source: Siméoni et al., DINOv3 (https://arxiv.org/abs/2508.10104), section 4.2: L = |X_S X_Sᵀ - X_G X_Gᵀ|² of
    normalised patch features, here the mean over pairs in place of the sum.
    """
    own, true = (F.normalize(x, dim=1) for x in _tokens(estimate, target, tokens))
    return (own.mT @ own - true.mT @ true).square().mean()


def cka(estimate: Tensor, target: Tensor, tokens: int) -> Tensor:
    """One minus the linear CKA over the positions of an image, mean over images: (B, C, H, W) twice -> scalar.

    It does not change when channels are rotated, or all are scaled. With fewer positions than channels it is near 0
    for any two maps, as Kornblith et al. say of it.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019
    (https://arxiv.org/abs/1905.00414), equations 3 and 4.
    """
    own, true = (x - x.mean(dim=2, keepdim=True) for x in _tokens(estimate, target, tokens))
    own, true = own.mT @ own, true.mT @ true
    shared = (own * true).sum(dim=(1, 2))
    # In one root: a norm has no slope at 0.
    sizes = (own.square().sum(dim=(1, 2)) * true.square().sum(dim=(1, 2))).clamp_min(1e-24).sqrt()
    return (1 - shared / sizes).mean()


def _tokens(estimate: Tensor, target: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Both maps as (B, C, N), of at most `limit` positions."""
    own, true = estimate.flatten(2), target.flatten(2)
    count = own.shape[2]
    if count <= limit:
        return own, true
    chosen = torch.rand(count, device=own.device).argsort()[:limit]
    return own.index_select(2, chosen), true.index_select(2, chosen)
