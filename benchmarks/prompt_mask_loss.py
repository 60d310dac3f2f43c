"""Time and memory of the prompt head's mask loss: at points, on the decoder's grid, and at every pixel as published.

    python benchmarks/prompt_mask_loss.py                       # two minutes and 3 GiB on one CPU core
    python benchmarks/prompt_mask_loss.py --regions 32 --image-size 512

One forward and backward pass of the loss alone, from mask logits that exist to their gradient, for positive regions of
one image with 20 objects. Then, for fewer regions, SAM's mask decoder that makes the logits: with everything in it kept
for the backward pass, and computed again, four regions at once. Memory is what a pass adds to its inputs; on the CPU
each is measured in a process of its own.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import torch
from measuring import Candidate, console, make_table, measure, number, processor
from scan_memory import RESET, peak_on_cuda, resident_peak
from torch import nn

from heads import RSPrompter

OBJECTS = 20
LOSSES = {"every pixel": "pixels", "grid of logits": "grid", "points": "points"}
DECODERS = {"decoder, kept": False, "decoder, computed again": True}


class Maps:
    """`feature_info` of RS4D at 1024 px."""

    def channels(self) -> list[int]:
        return [256]

    def reduction(self) -> list[int]:
        return [16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=1024, help="side of the input in pixels, a multiple of 16")
    parser.add_argument("--regions", type=int, default=100, help="positive regions in the loss")
    parser.add_argument("--decoder-regions", type=int, default=16, help="regions in the decoder")
    parser.add_argument("--points", type=int, default=12544, help="per region")
    parser.add_argument("--only", choices=[*LOSSES, *DECODERS], help="print the MiB of one pass on the CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only:
        print(peak_on_cpu(arguments))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    size, side = arguments.image_size, arguments.image_size // 4
    console.print(f"{name}, torch {torch.__version__}, input {size} x {size}, logits {side} x {side}, float32")
    show(f"Mask loss of {arguments.regions} regions, {arguments.points} points", LOSSES, arguments, device)
    show(f"Mask decoder, {arguments.decoder_regions} regions", DECODERS, arguments, device)


def show(title: str, names: dict[str, object], arguments: argparse.Namespace, device: str) -> None:
    passes = {name: one_pass(name, arguments, device) for name in names}
    seconds = measure({name: Candidate(run) for name, run in passes.items()})
    memory = {name: peak(name, run, arguments, device) for name, run in passes.items()}
    table = make_table(title, "", "ms", "MiB", "times faster", "times less memory")
    first = next(iter(names))
    for name in names:
        ratios = number(seconds[first] / seconds[name]), number(memory[first] / memory[name])
        table.add_row(name, number(1000 * seconds[name]), number(memory[name]), *ratios)
    console.print(table)


def one_pass(name: str, arguments: argparse.Namespace, device: str) -> Callable[[], object]:
    torch.manual_seed(0)
    loss, again = LOSSES.get(name, "points"), DECODERS.get(name, False)
    overrides = {"roi_head.mask_head.decoder_chunk": 4}
    head = RSPrompter(Maps(), ["ship"], mask_loss=str(loss), decoder_recompute=again, overrides=overrides)
    mask_head = head.roi_head.mask_head.to(device)
    size = arguments.image_size
    return (
        decoder_pass(mask_head, arguments.decoder_regions, size // 16, device)
        if name in DECODERS
        else loss_pass(mask_head, arguments.regions, size, arguments.points, device)
    )


def loss_pass(mask_head: nn.Module, regions: int, size: int, points: int, device: str) -> Callable[[], object]:
    from mmdet.structures.mask import BitmapMasks

    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    discs = [
        (rows - y) ** 2 + (columns - x) ** 2 < r**2
        for y, x, r in (torch.rand(OBJECTS, 3) * size * torch.tensor([1, 1, 0.1])).tolist()
    ]
    masks = BitmapMasks(torch.stack(discs).numpy().astype("uint8"), size, size)
    logits = torch.randn(regions, 1, size // 4, size // 4, device=device, requires_grad=True)
    matched = [SimpleNamespace(pos_assigned_gt_inds=torch.arange(regions, device=device) % OBJECTS)]
    settings = SimpleNamespace(num_points=points, oversample_ratio=3.0, importance_sample_ratio=0.75)

    def run() -> None:
        logits.grad = None
        losses = mask_head.loss_and_target(logits, matched, [SimpleNamespace(masks=masks)], settings)["loss_mask"]
        torch.stack([loss.sum() for loss in losses.values()]).sum().backward()

    return run


def decoder_pass(mask_head: nn.Module, regions: int, side: int, device: str) -> Callable[[], object]:
    image = torch.randn(1, 256, side, side, device=device, requires_grad=True)
    features = torch.randn(regions, 256, 14, 14, device=device)
    owners = torch.zeros(regions, device=device)

    def run() -> None:
        mask_head.zero_grad()
        mask_head(features, image, owners).square().mean().backward()

    return run


def peak(name: str, run: Callable[[], object], arguments: argparse.Namespace, device: str) -> float:
    if device == "cuda":
        return peak_on_cuda(Candidate(run))
    if not RESET.exists():
        return float("nan")
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors leave the process at once
    command = [sys.executable, __file__, "--only", name]
    for key in ("image_size", "regions", "decoder_regions", "points"):
        command += [f"--{key.replace('_', '-')}", str(getattr(arguments, key))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_on_cpu(arguments: argparse.Namespace) -> float:
    """Growth of the resident memory of this process, after a small pass that loads what is needed."""
    small = argparse.Namespace(**vars(arguments) | {"image_size": 64, "regions": 2, "decoder_regions": 2, "points": 16})
    one_pass(arguments.only, small, "cpu")()
    run = one_pass(arguments.only, arguments, "cpu")
    RESET.write_text("5", encoding="utf-8")  # sets the peak back to the present size
    before = resident_peak()
    run()
    return (resident_peak() - before) / 1024


if __name__ == "__main__":
    main()
