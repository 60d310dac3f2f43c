"""Noise and masking on the student's input: what the student must undo to match the teacher's clean view.

A reconstruction. RS4D (arXiv 2606.25324) names "adaptive noise and masking" and its runs carry two percentages
(`noise_20_20`, `30_30`, `10_0`, `0_10`), but its distillation code is unpublished. Both readings of "adaptive" are
here: noise scaled by each token's own standard deviation, and ratios driven by how far the student is below the
image-independent baseline.

Axes: B batch, N tokens, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.errors import UserError, unknown_name


@dataclass
class CorruptionSettings:
    """How the student's input is corrupted.

    Args:
        noise: Fraction of tokens that receive additive Gaussian noise, 0 to 1.
        mask: Fraction of other tokens that are replaced by a learned mask token; noise + mask is at most 1.
        sigma: Standard deviation of the noise, relative to what `noise_scale` names.
        noise_scale: "token" scales the noise by each token's own standard deviation over its channels (the
            signal-adaptive reading), "batch" by one standard deviation of all tokens.
        ratio: "fixed" holds both fractions; "adaptive" multiplies them by how far the student has come from the
            image-independent baseline to `goal`.
        goal: With ratio "adaptive", the training L1, as a fraction of the baseline's, at which the full fractions
            apply.
        level: "token" corrupts the tokens after the student's patch embedding, "image" square patches of pixels,
            which any student takes.
        patch_size: Side of those patches in pixels, with level "image".
    """

    noise: float = 0.2
    mask: float = 0.2
    sigma: float = 1.0
    noise_scale: str = "token"
    ratio: str = "fixed"
    goal: float = 0.75
    level: str = "token"
    patch_size: int = 16

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A fraction outside [0, 1], a negative sigma, or an unknown word.
        """
        for key in ("noise", "mask"):
            value = vars(self)[key]
            if not 0 <= value <= 1:
                raise UserError(f"model.corruption.{key} is {value}; it is a fraction and must lie in [0, 1]")
        if self.noise + self.mask > 1:
            raise UserError(
                f"model.corruption.noise + mask is {self.noise + self.mask}; the two sets of tokens are disjoint, "
                "so the sum must be at most 1"
            )
        if self.sigma < 0:
            raise UserError(f"model.corruption.sigma is {self.sigma}; a standard deviation cannot be negative")
        if self.patch_size < 1:
            raise UserError(f"model.corruption.patch_size is {self.patch_size}; it must be at least 1 pixel")
        if not 0 <= self.goal < 1:
            raise UserError(f"model.corruption.goal is {self.goal}; it must lie in [0, 1)")
        for key, allowed in (
            ("noise_scale", ("token", "batch")),
            ("ratio", ("fixed", "adaptive")),
            ("level", ("token", "image")),
        ):
            if vars(self)[key] not in allowed:
                raise unknown_name(f"model.corruption.{key}", vars(self)[key], allowed)


class Corruption(nn.Module):
    """Adds noise to one random set of tokens and masks a disjoint one.

    Args:
        channels: C of the tokens.
        settings: Fractions, noise law and control.
    """

    progress: Tensor

    def __init__(self, channels: int, settings: CorruptionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.mask_token = nn.Parameter(torch.zeros(channels), requires_grad=settings.mask > 0)
        nn.init.normal_(self.mask_token, std=0.02)
        # Running training L1 over the baseline's: 1 while the student predicts nothing but positions.
        self.register_buffer("progress", torch.ones(()))

    def factor(self) -> Tensor:
        """Factor on both fractions, in [0, 1], as a scalar on the device."""
        if self.settings.ratio == "fixed":
            return torch.ones_like(self.progress)
        return ((1.0 - self.progress) / (1.0 - self.settings.goal)).clamp(0.0, 1.0)

    def observe(self, l1_ratio: Tensor, momentum: float = 0.98) -> None:
        """Updates the control with the training L1 of the last step, as a fraction of the baseline's."""
        self.progress.lerp_(l1_ratio.detach().clamp(0, 1).to(self.progress), 1 - momentum)

    def on_pixels(self, patch_size: int) -> "Corruption":
        """The same fractions and noise for patches of normalised pixels, for pictures; masked patches are grey."""
        shown = Corruption(3 * patch_size**2, self.settings)
        shown.progress.copy_(self.progress)
        nn.init.zeros_(shown.mask_token)
        return shown

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Corrupts clean tokens (B, N, C); returns them (B, N, C) and a bool map (B, N) of those that were touched."""
        batch, count, _ = tokens.shape
        settings = self.settings
        # With a fixed ratio the host knows the counts. An adaptive one stays on the device, which nothing waits for.
        if settings.ratio == "fixed":
            noisy_count: Tensor | int = round(settings.noise * count)
            masked_count: Tensor | int = round(settings.mask * count)
        else:
            factor = self.factor()
            noisy_count = (settings.noise * count * factor).round()
            masked_count = (settings.mask * count * factor).round()
        order = torch.rand(batch, count, device=tokens.device).argsort(dim=1).argsort(dim=1)
        noisy = order < noisy_count
        masked = (order >= noisy_count) & (order < noisy_count + masked_count)
        if settings.noise:
            per_token = settings.noise_scale == "token"
            std = tokens.std(dim=-1, keepdim=True) if per_token else tokens.std()
            tokens = tokens + noisy[..., None] * (settings.sigma * std.detach()) * torch.randn_like(tokens)
        tokens = torch.where(masked[..., None], self.mask_token.to(tokens.dtype), tokens)
        return tokens, noisy | masked


def to_patches(images: Tensor, size: int) -> Tensor:
    """Cuts images (B, 3, H, W) into tokens (B, N, 3 * size * size), row-major.

    Raises:
        UserError: H or W is no multiple of `size`.
    """
    if images.shape[-2] % size or images.shape[-1] % size:
        raise UserError(
            f"model.corruption.patch_size is {size} and does not divide the image of "
            f"{images.shape[-2]}x{images.shape[-1]} px; choose a divisor"
        )
    return nn.functional.unfold(images, size, stride=size).transpose(1, 2)


def from_patches(tokens: Tensor, size: int, image_size: tuple[int, int]) -> Tensor:
    """The inverse of `to_patches`."""
    return nn.functional.fold(tokens.transpose(1, 2), image_size, size, stride=size)
