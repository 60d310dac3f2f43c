"""Feature aggregator: merges maps of one stride into one, the first half of a columnar student's neck.

Axes: B batch, C channels, H W the grid of the maps, L maps of the student.
"""

from torch import Tensor, nn

from distill.errors import UserError
from heads.parts.norms import build_norm


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return nn.Sequential(conv, build_norm(norm, out_channels), nn.ReLU(inplace=True))


class FeatureAggregator(nn.Module):
    """Merges the maps of a columnar student, all of one stride, into a single map.

    Each map is reduced to a few channels f_k, then visited from shallow to deep by a residual recurrence
    s_k = x_{k-1} + f_k, x_k = s_k + C_k(s_k), and the last state is widened again. With `two_way` the state then
    returns from deep to shallow, x <- x + R_k(x) + R_{k-1}(f_{k-1}) for k = L-1 ... 1.

    Source: RSPrompter (Chen et al., TGRS 2024), feature aggregator, as RS4D uses it; the way back is the "Pa"
    aggregator of RS4D's NWPU ablations, known from its code alone. Two deviations. Every map that the student emits
    is used, so that the distilled last one always is; RS4D's SSDD configuration skips it. The default norm is
    LayerNorm, where the original has BatchNorm: at 1-4 images per device its statistics are unreliable.

    Args:
        in_channels: Channels C_i of the L maps, shallow to deep.
        channels: Channels of the result.
        hidden_channels: Channels inside the recurrence.
        norm: "layer", "group", "batch" or "none".
        two_way: Whether the recurrence goes back as well.

    Raises:
        UserError: Unknown norm, or a way back over a single map.
    """

    def __init__(
        self,
        in_channels: list[int],
        channels: int = 256,
        hidden_channels: int = 32,
        norm: str = "layer",
        two_way: bool = False,
    ) -> None:
        super().__init__()
        if two_way and len(in_channels) < 2:
            raise UserError("neck_two_way goes back over the student's maps, of which there is only one; tap more")
        width = hidden_channels
        self.reduce = nn.ModuleList(
            nn.Sequential(_conv_norm_relu(c, width, 1, norm), _conv_norm_relu(width, width, 3, norm))
            for c in in_channels
        )
        self.recur = nn.ModuleList(_conv_norm_relu(width, width, 3, norm) for _ in in_channels)
        self.recur_back = nn.ModuleList(_conv_norm_relu(width, width, 3, norm) for _ in in_channels if two_way)
        self.fuse = nn.Sequential(
            _conv_norm_relu(width, channels, 1, norm),
            _conv_norm_relu(channels, channels, 3, norm),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps L maps (B, C_i, H, W) to one (B, channels, H, W)."""
        reduced = [reduce(feature) for reduce, feature in zip(self.reduce, features, strict=True)]
        state: Tensor | float = 0.0
        for feature, recur in zip(reduced, self.recur, strict=True):
            total = state + feature
            state = total + recur(total)
        for k in range(len(self.recur_back) - 1, 0, -1):
            state = state + self.recur_back[k](state) + self.recur_back[k - 1](reduced[k - 1])
        return self.fuse(state)
