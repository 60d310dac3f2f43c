"""MMCV's compiled operators, or stand-ins computed by torchvision.

MMDetection's two-stage heads need three of them: NMS, soft-NMS and RoIAlign. `mmcv-lite` has wheels for every
platform but no compiled module `mmcv._ext`, without which `mmcv.ops` does not import. The stand-in takes its place with
the same signatures and the same numbers; every operator it lacks raises when called, never when imported.

The stand-in has to be an entry of `sys.modules` before MMDetection is imported: `mmcv.ops` imports `mmcv._ext` by that
name, checks it for some fifty operators, and every model of MMDetection imports `mmcv.ops`.

Axes: N boxes or regions, C channels, H W grid. Boxes are (x1, y1, x2, y2) in pixels.
"""

import importlib
import importlib.util
import logging
import pickle
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor

from distill.errors import UserError

_EXTENSION = "mmcv._ext"
_STACK = ("mmdet", "mmengine", "mmcv")
_WITHOUT = "or --model.head heads.DenseMasks, which needs none"
_INSTALL = "pip install 'distill-rs[mmdet]'"
_YAPF_ATTEMPTS = 25  # five seconds
_logger = logging.getLogger(__name__)


class _StandIn(ModuleType):
    """The module `mmcv._ext`. Answers to every operator name, because `mmcv.ops` checks about fifty at import."""

    def __init__(self) -> None:
        super().__init__(_EXTENSION, "Operators of mmcv computed by torchvision.")
        # Without a loader, mmcv.utils.check_ops_exist() finds no compiled operators.
        self.__spec__ = ModuleSpec(_EXTENSION, loader=None)
        self.nms = nms
        self.softnms = softnms
        self.roi_align_forward = roi_align_forward
        self.roi_align_backward = roi_align_backward

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise UserError(
                f"mmcv operator {name!r} needs compiled mmcv: the stand-in has nms, softnms and roi_align; choose a "
                "head without it, or install mmcv with compiled operators in place of mmcv-lite"
            )

        return missing


def ensure_mmcv_ops(user: str = "heads.mmdet") -> str:
    """Makes `import mmcv.ops` work. Call it before anything that imports MMDetection, mmcv or MMEngine.

    Args:
        user: Who needs it, for the message; for example "heads.MaskRCNN".

    Returns:
        "compiled" where mmcv brings its own operators, which are then used; else "torchvision stand-in".

    Raises:
        UserError: A package of the extra `mmdet` is absent, mmcv's compiled operators do not load, or yapf does not.
    """
    if isinstance(sys.modules.get(_EXTENSION), _StandIn):
        return "torchvision stand-in"
    if absent := [package for package in _STACK if importlib.util.find_spec(package) is None]:
        raise UserError(f"{user} needs MMDetection ({', '.join(absent)} not installed): {_INSTALL}, {_WITHOUT}")
    _import_yapf()
    if importlib.util.find_spec(_EXTENSION) is None:
        sys.modules[_EXTENSION] = _StandIn()
        _logger.info("mmcv has no compiled operators: NMS and RoIAlign come from torchvision")
        return "torchvision stand-in"
    try:
        importlib.import_module(_EXTENSION)
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"mmcv's compiled operators do not load ({reason}): they were built for another torch {torch.__version__}; "
            "reinstall mmcv for it, or replace it: pip uninstall mmcv && pip install 'mmcv-lite<2.2'"
        ) from error
    return "compiled"


def _import_yapf() -> None:
    """Imports yapf, as MMEngine will, where several processes may do so at once.

    On its first import on a machine yapf caches its grammar, and gives the file its name before it has written all of
    it; a process that starts in that moment, as the ranks of a run do, reads half a file. It reads again.
    """
    for _ in range(_YAPF_ATTEMPTS):
        try:
            importlib.import_module("yapf")
            return
        except ModuleNotFoundError:
            return  # as importing MMEngine will say
        except (EOFError, pickle.UnpicklingError):
            time.sleep(0.2)
    raise UserError("MMEngine needs yapf, whose cached grammar is damaged; delete YAPF in the user's cache (~/.cache)")


