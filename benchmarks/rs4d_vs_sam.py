"""Forward time on this CPU: RS4D against the SAM ViT-B encoder it is distilled from.

    python benchmarks/rs4d_vs_sam.py                 # base and SAM at 1024 pixels, about a minute
    python benchmarks/rs4d_vs_sam.py tiny small base --runs 5

No time is printed of a variant whose maps, at a small size, differ from those of the reference scan. All run in one
process, float32, batch 1, random weights, all threads of PyTorch, and take turns, so that a busy
machine slows all. Multiply-adds are those executed: both scan directions and the scan itself, attention included.
"""

import argparse
import statistics
import time

import timm
import torch
from measuring import Bar, console, make_table, print_goals, processor
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from students import RS4D

TEACHER = "SAM ViT-B"
GOAL_VARIANT, GOAL_SIZE, GOAL = "base", 1024, 8  # times SAM's speed
CHECK_SIZE, CHECK_TOLERANCE = 256, 1e-4  # pixels; largest difference, as a share of a map's largest value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=[GOAL_VARIANT], help="RS4D variants")
    parser.add_argument("--image-size", type=int, default=GOAL_SIZE, help="side of the square input in pixels")
    parser.add_argument("--runs", type=int, default=3, help="timed forward passes per model; the median is printed")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    models: dict[str, nn.Module] = {}
    for variant in arguments.variants:
        check(variant, arguments.image_size)
        models[f"RS4D {variant}"] = RS4D(variant, image_size=arguments.image_size)
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
    title = f"Forward at {arguments.image_size} x {arguments.image_size}, float32, batch 1"
    table = make_table(title, "model", "parameters / M", "multiply-adds / G", "time / s", "times SAM's speed")
    for name, model in models.items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        ratio = median[TEACHER] / median[name]
        table.add_row(name, f"{parameters / 1e6:.2f}", f"{macs[name] / 1e9:.1f}", f"{median[name]:.2f}", f"{ratio:.1f}")
    console.print(table)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {processor()}")
    if arguments.image_size == GOAL_SIZE and (goal := f"RS4D {GOAL_VARIANT}") in median:
        print_goals([Bar(f"{goal} at {GOAL_SIZE} pixels: SAM's time", median[TEACHER] / median[goal], GOAL)])


@torch.inference_mode()
def check(variant: str, image_size: int) -> None:
    """Compares the maps with those of the reference scan, with weights that let the scan count.

    At initialisation it has little effect: decays wrong by a tenth change the maps of `base` by 6e-5 of the largest
    value.
    """
    model, reference = (
        RS4D(variant, image_size=image_size, scan_backend=name).eval() for name in ("auto", "reference")
    )
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    reference.load_state_dict(model.state_dict())
    side = min(CHECK_SIZE, image_size)
    images = torch.randn(1, 3, side, side)
    worst = max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(model(images), reference(images), strict=True)
    )
    console.print(f"RS4D {variant}: maps at {side} pixels within {worst:.1e} of the reference scan's")
    if not worst < CHECK_TOLERANCE:
        raise SystemExit(f"RS4D {variant} differs by more than {CHECK_TOLERANCE:g}; its time would mean nothing")


def features(name: str, model: nn.Module, images: Tensor) -> Tensor:
    return model.forward_features(images) if name == TEACHER else model(images)[-1]


def count(name: str, model: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one forward pass, whose output must be finite."""
    with FlopCounterMode(display=False) as counter:
        output = features(name, model, images)
    if not torch.isfinite(output).all():
        raise SystemExit(f"{name} returned numbers that are not finite; its time would mean nothing")
    return counter.get_total_flops() // 2


if __name__ == "__main__":
    main()
