"""Networks whose linear layers oneDNN computes (`distill.linear`) against the same with PyTorch's layers, in turns.

    python benchmarks/linear.py                # one thread, seconds of the processor
    python benchmarks/linear.py --threads 2    # seconds of the clock, on a quiet machine

Float32 and random weights. A step is a forward and a backward pass. On other processors than AMD's both are PyTorch's.
"""

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
from measuring import Candidate, console, make_table, measure, number, processor
from torch import Tensor, nn

from distill.linear import Linear, use_onednn
from students import RS4D


def vit(size: str, image_size: int, patch: int) -> nn.Module:
    """A ViT as `teachers.ViT` and `students.TimmStudent` compute it."""
    return use_onednn(timm.create_model(f"vit_{size}_patch16_224", img_size=image_size, patch_size=patch))


# Network, side of the image in pixels, images.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "RS4D tiny, patch 8": (partial(RS4D, "tiny", image_size=128, patch_size=8), 128, 16),
    "RS4D base": (partial(RS4D, "base", image_size=1024), 1024, 1),
    "ViT-Ti, patch 8": (partial(vit, "tiny", 128, 8), 128, 16),
    "ViT-B": (partial(vit, "base", 512, 16), 512, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    title = f"{processor()}, torch {torch.__version__}, threads: {arguments.threads}"
    table = make_table(title, "network", "images", "pass", "PyTorch / s", "oneDNN / s", "times as fast")
    for name, (build, side, count) in NETWORKS.items():
        torch.manual_seed(0)
        mine, images = build(), torch.randn(count, 3, side, side)
        networks = {"oneDNN": mine, "PyTorch": with_pytorchs_layers(copy.deepcopy(mine))}
        for kind, run in (("inference", infer), ("step", step)):
            seconds = measure(
                {
                    key: Candidate(partial(run, network, images), threads=arguments.threads, clock=clock)
                    for key, network in networks.items()
                }
            )
            ratio = seconds["PyTorch"] / seconds["oneDNN"]
            shown = (number(seconds[key]) for key in ("PyTorch", "oneDNN"))
            table.add_row(name, f"{count} of {side} px", kind, *shown, f"{ratio:.2f}")
    console.print(table)


def with_pytorchs_layers(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if type(module) is Linear:
            module.__class__ = nn.Linear
    return network


@torch.inference_mode()
def infer(network: nn.Module, images: Tensor) -> None:
    network.eval()(images)


def step(network: nn.Module, images: Tensor) -> None:
    network.train().zero_grad()
    maps = network(images)
    torch.stack([x.square().mean() for x in (maps if isinstance(maps, list) else [maps])]).sum().backward()


if __name__ == "__main__":
    main()
