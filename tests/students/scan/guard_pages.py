"""Runs the compiled kernels with every tensor that they touch beside pages that may not be read or written.

AddressSanitizer does not see the masked loads and stores of AVX2 and AVX-512; here the processor itself refuses those
that leave a tensor. Inputs, outputs and scratch alike end where such a page begins, and in a second round begin where
one ends.

Arguments: the instruction sets to run. Overruns are planted in child processes, which have to die of them.
"""

import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from students.scan.cpu import CpuBackend, convolution, library
from students.scan.problem import Scan
from tests.students.scan.problems import Problem, build, cast

PAGE, _PROT_NONE = mmap.PAGESIZE, 0
_mprotect = ctypes.CDLL(None, use_errno=True).mprotect

# Sizes that fill no vector, chunk, unit or tile, and some that fill them all.
SCANS = [
    Problem(channels=1, length=1, states=1, batch=1),
    Problem(channels=15, length=17, states=3, groups=3, initial_state=True),
    Problem(channels=17, length=33, states=16, batch=1, softplus=False, bias=False, skip=False, gate=False),
    Problem(channels=130, length=31, states=5, groups=2),
    Problem(channels=64, length=16, states=8, initial_state=True),
    Problem(channels=19, order="cross", grid=(3, 5), rank=3, states=5, shared=False),
    Problem(channels=21, order="atrous", grid=(3, 5), rank=2, initial_state=True),
    Problem(channels=33, order="bidirectional", grid=(1, 19), rank=1, mean=True),
    Problem(batch=0),
]
CONVOLUTIONS = [(1, 1, 1, 4), (2, 19, 7, 3), (1, 64, 130, 4), (1, 33, 129, 7), (2, 15, 3, 1)]  # B, D, L, W


def forbidding(pages: int) -> mmap.mmap:
    """So many pages of memory, with one forbidden page before them and one behind."""
    area = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for page in (0, pages + 1):
        if _mprotect(ctypes.c_void_p(start + page * PAGE), ctypes.c_size_t(PAGE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    return area


def guarded(x: Tensor, at_end: bool) -> Tensor:
    """A copy of `x`, strides included, that ends where a forbidden page begins, or begins where one ends."""
    if not x.numel():
        return x
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    used = extent * x.element_size()
    pages = -(-used // PAGE)
    area = forbidding(pages)  # the tensor keeps it
    offset = (pages + 1) * PAGE - used if at_end else PAGE
    copy = torch.frombuffer(area, dtype=x.dtype, count=extent, offset=offset).as_strided(x.shape, x.stride())
    return copy.copy_(x)


class GuardPages(TorchDispatchMode):
    """Moves whatever operators allocate beside forbidden pages."""

    def __init__(self, at_end: bool) -> None:
        super().__init__()
        self.at_end, self.moved = at_end, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = set()
        tree_map_only(Tensor, lambda x: known.add(x.untyped_storage()._cdata), (args, kwargs))

        def move(x: Tensor) -> Tensor:
            if x.untyped_storage()._cdata in known:  # a view, or written in place
                return x
            self.moved += 1
            return guarded(x, self.at_end)

        return tree_map_only(Tensor, move, func(*args, **(kwargs or {})))


def scan(isa: str, problem: Problem, at_end: bool, place: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Results and gradients; the tokens' channels are neighbours in memory in one round and apart in the other."""
    inputs = cast(build(problem), torch.float32)
    tensors = {f.name: x for f in fields(Scan) if isinstance(x := getattr(inputs, f.name), Tensor)}
    if not at_end:
        tensors |= {name: x.mT.contiguous().mT for name, x in tensors.items() if name in ("u", "delta", "z", "B", "C")}
    inputs, backend = replace(inputs, **{name: place(x) for name, x in tensors.items()}), CpuBackend(isa)
    result = backend.forward(inputs, True)
    gradients = backend.backward(
        torch.ones_like(result.out), torch.ones_like(result.last_state), inputs, result.ungated, result.starts
    )
    return [
        result.out,
        result.last_state,
        *(x for f in fields(gradients) if (x := getattr(gradients, f.name)) is not None),
    ]


def convolve(batch: int, channels: int, length: int, taps: int, place: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Results and gradients of the causal and the reversed convolution."""
    random = torch.Generator().manual_seed(0)
    shapes = ((batch, length, channels), (channels, taps), (channels,))
    tensors = [place(torch.randn(shape, generator=random)) for shape in shapes]
    settings = (True, [1 - taps, taps - 1], [1, -1])
    y = convolution.convolve(*tensors, *settings)
    return [y, *convolution.convolve_backward(torch.ones_like(y), *tensors, *settings)]


def same(run: Callable[[Callable[[Tensor], Tensor]], list[Tensor]], at_end: bool) -> None:
    """The kernel survives beside forbidden pages, and computes what it computes elsewhere."""
    expected = run(lambda x: x)
    with GuardPages(at_end) as mode:
        found = run(lambda x: guarded(x, at_end))
    assert mode.moved > 3, "nothing was guarded"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def load_beyond() -> None:
    """A bias that is one float short."""
    x, weight, bias = torch.randn(1, 5, 19), torch.randn(19, 4), guarded(torch.randn(18), at_end=True)
    convolution.convolve(x, weight, bias, True, [-3], [1])


def store_beyond() -> None:
    """An output that is one float short."""
    call = convolution._Call(torch.randn(1, 5, 19), torch.randn(19, 4), torch.randn(19), True, [-3], [1])
    call("conv_forward", out=guarded(torch.empty(5 * 19 - 1), at_end=True))


def gather_beyond(isa: str) -> None:
    """A skip connection that is one channel short in the scan."""
    inputs = cast(build(Problem(channels=19)), torch.float32)
    CpuBackend(isa).forward(replace(inputs, D=guarded(inputs.D[:, :-1].contiguous(), at_end=True)), True)


def dies(plant: Callable[[], None]) -> bool:
    """Whether a child process is killed by SIGSEGV."""
    child = os.fork()
    if child == 0:
        plant()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV


def main() -> None:
    torch.set_num_threads(1)
    for isa in sys.argv[1:]:
        found = library.load(isa)
        if isinstance(found, str):
            raise SystemExit(f"{isa}: {found}")
        library.best = lambda found=found: found
        for at_end in (True, False):
            for problem in SCANS:
                same(lambda place, p=problem, end=at_end, i=isa: scan(i, p, end, place), at_end)
            for sizes in CONVOLUTIONS:
                same(lambda place, s=sizes: convolve(*s, place), at_end)
        for plant in (load_beyond, store_beyond, lambda i=isa: gather_beyond(i)):
            assert dies(plant), f"{isa}: an overrun is not caught: {plant.__doc__ or 'of the scan'}"
        print(f"{isa} is clean", flush=True)


if __name__ == "__main__":
    main()
