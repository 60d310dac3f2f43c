"""LALE's decoder that fuses before upsampling, against the published order, side by side on this CPU.

    python benchmarks/lale_decoder.py                # S1 at 256 pixels, batch 1 and 16, half a minute
    python benchmarks/lale_decoder.py --image-size 512 --batch 1

No time is printed unless both orders give the same logits. All run in one process, float32, random weights, one thread,
and take turns, so that a busy machine slows all. The encoder is timed alone to show what is left to save.
"""

import argparse
import copy

import torch
from measuring import Candidate, console, make_table, measure, number, processor
from torch import nn

from distill.evaluation.cost import count_macs
from heads import LALEDecoder
from students import LALE

CLASSES = [str(index) for index in range(7)]
TOLERANCE = 1e-5  # largest difference of two logits
ENCODER, PUBLISHED, OURS = "encoder alone", "fused after upsampling", "fused before upsampling"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="S1", help="LALE variant")
    parser.add_argument("--image-size", type=int, default=256, help="side of the square input in pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="images per pass")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    student = LALE(arguments.variant).eval()
    ours = LALEDecoder(student.feature_info, CLASSES).eval()
    published = copy.deepcopy(ours)
    published.fuse = published.fuse_as_published  # type: ignore[method-assign]
    models = {ENCODER: student, PUBLISHED: nn.Sequential(student, published), OURS: nn.Sequential(student, ours)}
    side = arguments.image_size
    macs = {name: count_macs(model, side) for name, model in models.items()}
    title = f"LALE-{arguments.variant} at {side} x {side}, float32, one thread"
    table = make_table(title, "", "multiply-adds / G", "batch", "ms an image", "times the published speed")
    for batch in arguments.batch:
        images = torch.randn(batch, 3, side, side)
        difference = float((models[PUBLISHED](images) - models[OURS](images)).abs().max())
        if not difference < TOLERANCE:
            raise SystemExit(f"the logits differ by {difference:.1e}; the times would mean nothing")
        seconds = measure({name: Candidate(lambda m=model, x=images: m(x)) for name, model in models.items()})
        for name, time in seconds.items():
            ratio = "" if name == ENCODER else f"{seconds[PUBLISHED] / time:.2f}"
            table.add_row(name, f"{macs[name] / 1e9:.3f}", str(batch), number(1000 * time / batch), ratio)
        alone = {name: seconds[name] - seconds[ENCODER] for name in (PUBLISHED, OURS)}
        console.print(
            f"batch {batch}: logits within {difference:.0e}; decoder alone {alone[PUBLISHED] / alone[OURS]:.2f} times"
        )
    console.print(table)
    console.print(f"torch {torch.__version__}, {processor()}")


if __name__ == "__main__":
    main()
