"""How an image lies in the square view of a network; needs no PyTorch."""

# The mean colour of ImageNet, which most students subtract: padding then enters the network as about zero.
PADDING = (0.485, 0.456, 0.406)


def fitted_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of an image whose long side is resized to `size`; halves are rounded up, as by
    `mmcv.rescale_size`.
    """
    zoom = size / max(height, width)
    return max(1, int(height * zoom + 0.5)), max(1, int(width * zoom + 0.5))
