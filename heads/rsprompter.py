"""RSPrompter-anchor, the second head of RS4D: regions prompt SAM's mask decoder."""

from importlib import import_module
from typing import Any

from distill.contracts import ExportForm, FeatureInfo
from heads.mmdet.exportable import PROMPTED, require_exportable
from heads.mmdet.frames_form import FramesForm
from heads.mmdet.mmcv_ops import ensure_mmcv_ops
from heads.mmdet.two_stage import TwoStageHead
from heads.mmdet.two_stage_config import (
    TwoStageSettings,
    assigner_cfg,
    box_head,
    region_extractors,
    rpn_head,
    test_cfg,
    train_cfg,
)
from heads.parts.ranges import require_at_least


class RSPrompter(TwoStageHead):
    """Mask R-CNN whose mask branch prompts SAM's mask decoder: a reconstruction of RSPrompter-anchor.

    Proposals and boxes are those of `MaskRCNN`. The features of a region become a few prompt embeddings; SAM's mask
    decoder, which is trained as well, reads them together with the student's last map instead of SAM's image
    embedding, and gives a mask of the whole image at a quarter of the map's stride: 256 x 256 for 1024 px. A student
    distilled from SAM's image embedding fits as it is; where channels differ a 1 x 1 convolution comes between, and a
    student whose last map is coarser than stride 16 gives the level of its pyramid at that stride instead.

    Everything of the mask branch is a key of `roi_head.mask_head` in `overrides`, see `PromptMaskHead`, and where the
    points of its loss are taken a key of `train_cfg.rcnn`.

    Source: Chen et al., "RSPrompter: Learning to Prompt for Remote Sensing Instance Segmentation based on Visual
    Foundation Model", TGRS 2024 (https://arxiv.org/abs/2306.16269), anchor variant, and RS4D, which uses it without
    the sine of prompts. Deviations: those of `MaskRCNN` and `PromptMaskHead`.

    Args:
        feature_info: Channels and strides of the student's maps; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        prompts: Prompt embeddings of a region.
        prompt_sine: Whether a prompt is half a sine, as in RSPrompter, or all linear, as in RS4D.
        decoder_checkpoint: Official weights of SAM (`sam_vit_b_01ec64.pth` or a sibling) for the decoder. None starts
            from random ones.
        decoder_channels: Width of the decoder; 256 is SAM's, less is for small machines.
        decoder_recompute: Whether training computes the decoder twice instead of keeping what is in it, about 70 MiB
            per region at 1024 px.
        mask_loss: Where masks are compared with the truth: "points", which lie mostly where the mask is uncertain;
            "grid", every cell of the decoder's logits; "pixels", every pixel of the input, as the original does.
        mask_points: Points per region, 2 or more.
        neck_channels: As for `TwoStageHead`, like all that follow.
        neck_norm: Norm of the neck.
        neck_hidden: Width inside the aggregator.
        neck_two_way: Whether the aggregator visits the maps in both directions.
        neck_path_aggregation: Whether finer levels flow into coarser ones.
        neck_skip_finest: Whether the finest level is left out.
        fc_channels: Width of the box head.
        anchor_scale: Side of the larger of two anchors, in strides of its level; the other is half of it.
        roi_samples: Regions per image that train the second stage, a quarter of them positive: those get a mask.
        score_threshold: Lowest score of a predicted instance.
        max_detections: Most instances predicted in one image.
        proposals: Regions per image that reach the second stage.
        dense_weight: Weight of the auxiliary loss of `TwoStageHead`.
        overrides: See `TwoStageHead`; these go before the keys above.

    Raises:
        UserError: As for `TwoStageHead` and `PromptMaskHead`.
    """

    detector = "MaskRCNN"
    image_map = True

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        prompts: int = 5,
        prompt_sine: bool = True,
        decoder_checkpoint: str | None = None,
        decoder_channels: int = 256,
        decoder_recompute: bool = False,
        mask_loss: str = "points",
        mask_points: int = 12544,
        neck_channels: int = 256,
        neck_norm: str = "layer",
        neck_hidden: int = 32,
        neck_two_way: bool = False,
        neck_path_aggregation: bool = False,
        neck_skip_finest: bool = False,
        fc_channels: int = 1024,
        anchor_scale: int = 8,
        roi_samples: int = 256,
        score_threshold: float = 0.05,
        max_detections: int = 100,
        proposals: int = 1000,
        dense_weight: float = 0.0,
        overrides: dict[str, Any] | None = None,
    ) -> None:
        require_at_least(2, mask_points=mask_points)
        ensure_mmcv_ops("heads.RSPrompter")
        import_module("heads.mmdet.registered")  # here and not above, because it imports MMDetection
        keys = {
            "prompts": prompts,
            "prompt_sine": prompt_sine,
            "decoder_checkpoint": decoder_checkpoint,
            "decoder_channels": decoder_channels,
            "decoder_recompute": decoder_recompute,
            "mask_loss": mask_loss,
        }
        own = {f"roi_head.mask_head.{key}": value for key, value in keys.items()}
        own["train_cfg.rcnn.num_points"] = mask_points
        super().__init__(
            feature_info,
            class_names,
            neck_channels=neck_channels,
            neck_norm=neck_norm,
            neck_hidden=neck_hidden,
            neck_two_way=neck_two_way,
            neck_path_aggregation=neck_path_aggregation,
            neck_skip_finest=neck_skip_finest,
            fc_channels=fc_channels,
            anchor_scale=anchor_scale,
            roi_samples=roi_samples,
            score_threshold=score_threshold,
            max_detections=max_detections,
            proposals=proposals,
            dense_weight=dense_weight,
            overrides=own | (overrides or {}),
        )
        self.roi_head.mask_head.compact = True

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        shared = {key: value for key, value in super().smoke_args().items() if key != "mask_convs"}
        return shared | {"decoder_channels": 32, "mask_points": 256}

    def export_form(self) -> ExportForm:
        """The kind "frames": boxes, scores, labels, their count, and masks of the whole input.

        Raises:
            UserError: Overrides chose a part or a setting that the graph does not know.
        """
        require_exportable(type(self).__name__, self.rpn_head, self.roi_head, PROMPTED)
        mask_head = self.roi_head.mask_head
        settings = {
            "mask_threshold": float(self.roi_head.test_cfg.mask_thr_binary),
            "mask_stride": float(mask_head.stride),
        }
        module = FramesForm(self.neck, self.rpn_head, self.roi_head)
        return ExportForm("frames", module, settings, coarsest=self.neck.strides[-1])

    def sections(self, settings: TwoStageSettings) -> dict[str, Any]:
        """See `TwoStageHead.sections`."""
        proposing = rpn_head(settings) | {"type": "DistillRPNHead"}
        proposing["anchor_generator"]["scales"] = [settings.anchor_scale / 2, settings.anchor_scale]
        trained = assigner_cfg(0.5, settings, low_quality=True)
        del trained["mask_size"]  # of masks in the frame of a region
        return {
            "rpn_head": proposing,
            "roi_head": {
                "type": "DistillPromptRoIHead",
                **region_extractors(settings),
                "bbox_head": box_head(settings, target_std=0.1, class_agnostic=False),
                "mask_head": self._mask_head(settings),
                "positional_encoding": {
                    "type": "SinePositionalEncoding",
                    "num_feats": settings.channels // 2,
                    "normalize": True,
                },
            },
            # Three times the points are tried, and the least certain taken for three quarters of them, as in PointRend.
            "train_cfg": train_cfg(
                settings, trained | {"num_points": 12544, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75}
            ),
            "test_cfg": test_cfg(settings),
        }

    def _mask_head(self, settings: TwoStageSettings) -> dict[str, Any]:
        return {
            "type": "DistillPromptMaskHead",
            "in_channels": settings.channels,
            "image_channels": self.neck.image_channels,
            "image_stride": self.neck.image_stride,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True},
            "loss_dice": {
                "type": "DiceLoss",
                "use_sigmoid": True,
                "activate": True,
                "naive_dice": True,
                "eps": 1.0,
            },
        }
