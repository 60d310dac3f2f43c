"""What a model costs: parameters, multiply-adds and time for one image.

Axes: B batch, H W pixels.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

_MIN_PASSES = 3
_MAX_PASSES = 100
_MIN_SECONDS = 1.0


@dataclass(frozen=True)
class Cost:
    """Cost of a model for one image of a given size."""

    params: int
    trainable_params: int
    macs: int  # multiply-adds of one forward pass
    latency_ms: float  # median of one forward pass at batch size 1


def cost(module: nn.Module, image_size: int | tuple[int, int]) -> Cost:
    """Measures a model on the device its parameters are on.

    Args:
        module: Any module that takes images (1, 3, H, W).
        image_size: Side of the image, or (H, W), in pixels.
    """
    parameters = list(module.parameters())
    return Cost(
        params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        macs=count_macs(module, image_size),
        latency_ms=measure_latency(module, image_size),
    )


def count_macs(module: nn.Module, image_size: int | tuple[int, int]) -> int:
    """Counts the multiply-adds that one forward pass in eval mode executes.

    Counted are matrix products, convolutions, attention and every operator that registers a formula with PyTorch's FLOP
    counter; element-wise work is not. The pass really runs, operator by operator: a padded window or a second scan
    direction counts, because it is computed. Modules on the "meta" device are counted at once and without memory.

    Args:
        module: Any module that takes images (1, 3, H, W).
        image_size: Side of the image, or (H, W), in pixels.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Fused attention of some devices, and PyTorch's fused encoder layer, are opaque to the counter. Plain matrix
    # products cost the same multiply-adds and are always counted.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _undisturbed(module), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(_image(module, image_size))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.get_total_flops() // 2


def measure_latency(module: nn.Module, image_size: int | tuple[int, int]) -> float:
    """Median time of one forward pass in eval mode at batch size 1, in milliseconds.

    One pass warms up; then at least three are timed, and more until a second has passed.

    Args:
        module: Any module that takes images (1, 3, H, W).
        image_size: Side of the image, or (H, W), in pixels.
    """
    image = _image(module, image_size)
    seconds: list[float] = []
    with _undisturbed(module):
        module(image)
        _synchronize(image)
        while len(seconds) < _MIN_PASSES or (sum(seconds) < _MIN_SECONDS and len(seconds) < _MAX_PASSES):
            start = time.perf_counter()
            module(image)
            _synchronize(image)
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def _image(module: nn.Module, image_size: int | tuple[int, int]) -> Tensor:
    """A grey image of the device and precision of the module's weights."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    weight = _weight(module)
    return torch.full((1, 3, height, width), 0.5, device=weight.device, dtype=weight.dtype)


def _weight(module: nn.Module) -> Tensor:
    return next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))


def _synchronize(image: Tensor) -> None:
    if image.device.type != "cpu":
        torch.accelerator.synchronize(image.device)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, after which training flags and random numbers are as before.

    `no_grad`, not `inference_mode`: a module may keep a tensor it makes here and need it in training.
    """
    modes = {part: part.training for part in module.modules()}
    device = _weight(module).device
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for part, training in modes.items():
            part.training = training
