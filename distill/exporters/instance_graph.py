"""Instance segmentation as one graph: normalisation, student and the exported form of the head."""

from typing import ClassVar

import torch
from torch import Tensor

from distill.contracts import HeadBase
from distill.exported.facts import OUTPUTS
from distill.exporters.graph import ExportGraph
from distill.tasks.instances import FineTuningModule


class InstanceGraph(ExportGraph):
    """Instances of one image (1, 3, H, W), of which `size` (2,) int64, height and width, are real and not padding.

    Attributes:
        settings: Of the head's `ExportForm`.

    Args:
        task: Fine-tuned, with its head built. Its limits, `max_detections` and `score_threshold` of the head, are fixed
            in the graph.

    Raises:
        UserError: The head, or a setting of it, cannot be exported.
    """

    inputs: ClassVar[tuple[str, ...]] = ("image", "size")

    def __init__(self, task: FineTuningModule) -> None:
        assert isinstance(task.head, HeadBase)
        form = task.head.export_form()
        super().__init__(task.student, task.head, coarsest=form.coarsest)
        self.kind, self.settings, self.form = form.kind, form.settings, form.module
        self.outputs = OUTPUTS[form.kind]
        self.eval()

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """The tensors named in `outputs`; see `distill.contracts.ExportForm`."""
        found: tuple[Tensor, ...] = self.form(self.features(image), size)
        return found

    def example(self) -> tuple[Tensor, ...]:
        """Example inputs at a size at which no axis is special, partly padding."""
        (image,) = super().example()
        return image, torch.tensor(image.shape[-2:]) - 1
