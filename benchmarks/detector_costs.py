"""What whole detectors cost, part by part: backbone, neck, proposals, regions and masks.

    python benchmarks/detector_costs.py --headline      # ten detectors at 1024 px: three minutes on two quiet cores
    python benchmarks/detector_costs.py                 # every student under every head, SAM's encoders among them
    python benchmarks/detector_costs.py --only "RS4D base" "ResNet-50 + Mask R-CNN" --size 512
    python benchmarks/detector_costs.py --headline --table      # of what there is; measures nothing

Heads are those of the recipes: `finetune/mask_rcnn`, the same with `head/light`, both as cascades, and
`finetune/prompt`. Random weights, one image, float32, eval mode, ten classes, from the image to its masks. Every
detector works on the same boxes: as many proposals as its head keeps, 300 of them with a class, 100 instances with a
mask (--detections; the time and the multiply-adds of masks grow with it).

All detectors take turns, one pass each in a round, so that a busy machine slows all; times are those of a quiet round
(`distill.evaluation.turns`). Multiply-adds are those executed, attention and scan included. Memory is that of the
weights and the most that tensors of one pass hold at once. What is measured is kept after every step in a file
(--keep): call the same command again to go on after an interruption.
"""

import argparse
import json
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from detector_costs_models import DETECTORS, HEADLINE, detector
from detector_costs_parts import Detector, Found
from detector_costs_report import goals, report
from measuring import console, print_goals
from student_costs_report import machine

from distill.evaluation.cost import measure_memory
from distill.evaluation.units import duration
from distill.files import write_text
from distill.training.allocator import keep_freed_memory


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headline", action="store_true", help="these alone: " + "; ".join(HEADLINE))
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="those whose name has one of these texts in it")
    parser.add_argument("--size", type=int, default=1024, help="side of the image in pixels")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--detections", type=int, default=100, help="instances that get a mask")
    parser.add_argument("--rounds", type=int, default=5, help="passes of each detector")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor: for a machine that is busy")
    parser.add_argument("--keep", type=Path, default=Path("runs/detector_costs.json"), help="what is measured")
    parser.add_argument("--table", action="store_true", help="print what is kept, measure nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where the tables go as Markdown")
    arguments = parser.parse_args()

    names = HEADLINE if arguments.headline else list(DETECTORS)
    names = [name for name in names if not arguments.only or any(text in name for text in arguments.only)]
    if not names:
        raise SystemExit(f"no detector has {arguments.only} in its name; there are {', '.join(DETECTORS)}")
    torch.set_num_threads(arguments.threads)
    found = Found(arguments.size, arguments.detections)
    conditions = asdict(found) | {"threads": arguments.threads, "cpu_time": arguments.cpu_time, "machine": machine()}
    kept = read(arguments.keep, conditions)
    if not arguments.table:
        measure(names, found, kept, arguments)
    text = report([name for name in names if name in kept["facts"]], kept)
    print(text)
    if bars := goals(kept):
        print_goals(bars)
    if arguments.write:
        write_text(arguments.write, text)


def read(path: Path, conditions: dict[str, Any]) -> dict[str, Any]:
    """What was measured before under the same conditions."""
    if not path.exists():
        return {"conditions": conditions, "facts": {}, "rounds": []}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if changed := [key for key, value in conditions.items() if kept["conditions"].get(key) != value]:
        raise SystemExit(f"{path} was measured with another {changed[0]}; name another file with --keep, or delete it")
    return kept


def measure(names: list[str], found: Found, kept: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Counts each detector and times all in rounds, as far as `kept` lacks it."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, found.size, found.size)
    detectors: dict[str, Detector] = {}
    for number, name in enumerate(names, 1):
        start = time.perf_counter()
        detectors[name] = detector(name, found)
        if name in kept["facts"]:
            detectors[name](images)  # a first pass
            continue
        kept["facts"][name] = {
            "macs": detectors[name].multiply_adds(),
            "parameters": sum(parameter.numel() for parameter in detectors[name].parameters()),
            "megabytes": measure_memory(detectors[name], found.size),  # a first pass, which is slow
        }
        save(arguments.keep, kept)
        took = duration(time.perf_counter() - start)
        console.print(f"{number} of {len(names)} counted: {name}, {took}")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    order = random.Random(0)
    while lacking := [name for name in names if times_of(name, kept) < arguments.rounds]:
        start = time.perf_counter()
        order.shuffle(lacking)
        kept["rounds"].append({name: detectors[name].seconds(images, clock) for name in lacking})
        save(arguments.keep, kept)
        left = arguments.rounds - min(times_of(name, kept) for name in names)
        took = time.perf_counter() - start
        console.print(f"a round of {len(lacking)} took {duration(took)}; {left} to go, {duration(left * took)}")


def times_of(name: str, kept: dict[str, Any]) -> int:
    return sum(name in one for one in kept["rounds"])


def save(path: Path, kept: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
