"""Mask head with SAM's decoder: the features of a region become prompts, and prompts a mask of the whole image.

Axes: B images, R regions, K prompts of a region, C channels, h w grid of the image map, H W pixels.
"""

from collections.abc import Iterator
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from distill.errors import UserError
from distill.instance_masks import InstanceMasks
from distill.layers import reaching
from heads.mmdet.mask_samplers import RegionMasks, mask_sampler
from heads.parts.norms import layer_norm
from heads.parts.ranges import require_at_least
from heads.parts.sam_mask_decoder import MaskDecoder

_UPSCALING = 4  # cells of the decoder's logits per cell of the image map
_RESIZED = 2**24  # pixels resized at once in a prediction, 64 MiB


class PromptEmbedding(nn.Sequential):
    """Maps the features of a region (R, C, 2 s, 2 s) to its prompts (R, K, D).

    Source: RSPrompter-anchor. Deviation: a layer norm after the convolution, where the original has a batch norm over
    regions, which a batch without any cannot have.

    Args:
        in_channels: C.
        size: Side 2 s of a region, in cells.
        channels: D.
        prompts: K.
        sine: Whether a prompt is the sine of one half of the last layer's output plus the other half, instead of that
            output; then it is twice as wide.
    """

    def __init__(self, in_channels: int, size: int, channels: int, prompts: int, sine: bool) -> None:
        side = (size + 1) // 2
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1),
            layer_norm(in_channels),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(in_channels * side**2, in_channels),
            nn.ReLU(inplace=True),
            nn.Linear(in_channels, in_channels),
            nn.ReLU(inplace=True),
            nn.Linear(in_channels, prompts * channels * (2 if sine else 1)),
            nn.Unflatten(1, (prompts, -1)),
        )
        self.sine = sine

    def forward(self, regions: Tensor) -> Tensor:
        """Maps (R, C, 2 s, 2 s) to (R, K, D)."""
        prompts: Tensor = super().forward(regions)
        return prompts[..., ::2].sin() + prompts[..., 1::2] if self.sine else prompts


