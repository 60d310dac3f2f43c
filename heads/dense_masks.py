"""Per-pixel class masks whose connected regions are instances: the cheapest head.

It trains a backbone from random weights within minutes, where a two-stage detector needs hours, because every pixel of
every image is a label. Touching objects of one class become one instance.

Axes: B batch, C channels, K classes, h w grid of the student, H W pixels, N instances.
"""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.contracts import ExportForm, FeatureInfo, HeadBase, Prediction, Target
from distill.errors import UserError
from distill.instance_masks import InstanceMasks
from distill.layers import reaching
from distill.patch import Patch
from heads.parts.ranges import require_at_least, require_share


def dense_mask_losses(logits: Tensor, targets: list[Target], stride: int) -> dict[str, Tensor]:
    """Losses of per-pixel class masks, in float32.

    Binary cross-entropy, tenfold because most pixels are easy, plus the Dice loss of V-Net
    (https://arxiv.org/abs/1606.04797), averaged over classes. Crowd regions are left out.

    Args:
        logits: (B, K, H / stride, W / stride).
        targets: Instances in the pixel frame of the network's input (H, W).
        stride: Pixels per cell; a cell's truth is the covered fraction.
    """
    logits = logits.float()
    height, width = logits.shape[-2] * stride, logits.shape[-1] * stride
    covered = logits.new_zeros(*logits.shape[:2], height, width, dtype=torch.bool)
    ignored = logits.new_zeros(logits.shape[0], 1, height, width, dtype=torch.bool)
    for index, target in enumerate(targets):
        rows, columns = (min(sides) for sides in zip(target.masks.shape[-2:], (height, width), strict=True))
        planes, labels = covered[index, :, :rows, :columns], target.labels.to(logits.device)
        # Masks and crowd flags are in host memory, see `Target.to`; labels are on the device and are not read.
        for own, label, crowd in zip(target.masks, labels[:, None], target.crowd.tolist(), strict=True):
            mask = own[None, :rows, :columns].to(logits.device, non_blocking=True)  # one at a time, to save memory
            if crowd:
                ignored[index, :, :rows, :columns] |= mask
            else:
                planes.index_copy_(0, label, planes.index_select(0, label) | mask)
    truth, valid = (F.avg_pool2d(planes.float(), stride) for planes in (covered, ~ignored))
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, valid.expand_as(logits))
    probability = logits.sigmoid() * valid
    overlap = (probability * truth).sum((0, 2, 3))
    total = probability.square().sum((0, 2, 3)) + (truth.square() * valid).sum((0, 2, 3))
    return {"loss_dense": 10 * cross_entropy, "loss_dice": (1 - (2 * overlap + 1) / (total + 1)).mean()}


class DenseMasks(HeadBase):
    """Per-pixel class masks decoded from each token of the last map; connected regions are the instances.

    Each token predicts the pixels of its own patch (a linear map and depth-to-space):
    nearly all of the computation is the backbone's.
    For the loss see `dense_mask_losses`.

    Args:
        feature_info: Channels and strides of the student's maps; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        threshold: Probability above which a pixel belongs to a class, and thus the lowest score of an instance.
        min_area: Smallest region, in pixels, that counts as an instance.

    Raises:
        UserError: No class names, or a number out of range.
    """

    def __init__(
        self, feature_info: FeatureInfo, class_names: list[str], threshold: float = 0.5, min_area: int = 16
    ) -> None:
        super().__init__()
        if not class_names:
            raise UserError("DenseMasks needs at least one class; the data names none")
        require_share(threshold=threshold)
        require_at_least(0, min_area=min_area)
        channels, self.stride = feature_info.channels()[-1], feature_info.reduction()[-1]
        self.classes, self.threshold, self.min_area = len(class_names), threshold, min_area
        self.lowest_score = threshold  # the mean over pixels that are all above it
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.decode = nn.Conv2d(channels, self.classes * self.stride**2, 1)
        with torch.no_grad():  # objects are rare, so start near "none"
            self.decode.bias.fill_(-2.0)  # type: ignore[union-attr]

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        return {}

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, K, h * stride, w * stride) from the last map (B, C, h, w)."""
        logits: Tensor = self.decode(F.gelu(self.mix(features[-1])))
        return F.pixel_shuffle(logits, self.stride)

    def loss(self, features: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Cross-entropy and Dice of the masks; crowd regions are left out."""
        return dense_mask_losses(self(features), targets, stride=1)

    def export_form(self) -> ExportForm:
        """The kind "planes": a probability for every class and pixel."""
        return ExportForm("planes", _Planes(self), {"mask_threshold": self.threshold, "min_area": float(self.min_area)})

    @torch.no_grad()
    def predict(self, features: list[Tensor], targets: list[Target]) -> list[Prediction]:
        """Connected regions of every class as instances, scored by their mean probability."""
        probability = self(features).float().sigmoid()
        return [self._instances(p, target) for p, target in zip(probability, targets, strict=True)]

    def _instances(self, probability: Tensor, target: Target) -> Prediction:
        shown = reaching(probability[None], target.size)
        resized = F.interpolate(shown, target.original_size, mode="bilinear", align_corners=False)[0]
        patches, scores, labels = [], [], []
        for label, plane in enumerate(resized.cpu()):
            found = (plane > self.threshold).numpy().astype(np.uint8)
            count, regions, extents, _ = cv2.connectedComponentsWithStats(found, connectivity=4)
            for region in range(1, count):
                left, top, columns, rows, area = extents[region].tolist()
                if area >= self.min_area:
                    own = np.s_[top : top + rows, left : left + columns]
                    inside = regions[own] == region
                    patches.append(Patch(top, left, inside.astype(np.uint8)))
                    scores.append(float(plane[own][torch.from_numpy(inside)].mean()))
                    labels.append(label)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        masks = InstanceMasks.from_patches([patches[i] for i in order], target.original_size)
        boxes = [(left, top, left + columns, top + rows) for top, left, rows, columns in masks.frames]
        return Prediction(
            target.image_id,
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor([scores[i] for i in order]),
            torch.tensor([labels[i] for i in order], dtype=torch.int64),
            masks,
        )


class _Planes(nn.Module):
    """`DenseMasks` without its regions."""

    def __init__(self, head: DenseMasks) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: list[Tensor], size: Tensor) -> tuple[Tensor]:
        """Probabilities (1, K, h * stride, w * stride); `size` is for who looks for the regions."""
        return (self.head(features).float().sigmoid(),)
