"""Projects a student's map to a target's channels and grid; dropped after distillation.

Axes: B batch, C channels, H W grid.
"""

from collections.abc import Callable

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from distill.errors import unknown_name
from distill.layers import resize


def _as_needed(given: int, wanted: int) -> nn.Module:
    return nn.Identity() if given == wanted else nn.Conv2d(given, wanted, 1)


def _mlp(given: int, wanted: int) -> nn.Module:
    # With a norm in front: the inner maps of a student have none.
    width = max(given, wanted)
    return nn.Sequential(LayerNorm2d(given), nn.Conv2d(given, width, 1), nn.GELU(), nn.Conv2d(width, wanted, 1))


PROJECTIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "auto": _as_needed,
    "linear": lambda given, wanted: nn.Conv2d(given, wanted, 1),
    "mlp": _mlp,
    "conv3x3": lambda given, wanted: nn.Conv2d(given, wanted, 3, padding=1),
}


def require_projection(key: str, kind: str) -> None:
    """Checks the name of a projection.

    Raises:
        UserError: There is none of this name.
    """
    if kind not in PROJECTIONS:
        raise unknown_name(key, kind, PROJECTIONS)


class Adapter(nn.Module):
    """A projection to the target's channels, and bilinear resampling where the grids differ.

    The projection runs on the coarser of the two grids.

    Args:
        student_channels: C of the student's map.
        teacher_channels: C of the target.
        kind: "linear", a 1x1 convolution; "auto", the same where the channels differ, else nothing; "mlp", two 1x1
            convolutions behind a norm, with GELU between them; "conv3x3", a 3x3 convolution.
    """

    def __init__(self, student_channels: int, teacher_channels: int, kind: str = "auto") -> None:
        super().__init__()
        self.projection = PROJECTIONS[kind](student_channels, teacher_channels)

    def forward(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Maps (B, C_student, h, w) to (B, C_teacher, *grid)."""
        if features.shape[-2] * features.shape[-1] > grid[0] * grid[1]:
            return self.projection(_resampled(features, grid))
        return _resampled(self.projection(features), grid)


def _resampled(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == grid:
        return maps
    return resize(maps.float(), grid, "bilinear", antialias=True)  # in fp32, as the loss