@MODELS.register_module(name="DistillPromptMaskHead")
class PromptMaskHead(BaseModule):
    """Prompts from regions, and SAM's mask decoder over an image map; class-agnostic.

    Source: Chen et al., "RSPrompter" (https://arxiv.org/abs/2306.16269), anchor variant, as RS4D uses it. Deviations:
    the layer norm of `PromptEmbedding`; masks compared with the truth at points or on the decoder's grid and not at
    every pixel; a Dice loss beside the cross-entropy, because a vehicle of 30 px is a thousandth of its image.

    Attributes:
        stride: Of the cells of a mask, in pixels.
        compact: Whether predicted masks are `InstanceMasks`; MMDetection's metrics take a tensor.

    Args:
        in_channels: Channels of a region.
        image_channels: Channels of the image map; a 1 x 1 convolution takes it to `decoder_channels` where they differ.
        image_stride: Stride of the image map, in pixels.
        roi_feat_size: Side of a region, in cells.
        prompts: Prompts of a region.
        prompt_sine: See `PromptEmbedding`.
        decoder_channels: Width of the decoder; 256 in SAM.
        decoder_checkpoint: Official weights of SAM for the decoder. None starts from random ones.
        decoder_recompute: Whether training computes the decoder again in the backward pass instead of keeping what is
            in it: up to a third slower, in the memory of one chunk.
        decoder_chunk: Regions that the decoder takes at once.
        mask_loss: The mask sampler: "points", "grid" or "pixels", see `heads.mmdet.mask_samplers`.
        loss_mask: Of each compared place, in MMDetection's notation.
        loss_dice: Of each region, likewise.

    Raises:
        UserError: A checkpoint that does not fit, no such mask sampler, a number out of range, or a map whose
            stride the decoder's upscaling does not divide.
    """

    def __init__(
        self,
        in_channels: int,
        image_channels: int,
        image_stride: int,
        loss_mask: dict[str, Any],
        loss_dice: dict[str, Any],
        roi_feat_size: int = 14,
        prompts: int = 5,
        prompt_sine: bool = True,
        decoder_channels: int = 256,
        decoder_checkpoint: str | None = None,
        decoder_recompute: bool = False,
        decoder_chunk: int = 16,
        mask_loss: str = "points",
    ) -> None:
        super().__init__()
        require_at_least(1, prompts=prompts, decoder_channels=decoder_channels)
        require_at_least(1, **{"overrides roi_head.mask_head.decoder_chunk": decoder_chunk})
        if image_stride % _UPSCALING:
            raise UserError(
                f"the prompt head reads a map whose stride is a multiple of {_UPSCALING} pixels (got {image_stride}); "
                "let the student emit another map last (`out_indices`), or take heads.MaskRCNN"
            )
        self.stride, self.recompute, self.chunk = image_stride // _UPSCALING, decoder_recompute, decoder_chunk
        self.compact = False
        self.sample = mask_sampler(mask_loss)
        self.embed = PromptEmbedding(in_channels, roi_feat_size, decoder_channels, prompts, prompt_sine)
        same = image_channels == decoder_channels
        self.adapt = nn.Identity() if same else nn.Conv2d(image_channels, decoder_channels, 1)
        self.decoder = MaskDecoder(decoder_channels)
        if decoder_checkpoint is not None:
            self.decoder.load(decoder_checkpoint)
        self.decoder.train_single_mask_only()
        self.loss_mask, self.loss_dice = MODELS.build(loss_mask), MODELS.build(loss_dice)

    def forward(self, regions: Tensor, image_maps: Tensor, image_of_region: Tensor) -> Tensor:
        """Mask logits of each region.

        Args:
            regions: Features (R, C, S, S), in the order of images.
            image_maps: (B, image_channels, h, w).
            image_of_region: Index into B, (R,).

        Returns:
            (R, 1, 4 h, 4 w), over the whole image.
        """
        prompts, embeddings = self.embed(regions), self.adapt(image_maps)
        counts = torch.bincount(image_of_region.long(), minlength=len(image_maps)).tolist()
        masks = [
            self._decode(embedding[None], chunk)
            for embedding, own in zip(embeddings, prompts.split(counts), strict=True)
            for chunk in own.split(self.chunk)
        ]
        return torch.cat(masks)

    def _decode(self, embedding: Tensor, prompts: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.decoder, embedding, prompts, use_reentrant=False)[0]
        masks: Tensor = self.decoder(embedding, prompts)[0]
        return masks

    def loss_and_target(
        self, mask_preds: Tensor, sampling_results: list[Any], batch_gt_instances: list[Any], rcnn_train_cfg: Any
    ) -> dict[str, Any]:
        """`loss_mask` and `loss_mask_dice` of the positive regions, as the RoI heads of MMDetection ask for them.

        Args:
            mask_preds: Logits (R, 1, 4 h, 4 w) of the positive regions.
            sampling_results: Which regions of each image are positive, and which instance each belongs to.
            batch_gt_instances: Instances of each image, with `masks` in the frame of the network's input.
            rcnn_train_cfg: Settings of the points.
        """
        if not len(mask_preds):
            none = mask_preds.sum()
            return {"loss_mask": {"loss_mask": none, "loss_mask_dice": none}}
        height, width = (self.stride * side for side in mask_preds.shape[2:])
        instances, matched = [], []
        for own, result in zip(batch_gt_instances, sampling_results, strict=True):
            needed, position = torch.unique(result.pos_assigned_gt_inds, return_inverse=True)
            masks = own.masks[needed.cpu().numpy()].to_tensor(torch.uint8, mask_preds.device)
            # The grid may reach beyond the input, or stop short of it, where a side is no multiple of the stride.
            instances.append(F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1])))
            matched.append(position)
        truth = RegionMasks(instances, matched)
        logits, values = self.sample(mask_preds, truth, rcnn_train_cfg)
        only_class = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        losses = {
            "loss_mask": self.loss_mask(logits[:, None], values, only_class),
            "loss_mask_dice": self.loss_dice(logits, values),
        }
        return {"loss_mask": losses}

    def predict_by_feat(
        self,
        mask_preds: tuple[Tensor, ...],
        results_list: list[Any],
        batch_img_metas: list[dict[str, Any]],
        rcnn_test_cfg: Any,
        rescale: bool = False,
    ) -> list[Any]:
        """Adds `masks` to the results of each image, and takes their boxes to the same frame.

        Args:
            mask_preds: Logits (R, 1, 4 h, 4 w) of each image.
            results_list: Boxes, scores and labels of each image.
            batch_img_metas: Sizes of each image.
            rcnn_test_cfg: `mask_thr_binary`.
            rescale: Whether the frame is that of the file instead of that of the network's input.
        """
        for logits, results, sizes in zip(mask_preds, results_list, batch_img_metas, strict=True):
            shown, frame = sizes["img_shape"][:2], sizes["ori_shape" if rescale else "img_shape"][:2]
            if rescale:
                results.bboxes = results.bboxes / results.bboxes.new_tensor(sizes["scale_factor"]).repeat(2)
            results.masks = self._binary(logits, shown, frame, rcnn_test_cfg.mask_thr_binary)
        return results_list

    def _binary(
        self, logits: Tensor, shown: tuple[int, int], frame: tuple[int, int], threshold: float
    ) -> Tensor | InstanceMasks:
        """Masks (R, *frame) from logits (R, 1, 4 h, 4 w), of whose pixels those in `shown` are real."""
        parts = self._resized(logits, shown, frame, threshold)
        if self.compact:
            return InstanceMasks.cat([InstanceMasks.from_dense(part) for part in parts])
        return torch.cat(list(parts))

    def _resized(
        self, logits: Tensor, shown: tuple[int, int], frame: tuple[int, int], threshold: float
    ) -> Iterator[Tensor]:
        """The masks, of a few regions at a time."""
        size = tuple(self.stride * side for side in logits.shape[2:])
        at_once = max(1, _RESIZED // max(size[0] * size[1], frame[0] * frame[1]))
        for part in logits.split(at_once):
            full = F.interpolate(part, size, mode="bilinear", align_corners=False)
            resized = F.interpolate(reaching(full, shown), frame, mode="bilinear", align_corners=False)[:, 0]
            yield resized.sigmoid() >= threshold
