"""RSPrompter as a graph of fixed counts, for export.

Axes: N instances, R regions with a mask, h w grid of the image map.
"""

import math

import torch
from torch import Tensor

from heads.mmdet.regions_form import RegionsForm, pool

_AT_ONCE = 32  # regions of the decoder, each of which takes 25 MB at 1024 px


class FramesForm(RegionsForm):
    """The kind "frames" of `distill.contracts.ExportForm`, with the values of `RSPrompter.predict`.

    As `RegionsForm`, for `heads.mmdet.registered.PromptRoIHead`: its last level is the image map, and the masks are
    logits (N, 4 h, 4 w) of the whole input.
    """

    least_masks = 2  # with an axis of length 1, the attention of the decoder would be another graph

    def _pooled_from(self, levels: list[Tensor]) -> list[Tensor]:
        return list(self.roi_head.placed(levels))

    def _masks(self, levels: list[Tensor], boxes: Tensor, labels: Tensor, count: Tensor) -> Tensor:
        """Of a part of the instances after the other: as many parts as the limit needs, whatever the count."""
        parts = math.ceil(len(boxes) / _AT_ONCE)
        masks, first = [], 0
        for own_boxes, own_labels in zip(boxes.tensor_split(parts), labels.tensor_split(parts), strict=True):
            masks.append(super()._masks(levels, own_boxes, own_labels, count - first))
            first += len(own_boxes)
        return torch.cat(masks)

    def _masks_of(self, levels: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        head = self.roi_head.mask_head
        prompts = head.embed(pool(self.roi_head.mask_roi_extractor, levels, boxes))
        logits: Tensor = head.decoder(head.adapt(levels[-1]), prompts)[0]  # (R, 1, 4 h, 4 w)
        return logits[:, 0]