def explain_mmcv_ops() -> list[tuple[str, bool, str]]:
    """Rows for `distill doctor`: a part of the MMDetection stack, whether it is active, and why or how to fix it."""
    providers = packages_distributions()
    rows = []
    for package in _STACK:
        distribution = next(iter(providers.get(package, [])), package)
        try:
            rows.append((f"{package} {version(distribution)}", True, f"installed as {distribution}"))
        except PackageNotFoundError:
            rows.append((package, False, _INSTALL))
    try:
        compiled = ensure_mmcv_ops() == "compiled"
    except UserError as error:
        return [*rows, ("operators", False, str(error))]
    if compiled:
        return [*rows, ("compiled operators", True, "mmcv brings them")]
    why = f"mmcv has no compiled ones; torchvision {torchvision.__version__} computes the same values"
    return [*rows, ("operators from torchvision", True, why)]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices (K,) of the boxes kept by greedy suppression, best first.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: A box is dropped where it overlaps a better one by more than this.
        offset: 1 for boxes whose far edge is inclusive, else 0.
    """
    # Growing the far edge turns inclusive boxes into the exclusive ones torchvision expects, with the same overlaps.
    exclusive = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(exclusive, scores.to(exclusive.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS: lowers the scores of overlapping boxes rather than dropping them.

    Source: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017, eq. 3 (linear) and
    eq. 4 (Gaussian), as mmcv reads them: a box is dropped once a better box has lowered its score under `min_score`.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), overwritten: its first K rows become boxes and final scores, best first.
        iou_threshold: Overlap from which "naive" drops and "linear" lowers.
        sigma: Width of the Gaussian.
        min_score: Lowest score kept.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 1 for boxes whose far edge is inclusive, else 0.

    Returns:
        Indices (K,) of the boxes kept.
    """
    exclusive = boxes + boxes.new_tensor([0, 0, offset, offset])
    live, current = torch.arange(len(boxes)), scores.clone()
    kept: list[Tensor] = []
    while len(live):
        best = live[current[live].argmax()]
        dets[len(kept)] = torch.cat([boxes[best], current[best, None]])
        kept.append(best)
        live = live[live != best]
        overlap = torchvision.ops.box_iou(exclusive[best, None], exclusive[live])[0]
        if method == 2:
            weight = torch.exp(-(overlap**2) / sigma)
        else:
            lowered = 1 - overlap if method == 1 else torch.zeros_like(overlap)
            weight = torch.where(overlap >= iou_threshold, lowered, 1)
        current[live] *= weight
        live = live[~(current[live] < min_score)]  # negated, so that NaN overlaps of empty boxes survive as in mmcv
    return torch.stack(kept) if kept else live


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign by averaging, computed in float32 at least.

    Args:
        features: (B, C, H, W).
        rois: (N, 5), image index and box.
        output: (N, C, aligned_height, aligned_width), overwritten.
        argmax_y: Unused; belongs to max pooling.
        argmax_x: Unused; belongs to max pooling.
        aligned_height: Rows of the output.
        aligned_width: Columns of the output.
        spatial_scale: Cells of `features` per pixel of `rois`.
        sampling_ratio: Samples per output cell and axis; 0 adapts to the region.
        pool_mode: 1 average; 0, the maximum, is not available.
        aligned: Shift by half a cell, so that pixel centres are at .5.

    Raises:
        UserError: Max pooling was asked for.
    """
    if pool_mode != 1:
        raise UserError(
            "RoIAlign pool_mode 'max' needs compiled mmcv; use pool_mode 'avg', or install mmcv in place of mmcv-lite"
        )
    size = (aligned_height, aligned_width)
    # bfloat16 would round coordinates to whole pixels, and torchvision's backward lacks it; copying casts back.
    precision = torch.promote_types(features.dtype, torch.float32)
    features, rois = features.to(precision), rois.to(precision)
    output.copy_(torchvision.ops.roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of `roi_align_forward` for its features, written into `grad_input` (B, C, H, W)."""
    precision = torch.promote_types(grad_output.dtype, torch.float32)
    grad_output, rois = grad_output.to(precision), rois.to(precision)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output, rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned
        )
    )
