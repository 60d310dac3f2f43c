"""Masked generative distillation: reconstructs the whole target from the unmasked positions of the estimate.

Axes: B batch, C channels, H W grid.
"""

import torch
from torch import Tensor, nn


class MaskedGenerator(nn.Module):
    """Fills in the masked positions of a map by two 3 x 3 convolutions; dropped after distillation.

    Source: Yang et al., "Masked Generative Distillation", ECCV 2022 (https://arxiv.org/abs/2205.01529), section 3; they
    mask 0.65 of the positions for one-stage detectors, 0.45 for two-stage ones and 0.75 for segmentation.

    Args:
        channels: C.
        masked: Share of the positions that is masked, in expectation.
    """

    def __init__(self, channels: int, masked: float) -> None:
        super().__init__()
        self.masked = masked
        self.generate = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, estimate: Tensor) -> Tensor:
        """Masks positions of (B, C, H, W), drawn from torch's generator, and fills them in: (B, C, H, W)."""
        batch, _, height, width = estimate.shape
        kept = torch.rand(batch, 1, height, width, device=estimate.device) >= self.masked
        filled: Tensor = self.generate(estimate * kept)
        return filled
