"""Forward time on this CPU: RS4D against the SAM ViT-B encoder it is distilled from.

    python benchmarks/rs4d_vs_sam.py                 # small and SAM at 1024 pixels, about a minute
    python benchmarks/rs4d_vs_sam.py tiny small base --runs 5

All run in one process, float32, batch 1, random weights, all threads of PyTorch, and take turns, so that a busy
machine slows all. Multiply-adds are those executed: both scan directions and the scan itself, attention included.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from students import RS4D

TEACHER = "SAM ViT-B"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=["small"], help="RS4D variants")
    parser.add_argument("--image-size", type=int, default=1024, help="side of the square input in pixels")
    parser.add_argument("--runs", type=int, default=3, help="timed forward passes per model; the median is printed")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    models: dict[str, nn.Module] = {f"RS4D {v}": RS4D(v, image_size=arguments.image_size) for v in arguments.variants}
    models[TEACHER] = timm.create_model("samvit_base_patch16", num_classes=0, img_size=arguments.image_size)
    images = torch.randn(1, 3, arguments.image_size, arguments.image_size)

    macs, seconds = {}, {name: [] for name in models}
    with torch.inference_mode():
        for name, model in models.items():
            macs[name] = count(name, model.eval(), images)  # also the warm-up
        for _ in range(arguments.runs):
            for name, model in models.items():
                start = time.perf_counter()
                features(name, model, images)
                seconds[name].append(time.perf_counter() - start)

    median = {name: statistics.median(times) for name, times in seconds.items()}
    table = Table(title=f"Forward at {arguments.image_size} x {arguments.image_size}, float32, batch 1")
    for column in ("model", "parameters / M", "multiply-adds / G", "time / s", "times SAM's speed"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, model in models.items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        ratio = median[TEACHER] / median[name]
        table.add_row(name, f"{parameters / 1e6:.2f}", f"{macs[name] / 1e9:.1f}", f"{median[name]:.2f}", f"{ratio:.1f}")
    console = Console()
    console.print(table)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {processor()}")


def features(name: str, model: nn.Module, images: Tensor) -> Tensor:
    return model.forward_features(images) if name == TEACHER else model(images)[-1]


def count(name: str, model: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one forward pass, whose output must be finite."""
    with FlopCounterMode(display=False) as counter:
        output = features(name, model, images)
    if not torch.isfinite(output).all():
        raise SystemExit(f"{name} returned numbers that are not finite; its time would mean nothing")
    return counter.get_total_flops() // 2


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
