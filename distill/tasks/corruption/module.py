"""Noise and masks on the student's input; the target is the teacher's map of the clean view.

Axes: B batch, N tokens, C channels, H W pixels.
"""

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.tasks.corruption import control
from distill.tasks.corruption.masks import blocks, energy, guided, ranks
from distill.tasks.corruption.noise import scale, sigma_of_images
from distill.tasks.corruption.settings import SCHEDULES, CorruptionSettings
from distill.tasks.token_grid import token_grid

# Of the running training L1. Plateau must notice within tens of steps what its last change did.
_MOMENTUM = {"plateau": 0.9}
_SLOW = 0.98


class Corruption(nn.Module):
    """Adds noise to one random set of tokens and masks a disjoint one.

    Args:
        channels: C of the tokens; 0 where nothing is corrupted and the student has none.
        settings: Fractions, laws and control.

    Attributes:
        progress: Running training L1 over the baseline's: 1 while the student predicts nothing but positions.
        strength: Factor on both fractions, where it is neither fixed nor a function of `progress`.
        reference: L1 of the last clean validation over the baseline's; 0 before the first one.
        applied: Fractions of tokens that the last call made noisy and masked.
    """

    progress: Tensor
    strength: Tensor
    reference: Tensor

    def __init__(self, channels: int, settings: CorruptionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.steps = settings.steps
        self.applied: dict[str, Tensor] = {}
        self.mask_token = nn.Parameter(torch.empty(channels).normal_(std=0.02), requires_grad=settings.mask > 0)
        # Checkpoints hold what a controller cannot know otherwise.
        moving = settings.control in (*SCHEDULES, "plateau")
        self.register_buffer("progress", torch.ones(()))
        self.register_buffer("strength", torch.full((), settings.start if moving else 1.0), persistent=moving)
        self.register_buffer("reference", torch.zeros(()), persistent=settings.control == "plateau")

    def begin(self, total_steps: int) -> None:
        """Passes the number of steps of the run to the control.

        Raises:
            UserError: The control needs a number of steps, and neither the recipe nor the run has one.
        """
        if self.settings.steps is None and self.settings.control in (*SCHEDULES, "plateau"):
            if total_steps < 1:
                raise UserError(
                    f"model.corruption.control is {self.settings.control} and model.corruption.steps is null, but the "
                    "run has no number of steps; set model.corruption.steps, or trainer.max_steps"
                )
            self.steps = total_steps

    def at(self, step: int) -> None:
        """Sets the strength at a step, for controls that follow a schedule."""
        if self.settings.control in SCHEDULES:
            assert self.steps is not None, "`begin` comes first"
            law = control.linear if self.settings.control == "linear" else control.cosine
            self.strength.fill_(law(step, self.settings.start, self.settings.end, self.steps))

    def factor(self) -> Tensor:
        """The strength: a factor on both fractions, in [0, 1], as a scalar on the device."""
        if self.settings.control == "adaptive":
            return control.adaptive(self.progress, self.settings.goal)
        return self.strength

    def observe(self, l1_ratio: Tensor) -> None:
        """Updates the control with the training L1 of the last step, as a fraction of the baseline's."""
        seen = l1_ratio.detach().to(self.progress)
        if self.settings.control != "plateau":
            seen = seen.clamp(0, 1)
        momentum = _MOMENTUM.get(self.settings.control, _SLOW)
        self.progress.copy_(control.running(self.progress, seen, momentum))
        if self.settings.control == "plateau":
            assert self.steps is not None, "`begin` comes first"
            bounds = (self.settings.start, self.settings.end)
            state = (self.strength, self.progress, self.reference)
            self.strength.copy_(control.plateau(*state, self.settings.gap, bounds, self.steps))

    def observe_clean(self, l1_ratio: float) -> None:
        """Updates the control with the L1 of a validation, whose images are clean, as a fraction of the baseline's."""
        self.reference.fill_(l1_ratio)

    def report(self) -> dict[str, Tensor]:
        """The applied fractions and the state of the control at the last call, by name for the logs."""
        found = {"strength": self.factor(), **self.applied, "progress": self.progress}
        if self.settings.control == "plateau":
            found["reference"] = self.reference
        return {f"corruption/{name}": value.detach().clone() for name, value in found.items()}

    def on_pixels(self, patch_size: int) -> "Corruption":
        """Applies the same corruption to patches of normalised pixels, for pictures; masked patches are grey."""
        shown = Corruption(3 * patch_size**2, self.settings)
        for own, other in zip(shown.buffers(), self.buffers(), strict=True):
            own.copy_(other)
        nn.init.zeros_(shown.mask_token)
        return shown

    def forward(
        self, tokens: Tensor, image_size: tuple[int, int] = (1, 1), target: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Corrupts clean tokens.

        Args:
            tokens: (B, N, C), row by row.
            image_size: Of the images that they cover, (H, W); only its proportions matter, and only to blocks and
                guided masks.
            target: The teacher's map of the images (B, C', h, w), which guided masks need.

        Returns:
            The corrupted tokens (B, N, C), and a bool map (B, N) of those that were touched.
        """
        settings, count = self.settings, tokens.shape[1]
        noisy_count, masked_count = self._count(settings.noise, count), self._count(settings.mask, count)
        keys = torch.rand(tokens.shape[:2], device=tokens.device)
        if settings.mask_shape == "token" and settings.guide == "none":
            rank = ranks(keys)
            noisy = rank < noisy_count
            masked = (rank >= noisy_count) & (rank < noisy_count + masked_count)
        else:
            masked = ranks(self._order(keys, token_grid(count, image_size), target)) < masked_count
            noisy = (ranks(torch.rand_like(keys).masked_fill(masked, 2.0)) < noisy_count) & ~masked
        if settings.noise:
            sigma = sigma_of_images(len(tokens), settings.sigmas, tokens.device)
            noise = (sigma * scale(tokens, settings.noise_scale)) * torch.randn_like(tokens)
            tokens = tokens + noisy[..., None] * noise
        tokens = torch.where(masked[..., None], self.mask_token.to(tokens.dtype), tokens)
        self.applied = {name: where.float().mean() for name, where in (("noise", noisy), ("mask", masked))}
        return tokens, noisy | masked

    def _count(self, fraction: float, count: int) -> Tensor | int:
        """How many of `count` tokens; on the device where the strength is known there alone: nothing waits for it."""
        if self.settings.control == "fixed":
            return round(fraction * count)
        return (fraction * count * self.factor()).round()

    def _order(self, keys: Tensor, grid: tuple[int, int], target: Tensor | None) -> Tensor:
        """The order in which tokens are masked, guided, in blocks, or both: then the guide has the blocks' centres."""
        settings = self.settings
        if settings.guide != "none":
            assert target is not None, "guided masks need the teacher's map"
            keys = guided(keys, energy(target.to(keys.device), grid), settings.guide)
        if settings.mask_shape == "block":
            keys = blocks(keys, grid, settings.block_area, settings.block_aspect, settings.mask)
        return keys
