"""Small networks whose parameters need different learning rates and decays."""

import torch
from torch import nn

from distill.contracts import Component


class Toy(Component):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.position = nn.Parameter(torch.zeros(1, 2, 2))
        self.A_log = nn.Parameter(torch.zeros(2, 2))
        self.A_log._no_weight_decay = True  # type: ignore[attr-defined]

    def no_weight_decay(self) -> set[str]:
        return {"position"}


class Deep(nn.Module):
    """Stem, two stages of blocks named as timm does, a downsampling between them, and a final norm."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 2, 2))
        self.stem = nn.Sequential(nn.Linear(2, 2))
        self.stages = nn.ModuleList(
            nn.ModuleDict({"downsample": nn.Linear(2, 2), "blocks": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(2)
