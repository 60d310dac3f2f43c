"""Feature maps as colours.

Axes: K images, C channels, H W the grid of a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def pca_colours(reference: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    """Shows feature maps as colours: the reference's first three principal components, as red, green and blue.

    Basis and range are those of the reference: equal features have equal colours, and maps that are still far from it
    look so.

    Args:
        reference: Maps (K, C, H, W) that the components are fitted on.
        others: Further maps (K, C, h, w) of the same scale.

    Returns:
        Colours (K, H, W, 3) in [0, 1], the reference's first; 0 where a map is not finite.
    """
    values = _flat(reference)
    centre = values.mean(0)
    basis = _components(values - centre)
    low, high = ((values - centre) @ basis).quantile(torch.tensor([0.02, 0.98]).double(), dim=0)
    spread = (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    colours = []
    for maps in (reference, *others):
        scaled = ((_flat(maps) - centre) @ basis - low) / spread
        colours.append(scaled.nan_to_num(0).clamp(0, 1).view(maps.shape[0], *maps.shape[-2:], 3))
    return colours


def _flat(maps: Tensor) -> Tensor:
    """All positions (K * H * W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).double().cpu()


def _components(values: Tensor) -> Tensor:
    """Three components (C, 3) of centred values (N, C), which every machine finds alike.

    Solvers choose the sign of a component; here its largest entry is positive. With fewer than three channels the
    last component is repeated.
    """
    vectors = torch.linalg.eigh(values.T @ values).eigenvectors.flip(1)
    basis = vectors[:, [min(i, vectors.shape[1] - 1) for i in range(3)]]
    return basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
