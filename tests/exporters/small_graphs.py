"""Small ONNX graphs with weights, made by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from distill.exported.facts import METADATA_KEY, ExportedFacts
from tests.exported.small_files import LOGITS

IMAGE = ("image", [1, 3, "rows", "columns"])
POOLED = 3


def write_network(path: Path) -> ExportedFacts:
    """Two layers, softmax of a product of activations, and a last layer, with logits (1, 2, H, W)."""
    random = np.random.default_rng(0)
    shapes = {"first": (8, 3, 3, 3), "depthwise": (8, 1, 3, 3), "last": (2, 8, 1, 1)}
    weights = {name: random.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["c", "d"], ["e"]),
        helper.make_node("Softmax", ["e"], ["f"], axis=-1),
        helper.make_node("MatMul", ["f", "c"], ["g"]),
        helper.make_node("Conv", ["g", "last"], ["logits"]),
    ]
    _write(path, nodes, weights, [IMAGE], ("logits", [1, 2, "rows", "columns"]), LOGITS)
    return LOGITS


def write_pooling(path: Path, regions: np.ndarray) -> None:
    """RoIAlign of fixed regions (R, 4), with as many samples as their size asks for, from an image."""
    attributes = {"output_height": POOLED, "output_width": POOLED, "spatial_scale": 0.25, "sampling_ratio": 0}
    nodes = [
        helper.make_node("Identity", ["regions"], ["boxes"]),
        helper.make_node(
            "RoiAlign",
            ["image", "boxes", "indices"],
            ["pooled"],
            mode="avg",
            coordinate_transformation_mode="half_pixel",
            **attributes,
        ),
    ]
    stored = {"regions": regions, "indices": np.zeros(len(regions), np.int64)}
    _write(path, nodes, stored, [IMAGE], ("pooled", [len(regions), 3, POOLED, POOLED]), LOGITS)


def write_softplus(path: Path) -> None:
    """Softplus between two layers that leave an image as it is."""
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["wide"]),
        helper.make_node("Softplus", ["wide"], ["narrow"]),
        helper.make_node("Conv", ["narrow", "last"], ["logits"]),
    ]
    weights = {"first": np.eye(3)[:, :, None, None], "last": np.eye(3)[:, :, None, None]}
    _write(path, nodes, weights, [IMAGE], ("logits", [1, 3, "rows", "columns"]), LOGITS)


def write_unknown(path: Path) -> None:
    """An operator that no runtime has."""
    nodes = [helper.make_node("Wavelet", ["image"], ["logits"], domain="mine")]
    _write(path, nodes, {}, [IMAGE], ("logits", [1, 3, "rows", "columns"]), LOGITS)


def _write(
    path: Path,
    nodes: Sequence[Any],
    constants: dict[str, Any],
    inputs: Sequence[tuple[str, Any]],
    output: tuple[str, Any],
    facts: ExportedFacts,
) -> None:
    stored = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        stored,
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    onnx.save(model, path)
