"""Scores of land-cover recipes, beside baselines that use colours alone.

    python benchmarks/landcover.py --root LANDCOVER                     # both CPU recipes, three seeds: half an hour
    python benchmarks/landcover.py --root LANDCOVER --recipes landcover/lale_s1_cpu --seeds 0 --steps 20

Each recipe is fitted and tested once per seed by the commands a user types (`--run.seeds`); after an interruption,
it resumes. The baselines see the same training pixels, at the resolution of the files, and are scored by the same
confusion matrix on the same test pixels:

    majority class       the most frequent class everywhere
    colour histogram     the most frequent class among training pixels of the same colour, in bins of 8 x 8 x 8 levels
    the same, balanced   every class weighed alike, which trades accuracy for mIoU
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from measuring import console, make_table
from torch import Tensor

from distill.cli import main as distill
from distill.data import DubaiLandCover
from distill.data.class_table import IGNORE
from distill.data.semantic import SemanticImages
from distill.evaluation.segmentation import PixelConfusion

RECIPES = ("landcover/lale_s1_cpu", "landcover/efficientvit_b0_cpu")
METRICS = ("mIoU", "macro_F1", "accuracy")
BITS = 5  # of each channel's eight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the data, see distill.data.DubaiLandCover")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="land-cover recipes on that data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="optimizer steps, where other than the recipe's are wanted")
    parser.add_argument("--dir", type=Path, default=Path("runs/landcover"), help="where the runs are written")
    arguments = parser.parse_args()

    data = DubaiLandCover(str(arguments.root), num_workers=0)
    scores = {name: [score] for name, score in baselines(data).items()}
    for recipe in arguments.recipes:
        scores[recipe] = fit(recipe, arguments)
    names = data.class_names
    table = make_table("Land cover, test split, percent", "", "runs", *METRICS, *(f"IoU {name}" for name in names))
    for name, runs in scores.items():
        row = [spread([run[key] for run in runs]) for key in (*METRICS, *(f"IoU/{n}" for n in names))]
        table.add_row(name, str(len(runs)), *row)
    console.print(table)
    console.print("Mean and sample standard deviation over seeds.")


def fit(recipe: str, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """The scores of every seed."""
    folder = arguments.dir / Path(recipe).name
    words = [f"--data.root={arguments.root}"]
    if arguments.steps is not None:
        words.append(f"--trainer.max_steps={arguments.steps}")
    several = len(arguments.seeds) > 1
    runs = [folder / f"seed{seed}" for seed in arguments.seeds] if several else [folder]
    seeds = f"--run.seeds={arguments.seeds}" if several else f"--seed_everything={arguments.seeds[0]}"
    calls = [["fit", recipe, f"--run.dir={folder}", seeds, *words]] + ([] if several else [["test", str(folder)]])
    for call in calls:
        if code := distill(call):
            raise SystemExit(code)
    tests = [json.loads((run / "test.json").read_text(encoding="utf-8")) for run in runs]
    return [{key.partition("/")[2]: value for key, value in test.items()} for test in tests]


def baselines(data: SemanticImages) -> dict[str, dict[str, float]]:
    """Scores of the classifiers that look at one pixel at most."""
    counts = colour_counts(data)
    totals = counts.sum(0)
    likelihood = counts / totals.clamp_min(1)
    # A colour that training never shows gets the most frequent class.
    seen = counts.sum(1) > 0
    tables = {
        "majority class": totals.argmax().expand(len(counts)),
        "colour histogram": torch.where(seen, counts.argmax(1), totals.argmax()),
        "the same, balanced": torch.where(seen, likelihood.argmax(1), totals.argmax()),
    }
    confusions = {name: PixelConfusion(data.class_names) for name in tables}
    views = data.dataset("test")
    for index in range(len(views)):
        sample = views[index]
        bins = colour_bins(sample["image"])
        for name, table in tables.items():
            confusions[name].update(table[bins], sample["label"])
    return {name: confusion.summary() for name, confusion in confusions.items()}


def colour_counts(data: SemanticImages) -> Tensor:
    """Training pixels (8^BITS, K) by colour bin and class."""
    classes = len(data.class_names)
    counts = torch.zeros(2 ** (3 * BITS) * classes, dtype=torch.int64)
    views = data.dataset("train")
    for index in range(len(views)):
        sample = views[index]
        labels, bins = sample["label"], colour_bins(sample["image"])
        known = labels != IGNORE
        counts += torch.bincount(bins[known] * classes + labels[known], minlength=len(counts))
    return counts.view(-1, classes)


def colour_bins(image: Tensor) -> Tensor:
    """The colour bin (H, W) of every pixel of an image (3, H, W) in [0, 1]."""
    red, green, blue = (image * 255).round().long() >> (8 - BITS)
    return (red << 2 * BITS) | (green << BITS) | blue


def spread(values: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
