"""Self-supervised pretraining: a vision transformer reconstructs images from a quarter of their patches.

A reimplementation of the masked autoencoder (MAE) of He et al., Masked autoencoders are scalable vision learners
(https://arxiv.org/abs/2111.06377). The encoder computes the visible patches alone, so a step costs a fraction of one on
whole images.

Axes: B batch, C channels of the encoder, D of the decoder, H W pixels, N patches, V visible and M masked ones, P
tokens that are of no patch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.layers import sin_cos_positions
from distill.tasks.base import TaskBase
from distill.tasks.corruption import to_patches
from distill.training.optim import OptimSettings


@dataclass
class DecoderSettings:
    """Settings of the decoder, which is dropped after pretraining.

    Args:
        channels: Of its tokens, a multiple of 4 and of `heads`.
        depth: Its blocks.
        heads: Heads of its attention.
    """

    channels: int = 512
    depth: int = 8
    heads: int = 16

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: Not positive, or channels that cannot be divided.
        """
        if min(self.channels, self.depth, self.heads) < 1 or self.channels % 4 or self.channels % self.heads:
            raise UserError(
                f"model.decoder has {self.channels} channels, {self.depth} blocks and {self.heads} heads; all must be "
                "above 0, and the channels a multiple of 4 and of the heads"
            )


class MaskedAutoencodingModule(TaskBase):
    """Trains a vision transformer to reconstruct the patches of images that it does not see, without labels.

    The loss is the mean squared error of the masked patches. Validation masks each image in the same way every time.
    `student.safetensors` holds the encoder, which fine-tuning (`students.TimmStudent`) and teachers (`teachers.ViT`)
    load.

    Args:
        student: A `distill.contracts.StudentBase` that computes some patches alone (`forward_visible`): a plain vision
            transformer in `students.TimmStudent`. Its last map has the patch as its stride.
        mask: Share of the patches that is masked.
        decoder: Of the reconstruction. By default that of the paper, made for encoders of 768 channels and more.
        normalize_pixels: Whether the pixels of each patch are brought to a mean of 0 and a variance of 1 before they
            are compared. What remains is texture and edges, of which features become better (the paper's Table 1d).
        optim: Optimizer and schedule.

    Raises:
        UserError: A share outside (0, 1).
    """

    name = "masked autoencoding"
    stages = ("fit", "validate")
    monitor = ("val/mse", "min")

    def __init__(
        self,
        student: nn.Module,
        mask: float = 0.75,
        decoder: DecoderSettings | None = None,
        normalize_pixels: bool = True,
        optim: OptimSettings | None = None,
    ) -> None:
        super().__init__(student, optim or OptimSettings())
        if not 0 < mask < 1:
            raise UserError(f"model.mask is {mask}; it must be above 0 and below 1")
        self.mask = mask
        self.normalize_pixels = normalize_pixels
        info = self.student.feature_info
        self.patch = info.reduction()[-1]
        self.decoder = PatchDecoder(info.channels()[-1], self.patch, decoder or DecoderSettings())
        self._scores: dict[str, float] = {}

    def scores(self) -> dict[str, float]:
        """`mse`; empty before the first validation."""
        return dict(self._scores)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step on `batch["image"]` (B, 3, H, W), RGB in [0, 1]."""
        images = batch["image"]
        loss = self.loss(images, self.order(images))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The loss with masks that depend on the position of the batch alone."""
        images = batch["image"]
        masks = torch.Generator().manual_seed(batch_idx)
        self.log("val/mse", self.loss(images, self.order(images, masks)), batch_size=len(images), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Keeps the scores."""
        self._scores = {"mse": float(self.trainer.callback_metrics["val/mse"])}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The encoder's last map (B, C, h, w) of the whole images `batch["image"]`, RGB in [0, 1]."""
        last: Tensor = self.student(self.normalize(batch["image"]))[-1]
        return last

    def order(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random order (B, N) of the patches of each image, of which the first ones are visible.

        Raises:
            UserError: The images cannot be divided into patches.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise UserError(
                f"images of {height} x {width} pixels cannot be divided into patches of {self.patch}; set "
                "data.image_size to a multiple of that"
            )
        count = (height // self.patch) * (width // self.patch)
        device = images.device if generator is None else generator.device
        return torch.rand(len(images), count, generator=generator, device=device).argsort(dim=1).to(images.device)

    def loss(self, images: Tensor, order: Tensor) -> Tensor:
        """Mean squared error of the masked patches.

        Args:
            images: (B, 3, H, W), RGB in [0, 1].
            order: (B, N) from `order`.
        """
        visible = int(order.shape[1] * (1 - self.mask))
        shown, hidden = order[:, :visible], order[:, visible:]
        images = self.normalize(images)
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        estimate = self.decoder(self.student.forward_visible(images, shown), shown, hidden, grid)
        target = _rows(to_patches(images, self.patch), hidden)
        if self.normalize_pixels:
            target = (target - target.mean(dim=2, keepdim=True)) / (target.var(dim=2, keepdim=True) + 1e-6).sqrt()
        return nn.functional.mse_loss(estimate.float(), target)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the architecture.

        Raises:
            UserError: The checkpoint was trained by another task, or with other parts.
        """
        self.require_same_parts(checkpoint, "student and decoder")


class PatchDecoder(nn.Module):
    """Estimates the pixels of masked patches from tokens of the visible ones.

    Visible patches enter as their tokens, masked ones as one learned token, all with the position of their patch.

    Args:
        channels: Channels C of the encoder's tokens.
        patch: Side of a patch in pixels.
        settings: Width D and depth.
    """

    def __init__(self, channels: int, patch: int, settings: DecoderSettings) -> None:
        super().__init__()
        width = settings.channels
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.embed = nn.Linear(channels, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, settings.heads, 4 * width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
            )
            for _ in range(settings.depth)
        )
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.pixels = nn.Linear(width, 3 * patch**2)

    def forward(self, tokens: Tensor, shown: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """Reconstructs the masked patches.

        Args:
            tokens: (B, P + V, C) from the encoder, not normalised, those of no patch first.
            shown: Numbers (B, V) of the visible patches, row by row.
            hidden: Numbers (B, M) of the masked ones.
            grid: Rows and columns of patches.

        Returns:
            The pixels of the masked patches, (B, M, 3 * patch²), as `to_patches` lays them out.
        """
        tokens = self.embed(self.norm(tokens))
        positions = sin_cos_positions(grid, tokens.shape[2]).to(tokens, non_blocking=True)
        leading = tokens.shape[1] - shown.shape[1]
        visible = tokens[:, leading:] + positions[shown]
        masked = self.mask_token + positions[hidden]
        tokens = torch.cat([tokens[:, :leading], visible, masked.to(tokens)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        estimate: Tensor = self.pixels(self.last_norm(tokens[:, -hidden.shape[1] :]))
        return estimate


def _rows(patches: Tensor, numbers: Tensor) -> Tensor:
    """The patches (B, K, C) with these numbers (B, K), of all (B, N, C)."""
    return patches.gather(1, numbers.unsqueeze(2).expand(-1, -1, patches.shape[2]))
