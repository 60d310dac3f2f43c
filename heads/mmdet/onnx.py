"""ONNX translations of padded top-k, padded NMS and RoIAlign into standard operators of opset 18.

Axes: N candidates, K results, R regions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
import torchvision  # noqa: F401  registers RoIAlign
from onnxscript import opset18
from torch._ops import OpOverload

import heads.mmdet.padded  # noqa: F401  registers the operators

op: Any = opset18  # whose signatures do not know `ir.Value`
_Value = Any  # an `ir.Value`, a type that the exporter cannot read from signatures


def detector_translations() -> Mapping[OpOverload, Callable[..., Any]]:
    """The `custom_translation_table` with which `torch.onnx.export(dynamo=True)` writes two-stage heads."""
    return {
        torch.ops.distill.padded_top_k.default: _padded_top_k,
        torch.ops.distill.padded_nms.default: _padded_nms,
        torch.ops.torchvision.roi_align.default: _roi_align,
    }


def _padded_top_k(scores: _Value, k: int) -> tuple[_Value, _Value]:
    """`heads.mmdet.padded.padded_top_k`.

    Of equal scores `TopK` takes the lower index first, as ONNX defines it; OpenVINO does not keep to that.
    """
    count = op.Shape(scores)
    least = op.CastLike(op.Constant(value_floats=[float("-inf")]), scores)
    padded = op.Concat(scores, op.Expand(least, _ints(k)), axis=0)
    values, indices = op.TopK(padded, _ints(k))
    return values, op.Where(op.Less(indices, count), indices, _ints(0))


def _padded_nms(
    boxes: _Value, scores: _Value, classes: _Value, iou_threshold: float, score_threshold: float, limit: int
) -> tuple[_Value, _Value]:
    """`heads.mmdet.padded.padded_nms`, as suppression within a single class, whose result is ordered by score.

    A point is appended, which overlaps nothing and comes last. So the result is never empty: of an empty one OpenVINO
    2026.4 makes nothing and keeps all that follows as it was for the image before.
    """

    def number(value: float) -> ir.Value:
        return op.CastLike(op.Constant(value_floats=[value]), scores)

    takes_part = op.Greater(scores, number(score_threshold))
    largest = op.ReduceMax(op.Where(op.Unsqueeze(takes_part, _ints(1)), boxes, number(0.0)), keepdims=0)
    apart = op.Mul(op.CastLike(classes, boxes), op.Add(largest, number(1.0)))
    boxes = op.Add(boxes, op.Unsqueeze(apart, _ints(1)))
    point = op.Expand(number(0.0), _ints(1, 4))
    lowest = op.Where(takes_part, scores, number(score_threshold - 2))
    found = op.NonMaxSuppression(
        op.Unsqueeze(op.Concat(boxes, point, axis=0), _ints(0)),
        op.Unsqueeze(op.Concat(lowest, number(score_threshold), axis=0), _ints(0, 1)),
        _ints(limit + 1),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[score_threshold - 1]),
        center_point_box=0,
    )
    indices = op.Squeeze(op.Slice(found, _ints(2), _ints(3), _ints(1)), _ints(1))
    count = op.Sub(op.Shape(indices), _ints(1))
    padded = op.Concat(indices, op.Expand(op.Constant(value_int=0), _ints(limit)), axis=0)
    first = op.Slice(padded, _ints(0), _ints(limit), _ints(0))
    return op.Where(op.Less(first, op.Shape(scores)), first, _ints(0)), op.Squeeze(count, _ints(0))


def _roi_align(
    features: _Value,
    rois: _Value,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> _Value:
    """RoIAlign of regions (R, 5), with every attribute: OpenVINO takes an absent `sampling_ratio` for 1."""
    return op.RoiAlign(
        features,
        op.Slice(rois, _ints(1), _ints(5), _ints(1)),
        op.Cast(op.Squeeze(op.Slice(rois, _ints(0), _ints(1), _ints(1)), _ints(1)), to=ir.DataType.INT64),
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        mode="avg",
        spatial_scale=spatial_scale,
        output_height=pooled_height,
        output_width=pooled_width,
        sampling_ratio=max(0, sampling_ratio),
    )


def _ints(*values: int) -> ir.Value:
    return op.Constant(value_ints=list(values))
