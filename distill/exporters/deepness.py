"""A land-cover file for Deepness, the plugin of QGIS that runs ONNX models (https://qgis-plugin-deepness.readthedocs.io).

Deepness wants square inputs of one fixed size and probabilities, since it clips outputs to [0, 1], and reads how it
shall cut a raster from the file's metadata. The keys follow its documentation; the file is not tested inside QGIS.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.exported.facts import LOGITS, ExportedFacts
from distill.files import write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto

Image = NDArray[np.float32]


def deepness_metadata(facts: ExportedFacts) -> dict[str, str]:
    """The metadata that Deepness reads, each value as JSON.

    Args:
        facts: Of a land-cover file.

    Raises:
        UserError: The file has no classes of pixels, or does not tell the resolution that it was trained at.
    """
    if facts.kind != LOGITS:
        raise UserError(f"Deepness reads land cover from class maps, and this is a file of {facts.kind}")
    if facts.gsd is None:
        raise UserError(
            f"{facts.run} does not tell how large a pixel of its training images is, which Deepness must know; train "
            "on images with coordinates, or run the file with `distill predict`"
        )
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(facts.class_names)),
        "resolution": round(100 * facts.gsd / facts.zoom, 3),  # cm of a pixel of the network
        "tiles_size": side_of_tiles(facts),
        "tiles_overlap": round(100 * facts.size.overlap / facts.size.tile),  # per cent
        "standardization_mean": [0.0, 0.0, 0.0],  # the graph normalises
        "standardization_std": [1.0, 1.0, 1.0],
        "seg_thresh": 0.0,  # the most probable class, however probable
        "seg_small_segment": 0,
    }
    return {key: json.dumps(value) for key, value in values.items()}


def side_of_tiles(facts: ExportedFacts) -> int:
    """Side of what the network sees at once, in its pixels."""
    side = facts.window or round(facts.size.tile * facts.zoom)
    return side + -side % facts.stride


def write_deepness(model: "ModelProto", facts: ExportedFacts, path: Path) -> None:
    """Writes a model for Deepness.

    Args:
        model: Of a `LandCoverGraph` whose logits are resized to the image; stays as it is.
        facts: Of the run.
        path: Of the file.

    Raises:
        UserError: See `deepness_metadata`.
    """
    import onnx

    metadata = deepness_metadata(facts)
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    side = side_of_tiles(facts)
    (image,), (logits,) = copied.graph.input, copied.graph.output
    copied.graph.node.append(onnx.helper.make_node("Softmax", [logits.name], ["probabilities"], axis=1))
    shapes = {"probabilities": (1, len(facts.class_names), side, side), image.name: (1, 3, side, side)}
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[name])]
        for name in (image.name, "probabilities")
    )
    for values, fixed in ((copied.graph.input, inputs), (copied.graph.output, outputs)):
        del values[:]
        values.extend(fixed)
    del copied.graph.value_info[:]  # of sizes that vary
    del copied.metadata_props[:]
    onnx.helper.set_model_props(copied, metadata)
    onnx.checker.check_model(copied)
    write_atomically(path, lambda temporary: temporary.write_bytes(copied.SerializeToString()))


def open_deepness(path: Path) -> tuple[int, Callable[[Image], Image]]:
    """The side S of the images of a file, and what it makes of one (1, 3, S, S): probabilities (1, K, S, S)."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return image.shape[-1], lambda view: session.run(None, {image.name: view})[0]
