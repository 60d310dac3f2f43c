"""Base of the two-stage heads, on MMDetection's proposals and regions.

Axes: B batch, C channels, H W the grid of a map or pixels.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from distill.contracts import ExportForm, FeatureInfo, HeadBase, Prediction, Target
from distill.errors import UserError, first_line
from distill.instance_masks import InstanceMasks
from heads.dense_masks import dense_mask_losses
from heads.mmdet.building import build
from heads.mmdet.compact_masks import answer_with_compact_masks
from heads.mmdet.exportable import require_exportable
from heads.mmdet.float32 import answer_in_float32, steps
from heads.mmdet.full_work import full_work
from heads.mmdet.mmcv_ops import ensure_mmcv_ops
from heads.mmdet.overrides import apply_overrides
from heads.mmdet.records import image_record, proposal_record, region_record
from heads.mmdet.regions_form import RegionsForm
from heads.mmdet.two_stage_config import TwoStageSettings, require_nms_types
from heads.parts.neck import Neck
from heads.parts.ranges import require_at_least


class TwoStageHead(HeadBase):
    """Instance segmentation: neck, region proposals, then a box and a mask for each region.

    Convolutions follow autocast; boxes, region pooling and losses are computed in float32 whatever it says, because
    bfloat16 rounds coordinates to several pixels. A detector names itself and describes its parts.

    Attributes:
        detector: MMDetection's name of the detector.
        image_map: Whether its parts also get a map of the whole image, after the levels of the neck.

    Args:
        feature_info: Channels and strides of the student's maps; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        neck_channels: Channels of every pyramid level, and width of the proposal and mask heads; a multiple of 4.
        neck_norm: Norm of the neck's aggregator or top-down FPN: "layer", "group", "batch" or "none".
        neck_hidden: Width inside the aggregator; 32 is RS4D's, more learns faster.
        neck_two_way: Whether the aggregator visits the student's maps from deep to shallow as well.
        neck_path_aggregation: Whether finer pyramid levels flow into coarser ones.
        neck_skip_finest: Whether the pyramid leaves out its finest level, which costs as much as three times the others
            together. Anchors stay as large as they are with it.
        fc_channels: Width of the box head.
        anchor_scale: Side of an anchor, in strides of its level; with `neck_skip_finest` in halves of them.
        roi_samples: Regions per image that train the second stage.
        mask_convs: Convolutions of the mask head.
        score_threshold: Lowest score of a predicted instance.
        max_detections: Most instances predicted in one image.
        proposals: Regions per image that reach the second stage.
        dense_weight: Weight of an auxiliary loss that asks the finest level for a class mask of every pixel, as the
            semantic branch of Hybrid Task Cascade (https://arxiv.org/abs/1901.07518) does; training only. A neck that
            starts from random weights learns several times faster with it.
        overrides: Merged into MMDetection's `rpn_head`, `roi_head`, `train_cfg` and `test_cfg`, nested or dotted (see
            `heads.mmdet.overrides`). Every setting of MMDetection's can be reached but those of the neck.

    Raises:
        UserError: MMDetection is not installed, no class names, a student without a pyramid, a number out of range, or
            an override that MMDetection or the data refuses.
    """

    float32_only = True
    operator_modules = ("heads.mmdet.padded",)
    detector: ClassVar[str]
    image_map: ClassVar[bool] = False

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        neck_channels: int = 256,
        neck_norm: str = "layer",
        neck_hidden: int = 32,
        neck_two_way: bool = False,
        neck_path_aggregation: bool = False,
        neck_skip_finest: bool = False,
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
        name = type(self).__name__
        ensure_mmcv_ops(f"heads.{name}")
        if not class_names:
            raise UserError(f"heads.{name} needs at least one class; the annotation file lists no categories")
        require_at_least(0, dense_weight=dense_weight)
        require_at_least(1, anchor_scale=anchor_scale)
        self.neck = Neck(
            feature_info,
            neck_channels,
            neck_norm,
            neck_hidden,
            neck_two_way,
            neck_path_aggregation,
            self.image_map,
            neck_skip_finest,
        )
        self.dense_weight = dense_weight
        self.dense = nn.Conv2d(neck_channels, len(class_names), 1) if dense_weight else None
        settings = TwoStageSettings(
            classes=len(class_names),
            strides=self.neck.strides,
            channels=neck_channels,
            fc_channels=fc_channels,
            anchor_scale=anchor_scale / 2 if neck_skip_finest else anchor_scale,
            roi_samples=roi_samples,
            mask_convs=mask_convs,
            score_threshold=score_threshold,
            max_detections=max_detections,
            proposals=proposals,
        )
        self._sections = apply_overrides(self.sections(settings), overrides or {}, name)
        train, test = self._sections["train_cfg"], self._sections["test_cfg"]
        try:
            self.rpn_head = build({**self._sections["rpn_head"], "train_cfg": train["rpn"], "test_cfg": test["rpn"]})
            self.roi_head = build({**self._sections["roi_head"], "train_cfg": train["rcnn"], "test_cfg": test["rcnn"]})
            require_nms_types(self._sections, name)
        except UserError:
            raise
        except Exception as error:  # whatever a part of MMDetection makes of a setting that it does not understand
            raise UserError(
                f"MMDetection refuses the configuration of heads.{name} (overrides): {first_line(error)}"
            ) from error
        for part in (*steps(self.roi_head.bbox_head), *steps(self.roi_head.mask_head)):
            # Parts that know no classes, such as the prompt mask head, have no `num_classes`.
            if vars(part).get("num_classes", settings.classes) != settings.classes:
                raise UserError(
                    f"overrides of heads.{name} give {type(part).__name__} num_classes {part.num_classes}, but the "
                    f"data has {settings.classes} classes; leave num_classes out (data.classes chooses among them)"
                )
        from mmengine.config import ConfigDict  # once `build` has seen to it that MMEngine can be imported

        self._proposing = ConfigDict(train["rpn_proposal"])
        answer_in_float32(self.rpn_head, self.roi_head)
        answer_with_compact_masks(self.roi_head.mask_head)

    @property
    def max_detections(self) -> int:
        """Most instances in one image. Raising it adds instances and keeps the others."""
        return int(self.roi_head.test_cfg.max_per_img)

    @max_detections.setter
    def max_detections(self, limit: int) -> None:
        self.roi_head.test_cfg.max_per_img = limit

    @property
    def score_threshold(self) -> float:
        """Lowest score of an instance."""
        return float(self.roi_head.test_cfg.score_thr)

    @score_threshold.setter
    def score_threshold(self, threshold: float) -> None:
        self.roi_head.test_cfg.score_thr = threshold

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        return {
            "neck_channels": 32,
            "fc_channels": 64,
            "roi_samples": 32,
            "mask_convs": 1,
            "proposals": 64,
            "score_threshold": 0.0,
            "max_detections": 10,
        }

    def sections(self, settings: TwoStageSettings) -> dict[str, Any]:
        """`rpn_head`, `roi_head`, `train_cfg` and `test_cfg` of the detector, before any override."""
        raise NotImplementedError

    def mmdet_config(self) -> dict[str, Any]:
        """The head as the parts of an MMDetection detector: its `type`, neck and the sections as built.

        Raises:
            UserError: The head has the auxiliary loss of `dense_weight`, which MMDetection's detectors lack.
        """
        if self.dense is not None:
            raise UserError(
                f"dense_weight is {self.dense_weight}, a loss that MMDetection's {self.detector} does not have; "
                "set it to 0 (--model.head.dense_weight 0)"
            )
        return {"type": self.detector, "neck": copy.deepcopy(self.neck.mmdet_config), **copy.deepcopy(self._sections)}

    def export_form(self) -> ExportForm:
        """The kind "regions": boxes, scores, labels, their count, and masks; see `heads.mmdet.regions_form`.

        Raises:
            UserError: Overrides chose a part or a setting that the graph does not know.
        """
        require_exportable(type(self).__name__, self.rpn_head, self.roi_head)
        module = RegionsForm(self.neck, self.rpn_head, self.roi_head)
        settings = {"mask_threshold": float(self.roi_head.test_cfg.mask_thr_binary)}
        return ExportForm("regions", module, settings, coarsest=self.neck.strides[-1])

    def cost_parts(self) -> Mapping[str, Callable[..., Any]]:
        """Neck, proposals, regions and masks."""
        return {
            "neck": self.neck.forward,
            "proposals": self.rpn_head.predict,
            "regions": self.roi_head.predict_bbox,
            "masks": self.roi_head.predict_mask,
        }

    def full_work(self) -> AbstractContextManager[None]:
        """See `heads.mmdet.full_work`."""
        return full_work(self.rpn_head, self.roi_head)

    def onnx_operators(self) -> Mapping[OpOverload, Callable[..., Any]]:
        """Translations of padded top-k, padded NMS and RoIAlign."""
        from heads.mmdet.onnx import detector_translations  # needs onnxscript, an extra

        return detector_translations()

    def loss(self, features: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses of both stages.

        Args:
            features: The student's maps (B, C_i, H_i, W_i).
            targets: Ground truth of the B images. Crowd regions are neither learned nor taken for background; only
                where an image holds nothing else does MMDetection take all of it for background.

        Returns:
            Scalars `loss_rpn_cls`, `loss_rpn_bbox`, and `loss_cls`, `loss_bbox` and `loss_mask`, which a cascade has
            once for each step, as `s0.loss_cls` and so on.
        """
        levels = self._levels(features)
        padded = (levels[0].shape[-2] * self.neck.strides[0], levels[0].shape[-1] * self.neck.strides[0])
        losses, proposals = self.rpn_head.loss_and_predict(
            levels,
            [proposal_record(target, padded) for target in targets],
            proposal_cfg=self._proposing,
        )
        losses |= self.roi_head.loss(levels, proposals, [region_record(target, padded) for target in targets])
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
        records = [image_record(target) for target in targets]
        proposals = self.rpn_head.predict(levels, records, rescale=False)
        results = self.roi_head.predict(levels, proposals, records, rescale=True)
        return [
            Prediction(target.image_id, found.bboxes, found.scores, found.labels, _compact(found.masks))
            for target, found in zip(targets, results, strict=True)
        ]

    def _levels(self, features: list[Tensor]) -> list[Tensor]:
        return [level.float() for level in self.neck(features)]


def _compact(masks: Tensor | InstanceMasks) -> InstanceMasks:
    """What MMDetection gives where nothing was found, or by a mask head that pastes in its own way, is dense."""
    return masks if isinstance(masks, InstanceMasks) else InstanceMasks.from_dense(masks)
