"""Projects the student's map to the teacher's channels and grid; dropped after distillation.

Axes: B batch, C channels, H W grid.
"""

from torch import Tensor, nn

from distill.layers import resize


class Adapter(nn.Module):
    """A 1x1 convolution where the channels differ and bilinear resampling where the grids differ, else nothing.

    Args:
        student_channels: C of the student's last map.
        teacher_channels: C of the target.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        same = student_channels == teacher_channels
        self.projection: nn.Module = nn.Identity() if same else nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Maps (B, C_student, h, w) to (B, C_teacher, *grid)."""
        projected = self.projection(features)
        if projected.shape[-2:] == grid:
            return projected
        return resize(projected.float(), grid, "bilinear", antialias=True)  # in fp32, as the loss
