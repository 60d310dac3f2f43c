"""What distillation is worth on real images with few labels: NWPU VHR-10, from teacher to instances.

    python benchmarks/nwpu_study.py --root DATA                               # everything: see below
    python benchmarks/nwpu_study.py --root DATA --only distilled/rs4d_tiny finetuned/rs4d_tiny --seeds 0
    python benchmarks/nwpu_study.py --root DATA --heads                       # the usual and the light Mask R-CNN
    python benchmarks/nwpu_study.py --root DATA --select --seeds 0            # learning rates of the fine-tuning
    python benchmarks/nwpu_study.py --root DATA --table                       # of what there is; trains nothing
    python benchmarks/nwpu_study.py --root DATA --table --plot nwpu.png       # and a picture of the frozen features

DATA holds `nwpu` (`images/`, `annotations/train.json` and `val.json`), `landcover` (the Dubai tiles, with `train.txt`)
and `unlabelled` (`images/`). Runs, by the names of their folders below `--work`; a name's beginning selects several:

    pretrained                                   a ViT of 5.4 M parameters, patch 8, as a masked autoencoder
    teacher                                      the same, trained further on NWPU's labels
    vit_scratch, resnet18                        what labels alone make of that ViT, and of a ResNet-18 up to stride 8
    distilled/<student>-<images>-<steps>/<seed>  students of the teacher, on unlabelled tiles
    finetuned/<student>-<start>-<percent>/<seed> students under a head, from random or distilled weights, on a share of
                                                 the labels; under `heads.DenseMasks`, or with --heads under the
                                                 head that ends the name
    selected/<student>-<start>-<percent>-<learning rate>/<seed>
                                                 the same at other learning rates, scored on images left out
    random/<student>/<seed>                      not trained

A share of the labels is one of the labelled images, drawn anew for each seed, the same for both starts. The teacher has
learned from all of them. Nothing is selected on NWPU's validation images, and 15 % of its training images, whole
places, are not trained on with labels, so that recipes can be selected there. Scores are on all validation images and
on those that show no place of a training image ("untied"). Unlabelled tiles are of training images alone.

Tables: frozen features (a linear probe of objects), fine-tuned average precision, and the gain by the number of
unlabelled images and steps. On one core of an Intel Xeon with AVX512 a run takes: pretrained 50 minutes, teacher and
vit_scratch 45 each, resnet18 15, distilled 15 (RS4D-tiny) or 6, finetuned 8 or 4. That is 2.5 hours before the first
table, which then takes 2.5 with three seeds, the second 2.5 and the third 2; on two cores, two calls with other
`--only` halve that. On one core of an AMD EPYC with AVX512-BF16, a step of --heads takes 1.0 s under the usual head and
0.2 s under the light one; scoring under the usual head takes about as long as its 1000 steps. Runs that are there are
kept, and an interrupted one is resumed: call it again to go on. The rows that matter most come first, other seeds last.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from nwpu_data import StudyData
from nwpu_plot import draw
from nwpu_recipes import (
    HEADS,
    IMAGE,
    IMAGES,
    PRETRAINING,
    SELECTED_FROM,
    STARTS,
    STEPS,
    STUDENTS,
    TEACHERS,
    Recipes,
)
from nwpu_scores import average_precision, probe_scores
from nwpu_tables import Runs, show
from studying import distil_once, fit_once, on_one_thread

import distill
from distill.evaluation.cost import count_macs
from distill.tasks.probes.features import student_features

SEEDS = (0, 1, 2)
CURVE_IMAGES, CURVE_STEPS = (64, 512), (300, 1200)


def names(seeds: list[int]) -> Iterator[str]:
    """All runs in the order in which they are made."""
    main = f"{IMAGES}-{STEPS}"
    yield from ("pretrained", "teacher")
    for seed in seeds:
        yield f"random/rs4d_tiny/{seed}"
        yield f"distilled/rs4d_tiny-{main}/{seed}"
        yield from (f"finetuned/rs4d_tiny-{start}-{percent}/{seed}" for percent in (25, 100, 10) for start in STARTS)
        if seed == seeds[0]:
            yield from (name for name in TEACHERS if name != "teacher")
        for student in STUDENTS:
            if student != "rs4d_tiny":
                yield f"random/{student}/{seed}"
                yield f"distilled/{student}-{main}/{seed}"
                yield f"finetuned/{student}-scratch-100/{seed}"
        yield from (f"distilled/rs4d_tiny-{IMAGES}-{steps}/{seed}" for steps in CURVE_STEPS)
        yield from (f"distilled/rs4d_tiny-{images}-{STEPS}/{seed}" for images in CURVE_IMAGES)


def names_of_heads(seeds: list[int]) -> Iterator[str]:
    """The runs of `--heads`."""
    yield from (f"finetuned/rs4d_tiny-distilled-100-{head}/{seed}" for seed in seeds for head in HEADS)


def names_of_selection(seeds: list[int]) -> Iterator[str]:
    """The runs of `--select`."""
    for seed in seeds:
        yield from (f"selected/rs4d_tiny-{start}-25-{lr}/{seed}" for start in STARTS for lr in SELECTED_FROM)


def needed(name: str) -> list[str]:
    """Runs whose weights a run starts from or learns from."""
    kind, *rest = name.split("/")
    if kind == "teacher":
        return ["pretrained"]
    if kind == "distilled":
        return ["teacher"]
    if "-distilled-" in name:
        return [f"distilled/{rest[0].split('-')[0]}-{IMAGES}-{STEPS}/{rest[1]}"]
    return []


@dataclass(frozen=True)
class Study:
    """Makes runs and scores them.

    Args:
        recipes: Of the runs.
    """

    recipes: Recipes

    def done(self, name: str) -> bool:
        """Whether a run is trained and scored."""
        return (self.recipes.folder(name) / "study.json").exists()

    def make(self, name: str) -> None:
        """Trains and scores one run, in this process.

        Its `study.json` has `params` and `macs`, `probes` by split and number of labels, and `ap` by split; of a run
        that selects only `ap`.
        """
        torch.set_num_threads(1)
        # On a CPU, the gradient of PyTorch's fused attention takes half of a step in bfloat16; products take less.
        torch.backends.cuda.enable_flash_sdp(False)
        folder, kind = self.recipes.folder(name), name.split("/")[0]
        student = self._random(name) if kind == "random" else self._trained(name)
        found: dict[str, Any] = {}
        if kind != "selected":
            found["params"] = sum(parameter.numel() for parameter in student.parameters())
            found["macs"] = count_macs(student.eval(), IMAGE)
            found["probes"] = probe_scores(self.recipes.data, student_features(student))
        if kind in ("finetuned", "selected", *TEACHERS):
            distill.test(str(folder))
            predictions = folder / "test_predictions.json"
            found["ap"] = average_precision(self.recipes.data, predictions, selecting=kind == "selected")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.part").write_text(json.dumps(found), encoding="utf-8")
        (folder / "study.part").replace(folder / "study.json")

    def _trained(self, name: str) -> torch.nn.Module:
        recipe = self.recipes.of(name)
        if name.startswith("distilled/"):
            folder = distil_once(recipe, self.recipes.cached(name))
        else:
            folder = fit_once(recipe, *([PRETRAINING] if name == "pretrained" else []))
        return distill.load_student(folder / "student.safetensors")

    def _random(self, name: str) -> torch.nn.Module:
        _, student, seed = name.split("/")
        torch.manual_seed(int(seed))
        built: torch.nn.Module = resolve_name(STUDENTS[student]["class_path"])(**STUDENTS[student]["init_args"])
        return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the data")
    parser.add_argument("--work", type=Path, default=Path("runs/nwpu_study"), help="where everything is written")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="runs whose names begin so")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--heads", action="store_true", help="only the runs under the usual and the light Mask R-CNN")
    others.add_argument("--select", action="store_true", help="only the runs that select learning rates")
    parser.add_argument("--table", action="store_true", help="only the tables of what there is")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also a picture of frozen features over their cost")
    parser.add_argument("--quick", action="store_true", help="two steps a run, in WORK/quick: does all fit together?")
    parser.add_argument("--run", metavar="NAME", help="one run, in this process")
    arguments = parser.parse_args()
    work = arguments.work.absolute() / ("quick" if arguments.quick else "")
    study = Study(Recipes(StudyData(arguments.root.absolute(), work), arguments.quick))
    if arguments.run:
        study.make(arguments.run)
        return
    if not arguments.table:
        listed = names_of_heads if arguments.heads else names_of_selection if arguments.select else names
        every = listed(arguments.seeds)
        chosen = [name for name in every if name.startswith(tuple(arguments.only))]
        if not chosen:
            parser.error(f"no run's name begins with {' or '.join(arguments.only)}")
        for name in chosen:
            make_with_needed(study, name, arguments)
    runs = Runs(work, arguments.seeds)
    show(runs)
    if arguments.plot:
        draw(runs, arguments.plot)


def make_with_needed(study: Study, name: str, arguments: argparse.Namespace) -> None:
    """Makes a run in a process of its own, and before it what it needs."""
    if study.done(name):
        return
    for other in needed(name):
        make_with_needed(study, other, arguments)
    quick = ["--quick"] if arguments.quick else []
    on_one_thread(__file__, ["--root", arguments.root, "--work", arguments.work, "--run", name, *quick])


if __name__ == "__main__":
    main()
