"""Calls every compiled kernel over sizes that fill no vector, chunk or unit: what AddressSanitizer gets to see, which
is everything but the masked loads and stores that `guard_pages.py` tests.

Arguments: the instruction sets to run.
"""

import sys

import torch
from torch import Tensor

from students.scan import bidirectional_conv1d, causal_conv1d, scan_order, selective_scan, selective_scan_2d
from students.scan.cpu import library

SEQUENCES = (
    (1, 1, 1, 1, 1),
    (2, 15, 3, 3, 2),
    (1, 17, 1, 16, 33),
    (2, 130, 2, 5, 31),
    (1, 192, 1, 8, 65),
    (0, 4, 1, 2, 3),
)
IMAGES = (("cross", 3, 5), ("atrous", 3, 5), ("window:2", 5, 3), ("snake", 2, 7), ("bidirectional", 1, 19))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def scan_sequences(backend: str, batch: int, channels: int, groups: int, states: int, length: int) -> None:
    for tokens_first in (False, True):

        def laid_out(x: Tensor, tokens_first: bool = tokens_first) -> Tensor:
            return x.mT.contiguous().mT if tokens_first else x

        u, delta, z = (laid_out(normal(batch, channels, length)) for _ in range(3))
        B, C = (laid_out(normal(batch, groups, states, length)) for _ in range(2))
        A, D, state = -torch.rand(channels, states), torch.ones(channels), normal(batch, channels, states)
        out, last = selective_scan(u, delta, A, B, C, D, z, D, True, True, initial_state=state, backend=backend)
        (out.sum() + last.sum()).backward()


def scan_images(backend: str, order: str, height: int, width: int) -> None:
    directions, channels, rank, states = len(scan_order(order, height, width)), 19, 3, 5

    def image(*channels: int) -> Tensor:
        return normal(2, height, width, *channels)

    A, weight = -torch.rand(channels, states), normal(directions, channels, rank)
    for u in (image(channels), image(directions, channels)):
        selective_scan_2d(
            u,
            image(directions, rank),
            A,
            image(directions, states),
            image(directions, states),
            z=image(channels),
            delta_weight=weight,
            order=order,
            backend=backend,
        ).sum().backward()


def convolve(batch: int, channels: int, length: int, taps: int) -> None:
    x, weight, bias = normal(batch, length, channels), normal(channels, taps), torch.ones(channels)
    causal_conv1d(x.mT, weight, bias, "silu").sum().backward()
    bidirectional_conv1d(x, weight, bias, "silu").sum().backward()


def main() -> None:
    torch.manual_seed(0)
    for isa in sys.argv[1:]:
        found = library.load(isa)
        if isinstance(found, str):
            raise SystemExit(f"{isa}: {found}")
        for sizes in SEQUENCES:
            scan_sequences(f"cpu-{isa}", *sizes)
        for order, height, width in IMAGES:
            scan_images(f"cpu-{isa}", order, height, width)
        library.best = lambda found=found: found
        for sizes in ((1, 1, 1, 4), (2, 19, 7, 3), (1, 64, 130, 4)):
            convolve(*sizes)
    print("clean")


if __name__ == "__main__":
    main()
