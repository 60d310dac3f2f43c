"""A student alone as one graph: normalisation and its maps."""

from torch import Tensor

from distill.contracts import StudentBase
from distill.exported.facts import FEATURES
from distill.exporters.graph import ExportGraph


class FeatureGraph(ExportGraph):
    """The maps (1, C_i, H_i, W_i) of an image (1, 3, H, W), "map_0" and so on, in the student's order.

    Args:
        student: The backbone, whose mode becomes that of evaluation.
    """

    kind = FEATURES

    def __init__(self, student: StudentBase) -> None:
        super().__init__(student)
        self.outputs = tuple(f"map_{index}" for index in range(len(student.feature_info.reduction())))
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The tensors named in `outputs`."""
        return tuple(self.features(image))
