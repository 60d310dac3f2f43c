"""Dense predictions for images larger than what a network was trained on, window by window.

Axes: B batch, K classes, H W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.tiling import window_spans


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, K, h, w) at another size (H, W), bilinear, in float32."""
    logits = logits.float()
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def predict_by_windows(predict: Callable[[Tensor], Tensor], images: Tensor, window: int, stride: int) -> Tensor:
    """Logits (B, K, H, W) of images (B, 3, H, W), the mean of all windows that contain a pixel.

    The last window of a row or column is moved inwards, so that every window is full; an image that is smaller than
    the window is predicted whole.

    Args:
        predict: Maps crops (B, 3, h, w) to logits (B, K, ., .) of any resolution; they are resized to the crop.
        images: Any H and W.
        window: Side of the windows in pixels.
        stride: Pixels from one window to the next, at most `window`.
    """
    height, width = images.shape[-2:]
    total, seen = torch.zeros(()), torch.zeros(())
    for rows in window_spans(height, window, stride):
        for columns in window_spans(width, window, stride):
            crop = images[..., rows, columns]
            logits = resize_logits(predict(crop), (crop.shape[-2], crop.shape[-1]))
            if total.ndim == 0:
                total = logits.new_zeros(*logits.shape[:2], height, width)
                seen = logits.new_zeros(height, width)
            total[..., rows, columns] += logits
            seen[rows, columns] += 1
    return total / seen
