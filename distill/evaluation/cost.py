"""The cost of a model: parameters, multiply-adds, time and memory for one image.

Axes: B batch, H W pixels.
"""

import copy
import logging
import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

logger = logging.getLogger(__name__)

_aten = torch.ops.aten
# Floating-point operations, two for each multiply-add, of products that PyTorch's counter leaves out, from the shapes
# of their arguments. The last is a layer of `nn.LSTM` on a CPU, whose weights are of all gates.
_LEFT_OUT: dict[Any, Callable[..., int]] = {
    _aten.dot: lambda first, *_, **__: 2 * first[0],
    _aten.mv: lambda matrix, *_, **__: 2 * math.prod(matrix),
    _aten.addmv: lambda _, matrix, *__, **___: 2 * math.prod(matrix),
    _aten.addbmm: lambda _, first, second, **__: 2 * math.prod(first) * second[2],
    _aten.mkldnn_rnn_layer: lambda x, of_x, of_state, *_, **__: (
        2 * x[0] * x[1] * (math.prod(of_x) + math.prod(of_state))
    ),
}
_MIN_PASSES = 3
_MAX_PASSES = 100
_MIN_SECONDS = 1.0


@dataclass(frozen=True)
class Cost:
    """Cost of a model for one image of a given size."""

    params: int
    trainable_params: int
    macs: int  # multiply-adds of one forward pass
    cpu_ms: float  # median of one forward pass on the CPU at batch size 1
    memory_mb: float  # weights, and the most that one forward pass on the CPU holds at once
    gpu_ms: float | None  # median of one forward pass on the GPU at batch size 1; None without one


def cost(module: nn.Module, image_size: int | tuple[int, int]) -> Cost:
    """Measures a model on the CPU and, where there is one, on the GPU, in the precision of its weights.

    Args:
        module: Any module that takes images (1, 3, H, W). One that is not on the CPU is copied.
        image_size: Side of the image, or (H, W), in pixels.
    """
    parameters = list(module.parameters())
    on_cpu = module if _weight(module).device.type == "cpu" else copy.deepcopy(module).cpu()
    return Cost(
        params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        macs=count_macs(on_cpu, image_size),
        cpu_ms=measure_latency(on_cpu, image_size),
        memory_mb=measure_memory(on_cpu, image_size),
        gpu_ms=_gpu_latency(module, image_size) if torch.cuda.is_available() else None,
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
    return _count(module, _image(module, image_size), module)


def count_macs_of_frozen(module: nn.Module, image_size: int | tuple[int, int]) -> int:
    """Counts as `count_macs` does, without computing: on the "meta" device, where tensors have shapes and no values.

    The weights are neither copied nor moved, so that a teacher of any size is counted at once.

    Args:
        module: Any module that takes images (1, 3, H, W), and whose tensors are all parameters or buffers.
        image_size: Side of the image, or (H, W), in pixels.
    """
    tensors = {name: x.to("meta") for name, x in (*module.named_parameters(), *module.named_buffers())}
    image = _image(module, image_size, "meta")
    return _count(module, image, lambda image: functional_call(module, tensors, (image,)))


@contextmanager
def macs_so_far() -> Iterator[Callable[[], int]]:
    """Counts the multiply-adds that are executed inside, as `count_macs` does: call what it gives at any time."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Fused attention of some devices, and PyTorch's fused encoder layer, are opaque to the counter. Plain matrix
    # products cost the same multiply-adds and are always counted.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=_LEFT_OUT) as counter:
            yield lambda: counter.get_total_flops() // 2
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _count(module: nn.Module, image: Tensor, forward: Callable[[Tensor], object]) -> int:
    with _undisturbed(module), macs_so_far() as macs:
        forward(image)
        return macs()


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


def measure_memory(module: nn.Module, image_size: int | tuple[int, int]) -> float:
    """Weights, and the most that one forward pass in eval mode holds at once at batch size 1, in MB of 10^6 bytes.

    Summed up are the sizes of tensors, the image among them, from the operator that makes one to when nothing holds it
    any more. Unlike the memory of the process, that is the same in every run: it has no part in what Python, PyTorch
    and allocators keep for themselves, and none in scratch space inside of an operator.

    Args:
        module: Any module that takes images (1, 3, H, W).
        image_size: Side of the image, or (H, W), in pixels.
    """
    weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    with _undisturbed(module), _HeldBytes() as held:
        module(_image(module, image_size))
    return (weights + held.most) / 1e6


class _HeldBytes(TorchDispatchMode):
    """Follows the tensors that operators make.

    Attributes:
        most: The most bytes that they had together at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._known = WeakIdKeyDictionary()  # storages, of which views are further tensors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator, and adds what it made."""
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._known[tensor.untyped_storage()] = True  # made before, such as weights
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._known:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        self._known[storage] = True
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self._now -= size


def _gpu_latency(module: nn.Module, image_size: int | tuple[int, int]) -> float | None:
    try:
        return measure_latency(copy.deepcopy(module).cuda(), image_size)
    except RuntimeError as error:  # a GPU that is full or too old, which a run on the CPU does not need
        logger.warning("the time on the GPU is not measured: %s", str(error).partition("\n")[0])
        return None


def _image(module: nn.Module, image_size: int | tuple[int, int], device: str | None = None) -> Tensor:
    """A grey image of the device, if no other is given, and precision of the module's weights."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    weight = _weight(module)
    return torch.full((1, 3, height, width), 0.5, device=device or weight.device, dtype=weight.dtype)


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
