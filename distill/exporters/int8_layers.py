"""Which layers of a graph get int8 weights: convolutions and matrix products by weights, but for some.

In float stay the last layers before an output, before boxes that regions are cut out by, and before whatever sums up
over a sequence or needs a wide range: selective scans with their Δ, B and C, softplus, which `openvino_file` writes
with exponentials, and what becomes a shape. All that is no such layer stays in float, too: norms, softmax, products of
two activations, the division of linear attention, and everything after the heads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
ONNX_LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_POOLING = ("ROIAlign", "RoiAlign")
_SEQUENTIAL = ("TensorIterator", "Loop", "Scan", "LinearAttention", "CumSum", "SoftPlus", "Softplus", "Exp")
_SHAPE = ("ShapeOf", "Shape", "Size")


@dataclass(frozen=True)
class Node:
    """An operation of a graph.

    Attributes:
        kind: Its type, in the words of OpenVINO or of ONNX.
        inputs: Names of the operations that its inputs come from, in order; empty for one that is constant or missing.
        weighted: Whether it multiplies by constant weights.
    """

    kind: str
    inputs: tuple[str, ...]
    weighted: bool = False


def quantized_layers(nodes: Mapping[str, Node], outputs: Iterable[str]) -> list[str]:
    """Names of the layers that get int8 weights, in the order of `nodes`.

    Args:
        nodes: The graph, by name.
        outputs: Names of the operations that its outputs come from.
    """
    starts = list(outputs)
    for node in nodes.values():
        if node.kind in _SEQUENTIAL:
            starts += node.inputs
        elif node.kind in _POOLING:
            starts += node.inputs[1:]  # of the boxes; the map that is pooled from may be int8
    in_float = _nearest_layers(nodes, starts)
    return [name for name, node in nodes.items() if node.weighted and name not in in_float]


def _nearest_layers(nodes: Mapping[str, Node], starts: Sequence[str]) -> set[str]:
    """The first layers with weights on every way back from some operations."""
    found, seen, waiting = set(), set(), list(starts)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        node = nodes[name]
        if node.weighted:
            found.add(name)
        elif node.kind not in _SHAPE:  # sizes do not depend on values
            waiting += node.inputs
    return found
