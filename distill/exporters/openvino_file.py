"""Converts an exported ONNX file for OpenVINO.

Axes: R regions, C channels, H W grid of a map.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.errors import UserError
from distill.exported.facts import METADATA_KEY, ExportedFacts
from distill.exported.session import openvino_reason
from distill.files import move_into_place

if TYPE_CHECKING:
    from openvino import Model


def write_openvino(onnx_path: Path, facts: ExportedFacts, path: Path) -> None:
    """Writes `path`, an .xml, and the .bin of its weights beside it, in float32.

    Args:
        onnx_path: What `distill.exporters.onnx_file` wrote, and verified.
        facts: Of the model; goes into rt_info.
        path: The .xml.

    Raises:
        UserError: OpenVINO lacks an operator of the model, or the place cannot be written.
    """
    model = read_graph(onnx_path)
    _pool_from_areas_alone(model.get_ops())
    _exact_softplus(model.get_ops())
    model.validate_nodes_and_infer_types()
    save(model, facts, path)


def read_graph(path: Path) -> "Model":
    """A file, .onnx or .xml, as a graph of OpenVINO whose weights are constants right before their layers.

    It is not `openvino.convert_model` that reads it, which reports its use over the network.

    Raises:
        UserError: OpenVINO is not installed, or lacks an operator of the model.
    """
    try:
        import openvino
        from openvino.passes import ConstantFolding, Manager
    except ImportError as error:
        raise UserError(f"openvino files need the package {error.name}: pip install 'distill-rs[openvino]'") from error
    try:
        model = openvino.Core().read_model(path)
        passes = Manager()
        passes.register_pass(ConstantFolding())
        passes.run_passes(model)
    except RuntimeError as error:
        version = openvino.__version__.partition("-")[0]
        raise UserError(
            f"OpenVINO {version} cannot convert the model: {openvino_reason(error)}; export it with --format onnx"
        ) from error
    return model


def save(model: "Model", facts: ExportedFacts, path: Path) -> None:
    """Writes a model of OpenVINO with its facts; both files get their names when both are complete.

    Raises:
        UserError: The place cannot be written.
    """
    import openvino

    model.set_rt_info(facts.to_json(), [METADATA_KEY])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem}."))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); permit writing there") from error
    try:
        openvino.save_model(model, place / path.name, compress_to_fp16=False)  # which is its default
        for suffix in (".bin", ".xml"):  # the .xml last: it is what names the model
            move_into_place((place / path.name).with_suffix(suffix), path.with_suffix(suffix))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be written ({openvino_reason(error)}); free space there") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _pool_from_areas_alone(nodes: Iterable[Any]) -> None:
    """Leaves out boxes without extent where features are pooled from R boxes, and fills in zeros for them.

    Such boxes stand for what another level of the pyramid pools, and where fewer than K instances were found. ONNX
    Runtime and torchvision pool zeros from them in no time. OpenVINO's ROIAlign takes as long as for any other box, so
    that four levels take four times as long as one; and it divides by the number of samples, which with a sampling
    ratio of 0 is 0.
    """
    from openvino import opset13 as ops

    for node in nodes:
        if node.get_type_name() != "ROIAlign" or node.get_attributes()["sampling_ratio"] != 0:
            continue
        features, boxes, images = (node.input_value(index) for index in range(3))
        rows, columns = ops.constant(0), ops.constant(1)
        near, far = ops.split(boxes, columns, 2).outputs()
        has_area = ops.reduce_logical_and(ops.greater(far, near), columns, False)
        kept = ops.squeeze(ops.non_zero(has_area, "i32"), rows)
        settings = node.get_attributes()
        pooled = ops.roi_align(
            features,
            ops.gather(boxes, kept, rows),
            ops.gather(images, kept, rows),
            settings["pooled_h"],
            settings["pooled_w"],
            settings["sampling_ratio"],
            settings["spatial_scale"],
            settings["mode"],
            settings["aligned_mode"],
        )
        zeros = ops.broadcast(
            ops.constant(0.0, features.get_element_type()),
            ops.concat(
                [
                    ops.constant(np.array([1])),
                    ops.gather(ops.shape_of(features), ops.constant([1]), rows),
                    ops.constant(np.array([settings["pooled_h"], settings["pooled_w"]])),
                ],
                0,
            ),
        )
        ones = ops.convert(has_area, "i32")
        place = ops.subtract(ops.cumsum(ones, rows), ops.constant(1, ones.get_element_type()))
        last = ops.reduce_sum(ones, rows, False)  # the row of zeros
        filled = ops.gather(ops.concat([pooled, zeros], 0), ops.select(has_area, place, last), rows)
        filled.set_friendly_name(node.get_friendly_name())
        for user in list(node.output(0).get_target_inputs()):
            user.replace_source_output(filled.output(0))


def _exact_softplus(nodes: Iterable[Any]) -> None:
    """Writes softplus so that small values are as exact as large ones.

    OpenVINO 2026.4 takes the logarithm of 1 + exp(x), in which a small exp(x) is rounded: at -10 the result is wrong by
    2 %. A selective scan sums such steps up over all tokens. Here log(1 + u) is 2 (s + s^3 / 3 + s^5 / 5 + ...) with
    s = u / (2 + u). As u = exp(-|x|) is at most 1, s is at most 1 / 3, and what is left out is 2e-8 of the result.
    """
    from openvino import opset13 as ops

    for node in nodes:
        if node.get_type_name() != "SoftPlus":
            continue
        x = node.input_value(0)
        dtype = x.get_element_type()
        u = ops.exp(ops.negative(ops.abs(x)))
        s = ops.divide(u, ops.add(u, ops.constant(2.0, dtype)))
        square, factor = ops.multiply(s, s), ops.constant(2.0 / 13, dtype)
        for power in (11, 9, 7, 5, 3, 1):
            factor = ops.add(ops.multiply(factor, square), ops.constant(2.0 / power, dtype))
        exact = ops.add(ops.relu(x), ops.multiply(s, factor))
        exact.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(exact.output(0))
