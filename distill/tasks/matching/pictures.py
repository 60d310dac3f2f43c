"""Pictures of a match: both maps in the teacher's scale, and the error.

Axes: B batch, C channels, H W the teacher's grid, h w the student's.
"""

import torch
from torch import Tensor

from distill.tasks.matching.match import Match


def compare_maps(match: Match, raw: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The maps of teacher and student for the same clean images.

    Args:
        match: Says how the two are compared.
        raw: The teacher's maps (B, C, H, W).
        maps: The student's (B, C_i, h_i, w_i).

    Returns:
        The teacher's map (B, C, H, W) in its own scale, the student's estimate of it in the same scale, and their mean
        absolute difference (B, H, W) as the loss sees it, relative to the image-independent baseline's L1 on each
        image.
    """
    raw = raw.float()
    estimate, target = match.estimate(maps, (raw.shape[-2], raw.shape[-1])).float(), match.target(raw)
    baseline = torch.stack([match.baseline_l1(one[None]) for one in target])
    return raw, match.raw(estimate), (estimate - target).abs().mean(dim=1) / baseline[:, None, None]
