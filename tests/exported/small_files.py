"""Small ONNX files of each kind, which compute almost nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from distill.exported.facts import METADATA_KEY, ExportedFacts
from distill.scene.tile_size import TileSize

NAMES = ("ship", "water")
PLANES = ExportedFacts(
    kind="planes",
    task="instances",
    class_names=NAMES,
    stride=8,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    size=TileSize(96, 24, 0),
    run="runs/mine",
    student="students.LALE",
    head="heads.DenseMasks",
    digest="0" * 64,
    version="0.1.0",
    image_size=96,
    min_area=4,
)
LOGITS = replace(PLANES, kind="logits", task="segmentation", image_size=None)


def write_planes(path: Path, **facts: Any) -> Path:
    """Bright pixels of the red and the green channel are instances of the two classes."""
    starts, ends, axes = ([0], [2], [1])
    nodes = [helper.make_node("Slice", ["image", "starts", "ends", "axes"], ["probabilities"])]
    constants = [("starts", starts), ("ends", ends), ("axes", axes)]
    return _write(path, nodes, constants, "probabilities", replace(PLANES, **facts))


def write_logits(path: Path, **facts: Any) -> Path:
    """Bright pixels are ships, dark ones are water: the red channel against a constant."""
    nodes = [
        helper.make_node("Slice", ["image", "starts", "ends", "axes"], ["red"]),
        helper.make_node("Neg", ["red"], ["dark"]),
        helper.make_node("Add", ["dark", "middle"], ["water"]),
        helper.make_node("Concat", ["red", "water"], ["logits"], axis=1),
    ]
    constants = [("starts", [0]), ("ends", [1]), ("axes", [1])]
    return _write(path, nodes, constants, "logits", replace(LOGITS, **facts), {"middle": 1.0})


def _write(
    path: Path,
    nodes: list[Any],
    constants: list[tuple[str, list[int]]],
    output: str,
    facts: ExportedFacts,
    floats: dict[str, float] | None = None,
) -> Path:
    shape = [1, None, "rows", "columns"]
    stored = [helper.make_tensor(name, TensorProto.INT64, [len(values)], values) for name, values in constants]
    stored += [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (floats or {}).items()]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "rows", "columns"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    onnx.save(model, path)
    return path
