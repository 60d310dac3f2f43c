"""Laws of the noise that tokens receive.

Axes: B batch, N tokens, C channels.
"""

import torch
from torch import Tensor


def scale(tokens: Tensor, law: str) -> Tensor:
    """The standard deviation of the noise at sigma 1, to be broadcast over tokens (B, N, C); no gradient flows through.

    Args:
        tokens: (B, N, C).
        law: "token": each token's standard deviation over its channels. "batch": that of all values. "signal": every
            value's own magnitude, which is multiplicative noise, such as the speckle of radar images.
    """
    if law == "token":
        return tokens.std(dim=-1, keepdim=True).detach()
    return tokens.std().detach() if law == "batch" else tokens.abs().detach()


def sigma_of_images(batch: int, sigmas: tuple[float, float], device: torch.device) -> Tensor | float:
    """Sigma by image (B, 1, 1), uniform between two numbers; one number, and nothing drawn, where they are the same."""
    low, high = sigmas
    return low if low == high else low + (high - low) * torch.rand(batch, 1, 1, device=device)
