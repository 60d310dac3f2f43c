"""A two-stage detector as a graph of fixed counts, for export: MMDetection's parts between padded operators.

Axes: P proposals, K classes, N instances, R regions with a mask, m cells of a mask, C channels, H W the grid of a level
or pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision  # noqa: F401  registers RoIAlign
from torch import Tensor, nn
from torch.nn import functional as F

from heads.mmdet.float32 import steps
from heads.mmdet.padded import padded_nms, padded_top_k


class RegionsForm(nn.Module):
    """The kind "regions" of `distill.contracts.ExportForm`, with the values of `TwoStageHead.predict`.

    Where MMDetection picks rows by a condition, every row stays here and some do not count: candidates of a level with
    fewer than `nms_pre` anchors, proposals and instances beyond those found. Their scores are -inf or 0. The one axis
    whose length depends on the image is that of the masks being computed, which are padded again.

    Args:
        neck: The neck of the head.
        rpn_head: Its proposals; `heads.mmdet.exportable` lists what may be in it.
        roi_head: Its second stage, of one step or several.
    """

    least_masks = 1  # that are computed

    def __init__(self, neck: nn.Module, rpn_head: Any, roi_head: Any) -> None:
        super().__init__()
        self.neck, self.rpn_head, self.roi_head = neck, rpn_head, roi_head

    def forward(self, features: list[Tensor], size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Boxes (N, 4), scores (N,), labels (N,), count () and masks (N, m, m).

        Args:
            features: The student's maps (1, C_i, H_i, W_i).
            size: (2,) int64, height and width of the real image inside the padding.
        """
        levels = [level.float() for level in self.neck(features)]
        limits = size.flip(0).repeat(2).to(torch.float32)
        proposals, real = self._propose(levels, limits)
        levels = self._pooled_from(levels)
        boxes, scores = self._classify(levels, proposals, limits)
        classes = scores.shape[1]
        labels = torch.arange(classes, device=scores.device).expand_as(scores).flatten()
        flat = torch.where(real[:, None], scores, -torch.inf).flatten()
        config = self.roi_head.test_cfg
        boxes = boxes.flatten(0, 1)
        kept, count = padded_nms(
            boxes,
            flat,
            _suppressed_apart(config.nms, labels),
            config.nms.iou_threshold,
            config.score_thr,
            config.max_per_img,
        )
        found = torch.arange(len(kept), device=kept.device) < count
        boxes = torch.where(found[:, None], boxes.index_select(0, kept), 0)
        labels = torch.where(found, labels.index_select(0, kept), 0)
        scores = torch.where(found, flat.index_select(0, kept), 0)
        masks = torch.where(found[:, None, None], self._masks(levels, boxes, labels, count), 0)
        return boxes, scores, labels, count, masks

    def _propose(self, levels: list[Tensor], limits: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals (P, 4), and which of them count (P,); as `RPNHead._predict_by_feat_single`."""
        head, config = self.rpn_head, self.rpn_head.test_cfg
        all_boxes, all_scores, numbers = [], [], []
        for number, (logits, deltas) in enumerate(zip(*head(levels), strict=True)):
            grid = logits.shape[-2:]
            scores, best = padded_top_k(logits[0].permute(1, 2, 0).flatten().sigmoid(), config.nms_pre)
            anchors = head.prior_generator.single_level_grid_priors(grid, number, logits.dtype, logits.device)
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4).index_select(0, best)
            all_boxes.append(_decode(head.bbox_coder, anchors.index_select(0, best), deltas, limits))
            all_scores.append(scores)
            numbers.append(torch.full_like(best, number))
        boxes, scores, level = torch.cat(all_boxes), torch.cat(all_scores), torch.cat(numbers)
        if config.get("min_bbox_size", -1) >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > config.min_bbox_size).all(1)
            scores = torch.where(large, scores, -torch.inf)
        kept, count = padded_nms(
            boxes,
            scores,
            _suppressed_apart(config.nms, level),
            config.nms.iou_threshold,
            -1.0,  # below every probability, above -inf
            config.max_per_img,
        )
        real = torch.arange(len(kept), device=kept.device) < count
        return torch.where(real[:, None], boxes.index_select(0, kept), 0), real

    def _pooled_from(self, levels: list[Tensor]) -> list[Tensor]:
        """What the second stage reads: the levels of the neck."""
        return levels

    def _classify(self, levels: list[Tensor], boxes: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (P, K, 4) and probabilities (P, K); as `CascadeRoIHead._refine_roi` and `BBoxHead.predict_by_feat`."""
        heads, extractors = steps(self.roi_head.bbox_head), steps(self.roi_head.bbox_roi_extractor)
        all_logits = []
        for step, (head, extractor) in enumerate(zip(heads, extractors, strict=True)):
            logits, deltas = head(pool(extractor, levels, boxes))
            all_logits.append(logits)
            classes = logits.shape[1] - 1
            if step < len(heads) - 1:
                if not head.reg_class_agnostic:
                    row = torch.arange(len(boxes), device=boxes.device) * classes + logits[:, :-1].argmax(1)
                    deltas = deltas.reshape(-1, 4).index_select(0, row)
                boxes = _decode(head.bbox_coder, boxes, deltas, limits)
        boxes = _decode(head.bbox_coder, boxes, deltas, limits.repeat(deltas.shape[1] // 4))
        boxes = boxes.unflatten(1, (-1, 4)).expand(-1, classes, -1)
        mean: Tensor = sum(all_logits) / len(heads)
        return boxes, mean.softmax(1)[:, :-1]

    def _masks(self, levels: list[Tensor], boxes: Tensor, labels: Tensor, count: Tensor) -> Tensor:
        """Masks of the instances, those beyond the `count` found being zeros.

        Only those of the instances found are computed, and `least_masks` if there are fewer: masks are a third of the
        cost of a detector, and N may be many times what an image holds.
        """
        limit = len(boxes)
        least = min(self.least_masks, limit)
        shown: Any = count.clamp(least, limit).item()  # an int, or a symbolic one
        torch._check(shown >= least)
        torch._check(shown <= limit)
        masks = self._masks_of(levels, boxes[:shown], labels[:shown])
        return F.pad(masks, (0, 0, 0, 0, 0, limit - shown))

    def _masks_of(self, levels: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities (R, m, m) of the mask of each region's class, averaged over the steps."""
        heads, extractors = steps(self.roi_head.mask_head), steps(self.roi_head.mask_roi_extractor)
        masks = []
        for head, extractor in zip(heads, extractors, strict=True):
            logits = head(pool(extractor, levels, boxes))
            row = torch.arange(boxes.shape[0], device=boxes.device) * logits.shape[1]
            row = row if head.class_agnostic else row + labels
            masks.append(logits.flatten(0, 1).index_select(0, row).sigmoid())
        return masks[0] if len(masks) == 1 else torch.stack(masks).mean(0)


def _suppressed_apart(nms: Any, numbers: Tensor) -> Tensor:
    """Classes or levels within which boxes suppress each other."""
    return torch.zeros_like(numbers) if nms.get("class_agnostic", False) else numbers


def _decode(coder: Any, boxes: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Boxes (P, 4) moved by deltas (P, 4 n), and clipped; as `DeltaXYWHBBoxCoder.decode`.

    That takes sizes that are numbers, and during an ONNX export another path.

    Args:
        coder: Its settings.
        boxes: (P, 4).
        deltas: (P, 4 n).
        limits: (4 n,), the largest coordinates.
    """
    from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox

    moved: Tensor = delta2bbox(
        boxes, deltas, coder.means, coder.stds, add_ctr_clamp=coder.add_ctr_clamp, ctr_clamp=coder.ctr_clamp
    )
    return moved.clamp(min=0).minimum(limits) if coder.clip_border else moved


def pool(extractor: Any, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Features (P, C, s, s) of boxes (P, 4) inside levels (1, C, H, W), each from its level; as `SingleRoIExtractor`.

    Every level pools all boxes, but those of other levels shrunk to a point, which costs nothing. Of a point, as of a
    box without area, PyTorch and onnxruntime make zeros and OpenVINO NaN, so what is pooled there is not used.
    """
    layers = extractor.roi_layers
    sides = boxes[:, 2:] - boxes[:, :2]
    scale = sides.prod(1).sqrt() / extractor.finest_scale + 1e-6
    # floor(log2(scale)) within bounds, without a logarithm that runtimes round differently.
    bounds = [2.0**level for level in range(1, len(layers))]
    level_of = sum(((scale >= bound).to(torch.int64) for bound in bounds), torch.zeros_like(scale, dtype=torch.int64))
    level_of = torch.where((sides > 0).all(1), level_of, -1)
    pooled: Tensor | float = 0.0
    for number, (layer, level) in enumerate(zip(layers, levels, strict=False)):  # the coarsest serves proposals only
        own = level_of == number
        regions = F.pad(torch.where(own[:, None], boxes, 0), (1, 0))
        features = torch.ops.torchvision.roi_align(
            level, regions, layer.spatial_scale, *layer.output_size, layer.sampling_ratio, layer.aligned
        )
        pooled = torch.where(own[:, None, None, None], features, pooled)
    assert isinstance(pooled, Tensor)
    return pooled
