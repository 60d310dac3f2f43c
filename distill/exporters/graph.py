"""Base of the graphs that are written into files.

Axes: H W pixels of the network's input.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from distill.contracts import Component, StudentBase
from distill.errors import UserError, first_line
from distill.layers import Normalize

_LARGEST = 2**16  # side of an image, in pixels


class ExportGraph(nn.Module):
    """Normalisation, student and what follows, from an image to tensors of known names.

    Attributes:
        inputs: Names of what `forward` takes; the first is `image`, (1, 3, H, W) RGB in [0, 1].
        outputs: Names of what it returns, in order.
        kind: What they mean, see `distill.exported.facts.ExportedFacts`.
        stride: H and W are multiples of it, in pixels.
        coarsest: Stride of the coarsest map, inside the student or in what follows it, in pixels.
        least: H and W have at least as many pixels, so that no map has one row or column. `torch.export` treats an axis
            of length 1 as one that never has another, and OpenVINO 2026.4 fails to compute with it.

    Args:
        student: The backbone.
        others: What follows it, whose operators are in the graph, too.
        coarsest: Stride of the coarsest map that these make, in pixels.
    """

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    outputs: tuple[str, ...]
    kind: str

    def __init__(self, student: StudentBase, *others: Component, coarsest: int = 0) -> None:
        super().__init__()
        self.student, self.normalize = student, Normalize.of(student)
        self.stride = max(student.feature_info.reduction())
        self.coarsest = max(student.coarsest, coarsest)
        self._parts = (student, *others)  # in a tuple, of which nn.Module registers nothing

    @property
    def label(self) -> str:
        """Its parts, for messages."""
        return " under ".join(part.label for part in self._parts)

    @property
    def least(self) -> int:
        """See above."""
        return (self.coarsest // self.stride + 1) * self.stride

    def features(self, image: Tensor) -> list[Tensor]:
        """The student's maps of an image (1, 3, H, W) in [0, 1]."""
        return list(self.student(self.normalize(image)))

    def onnx_operators(self) -> Mapping[OpOverload, Callable[..., Any]]:
        """The translations of all its parts, see `Component.onnx_operators`."""
        return {operator: write for part in self._parts for operator, write in part.onnx_operators().items()}

    def operator_modules(self) -> tuple[str, ...]:
        """The modules of all its parts, see `Component`."""
        return tuple(sorted({module for part in self._parts for module in part.operator_modules}))

    def dynamic_shapes(self) -> dict[str, Any]:
        """For `torch.export`: height and width vary, as multiples of the stride, from `least` on."""
        least, most = self.least // self.stride, _LARGEST // self.stride
        height, width = (self.stride * torch.export.Dim(name, min=least, max=most) for name in ("rows", "columns"))
        return {name: {2: height, 3: width} if name == "image" else None for name in self.inputs}

    def example(self) -> tuple[Tensor, ...]:
        """Example inputs at a size at which no axis is special."""
        strides = max(4, self.coarsest // self.stride)  # of the student, in one of the coarsest map
        height, width = ((count * strides + 2) * self.stride for count in (1, 2))
        return (torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)),)


@contextmanager
def refused_in_one_line(graph: ExportGraph) -> Iterator[None]:
    """Names the model where PyTorch's exporter fails inside, and keeps back what the exporter logs meanwhile.

    Raises:
        UserError: The graph cannot be written for images of any size. Its cause is the exporter's own error.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever a model or an operator of others raises
        cause: BaseException = error
        while cause.__cause__ is not None:  # of steps of the exporter, whose own words do not say what is wrong
            cause = cause.__cause__
        reason = f"{type(cause).__name__}: {first_line(cause)}" if str(cause).strip() else type(cause).__name__
        raise UserError(
            f"{graph.label} cannot be exported for images of any size ({reason}); docs/export.md lists what can, and "
            "--format safetensors takes every model"
        ) from error
    finally:
        logging.disable(before)
