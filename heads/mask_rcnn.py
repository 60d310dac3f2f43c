"""Mask R-CNN on a student's maps: MMDetection's two stages behind the Head contract.

Axes: B batch, C channels, H W the grid of a map or pixels, N instances. Boxes are (x1, y1, x2, y2) in pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from distill.contracts import FeatureInfo, Prediction, Target
from distill.errors import UserError
from heads.dense_masks import dense_mask_losses
from heads.mask_rcnn_config import mask_rcnn_config
from heads.mmcv_ops import ensure_mmcv_ops
from heads.neck import Neck


class MaskRCNN(nn.Module):
    """Instance segmentation: neck, region proposals, then a box and a mask for each region.

    Convolutions follow autocast; boxes, region pooling and losses are computed in float32 whatever it says, because
    bfloat16 rounds coordinates to several pixels.

    Source: see `heads.mask_rcnn_config.mask_rcnn_config` and `heads.neck`.

    Args:
        feature_info: Channels and strides of the student's maps; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        neck_channels: Channels of every pyramid level, and width of the proposal and mask heads; a multiple of 4.
        neck_norm: Norm of the neck's aggregator: "layer", "group" or "batch".
        neck_hidden: Width inside the aggregator; 32 is RS4D's, more learns faster.
        fc_channels: Width of the box head.
        anchor_scale: Side of an anchor, in strides of its level.
        roi_samples: Regions per image that train the second stage.
        mask_convs: Convolutions of the mask head.
        score_threshold: Lowest score of a predicted instance.
        max_detections: Most instances predicted in one image.
        proposals: Regions per image that reach the second stage.
        dense_weight: Weight of an auxiliary loss that asks the finest level for a class mask of every pixel, as the
            semantic branch of Hybrid Task Cascade (https://arxiv.org/abs/1901.07518) does; training only. A neck that
            starts from random weights learns several times faster with it.
        overrides: Merged into MMDetection's configuration (`rpn_head`, `roi_head`, `train_cfg`, `test_cfg`).

    Raises:
        UserError: No class names, a student without a pyramid, or an override that MMDetection refuses.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        neck_channels: int = 256,
        neck_norm: str = "layer",
        neck_hidden: int = 32,
        fc_channels: int = 1024,
        anchor_scale: int = 8,
        roi_samples: int = 512,
        mask_convs: int = 4,
        score_threshold: float = 0.05,
        max_detections: int = 100,
        proposals: int = 1000,
        dense_weight: float = 0.0,
        overrides: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not class_names:
            raise UserError("heads.MaskRCNN needs at least one class; the annotation file lists no categories")
        self.neck = Neck(feature_info, neck_channels, neck_norm, neck_hidden)
        self.dense_weight = dense_weight
        self.dense = nn.Conv2d(neck_channels, len(class_names), 1) if dense_weight else None
        config = mask_rcnn_config(
            len(class_names),
            self.neck.strides,
            neck_channels,
            fc_channels,
            anchor_scale,
            roi_samples,
            mask_convs,
            score_threshold,
            max_detections,
            proposals,
            overrides,
        )
        self.rpn_head, self.roi_head = _build(config)
        self._proposing = config["train_cfg"]["rpn_proposal"]
        for head in (self.rpn_head, self.roi_head.bbox_head, self.roi_head.mask_head):
            head.register_forward_hook(_as_float32)

    def loss(self, features: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses of both stages.

        Args:
            features: The student's maps (B, C_i, H_i, W_i).
            targets: Ground truth of the B images. Crowd regions are neither learned nor taken for background; only
                where an image holds nothing else does MMDetection take all of it for background.

        Returns:
            Scalars `loss_rpn_cls`, `loss_rpn_bbox`, `loss_cls`, `loss_bbox` and `loss_mask`.
        """
        levels = self._levels(features)
        padded = (levels[0].shape[-2] * self.neck.strides[0], levels[0].shape[-1] * self.neck.strides[0])
        losses, proposals = self.rpn_head.loss_and_predict(
            levels, [_proposal_sample(t, padded) for t in targets], proposal_cfg=self._proposing
        )
        losses |= self.roi_head.loss(levels, proposals, [_region_sample(t, padded) for t in targets])
        if self.dense is not None:
            dense = dense_mask_losses(self.dense(levels[0]), targets, self.neck.strides[0])
            losses |= {name: self.dense_weight * value for name, value in dense.items()}
        # MMDetection gives one proposal loss per level, the mask loss as (1,), and an accuracy among the losses.
        return {
            name: torch.stack(value).sum() if isinstance(value, list) else value.sum()
            for name, value in losses.items()
            if "loss" in name
        }

    @torch.no_grad()
    def predict(self, features: list[Tensor], targets: list[Target]) -> list[Prediction]:
        """Instances in the pixel frame of each image file, best first.

        Args:
            features: The student's maps (B, C_i, H_i, W_i).
            targets: Of these, `image_id`, `size` and `original_size` are read.
        """
        levels = self._levels(features)
        samples = [_sample(target) for target in targets]
        proposals = self.rpn_head.predict(levels, samples, rescale=False)
        results = self.roi_head.predict(levels, proposals, samples, rescale=True)
        return [
            Prediction(target.image_id, found.bboxes, found.scores, found.labels, found.masks)
            for target, found in zip(targets, results, strict=True)
        ]

    def _levels(self, features: list[Tensor]) -> list[Tensor]:
        return [level.float() for level in self.neck(features)]


def _build(config: dict[str, Any]) -> tuple[Any, Any]:
    """The two stages, initialised. Leaves MMEngine's scope, logging and process settings as they were."""
    ensure_mmcv_ops()
    from mmdet.registry import MODELS
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    train, test = config["train_cfg"], config["test_cfg"]
    try:
        with DefaultScope.overwrite_default_scope("mmdet"):
            rpn = MODELS.build({**config["rpn_head"], "train_cfg": train["rpn"], "test_cfg": test["rpn"]})
            roi = MODELS.build({**config["roi_head"], "train_cfg": train["rcnn"], "test_cfg": test["rcnn"]})
    except (TypeError, KeyError, AssertionError) as error:
        raise UserError(f"MMDetection refuses the configuration of heads.MaskRCNN (overrides): {error}") from error
    # Initialising prints one paragraph per parameter, unless the logger is off.
    logger = MMLogger.get_current_instance()
    disabled, logger.disabled = logger.disabled, True
    try:
        rpn.init_weights()
        roi.init_weights()
    finally:
        logger.disabled = disabled
    return rpn, roi


def _as_float32(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Forward hook: the outputs of a head, a tensor or nested sequences of them, in float32."""
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_as_float32(module, inputs, part) for part in output)


def _sample(target: Target) -> Any:
    """MMDetection's record of an image, without ground truth."""
    from mmdet.structures import DetDataSample

    (height, width), (original_height, original_width) = target.size, target.original_size
    return DetDataSample(
        metainfo={
            "img_id": target.image_id,
            "img_shape": target.size,
            "ori_shape": target.original_size,
            "scale_factor": (width / original_width, height / original_height),
        }
    )


def _annotated_sample(target: Target, padded: tuple[int, int]) -> tuple[Any, Tensor]:
    """An image's record with the regions to ignore, and which instances (N,) are to be learned."""
    from mmengine.structures import InstanceData

    sample = _sample(target)
    # Anchors over the padding are trained as background, as in RS4D: nothing else would silence them at inference.
    sample.set_metainfo({"pad_shape": padded})
    sample.ignored_instances = InstanceData(bboxes=target.boxes[target.crowd])
    return sample, ~target.crowd


def _proposal_sample(target: Target, padded: tuple[int, int]) -> Any:
    """What trains the proposals: boxes of a single class, "object"."""
    from mmengine.structures import InstanceData

    sample, learned = _annotated_sample(target, padded)
    labels = torch.zeros_like(target.labels[learned])
    sample.gt_instances = InstanceData(bboxes=target.boxes[learned], labels=labels)
    return sample


def _region_sample(target: Target, padded: tuple[int, int]) -> Any:
    """What trains the second stage: boxes, classes and masks."""
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    sample, learned = _annotated_sample(target, padded)
    masks = target.masks[learned].cpu().numpy().astype("uint8")
    sample.gt_instances = InstanceData(
        bboxes=target.boxes[learned],
        labels=target.labels[learned],
        masks=BitmapMasks(masks, *target.masks.shape[-2:]),
    )
    return sample
