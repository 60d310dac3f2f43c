"""Images as tokens of square patches.

Axes: B batch, N tokens, H W pixels.
"""

from torch import Tensor, nn

from distill.errors import UserError


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
