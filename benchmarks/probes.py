"""Scores students by the probe of objects that a distillation logs, and says how long that takes.

python benchmarks/probes.py DATA [--student student.safetensors ...]

DATA holds `images/`, `annotations/train.json` and `annotations/val.json`. Beside what is given, the mean colour and a
student with random weights are scored: what is not above these has learned nothing.
"""

import argparse
import time
from pathlib import Path

import torch

from distill import ObjectProbe, load_student
from distill.tasks.probes.base import Features
from distill.tasks.probes.features import mean_colour, student_features
from students import RS4D


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--student", type=Path, action="append", default=[])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--all", action="store_true", help="all objects, not at most 100 and 50 of each class")
    arguments = parser.parse_args()
    folder, notes = str(arguments.data / "images"), arguments.data / "annotations"
    limits = {"per_class": None, "val_per_class": None} if arguments.all else {}
    probe = ObjectProbe(
        folder, str(notes / "train.json"), folder, str(notes / "val.json"), image_size=arguments.image_size, **limits
    )
    start = time.perf_counter()
    data = probe.load()
    seconds = time.perf_counter() - start
    print(f"{len(data.train)} training and {len(data.val)} validation objects, read once in {seconds:.1f} s")
    torch.manual_seed(0)
    scored: dict[str, Features] = {"mean colour": mean_colour, "RS4D tiny, random": student_features(RS4D("tiny"))}
    scored |= {str(path): student_features(load_student(path)) for path in arguments.student}
    for name, features in scored.items():
        start = time.perf_counter()
        scores = probe.score(features)
        values = "  ".join(f"{key} {100 * score:.1f}" for key, score in scores.items())
        print(f"{name}: {values}  ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    main()
