"""Which loss, standardisation, corruption and taps distil best, on real images.

    python benchmarks/distillation_study.py --root DATA                      # everything: about a day on one core
    python benchmarks/distillation_study.py --root DATA --only default reconstruction --steps 300 --seeds 0
    python benchmarks/distillation_study.py --root DATA --table              # of what there is; trains nothing

DATA holds `nwpu` (NWPU VHR-10: `images/`, `annotations/train.json` and `val.json`) and `landcover` (the Dubai tiles,
see `distill.data.DubaiLandCover`). NWPU's training images are cut into tiles of 256 px. On the labelled tiles a
ResNet-18, cut after stride 8, learns to segment the ten classes: the teacher. RS4D-tiny is distilled from it on 1,400
of the tiles as unlabelled images, 128 px, in batches of 16. Frozen features are then scored by probes (docs/probes.md):

    few-shot   objects of NWPU val, a linear probe on 20 labels a class, mean over 8 draws
    linear     the same on 100 labels a class, or all there are
    patches    land cover of patches of 64 px, another domain: a linear probe on 20 labels a class

Runs that are there are kept, and an interrupted one is resumed: call it again to go on. One thread for each run.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import console, make_table
from studying import fit_once, on_one_thread, spread

import distill
from distill.curate.tile import TileSettings, tile_instances
from distill.tasks.probes.base import Features
from distill.tasks.probes.features import mean_colour, student_features, teacher_features
from distill.tasks.probes.objects import ObjectProbe
from distill.tasks.probes.patches import PatchProbe
from students import RS4D
from teachers import CNN

SCORES = ("few-shot", "linear", "patches")
LAND_COVER = {"building": 0, "land": 1, "road": 2, "vegetation": 3, "water": 4}
RAW: dict[str, Any] = {"loss": {"terms": {"l1": 1.0}, "standardize": "none"}}


def corrupted(noise: float, mask: float, **others: Any) -> dict[str, Any]:
    return {"corruption": {"noise": noise, "mask": mask, **others}}


def terms(standardize: str = "channel", **weights: float) -> dict[str, Any]:
    return {"loss": {"terms": weights, "standardize": standardize}}


def taps(*indices: int, weight: float = 0.5, feature: str = "stage_2") -> dict[str, Any]:
    """The same target, or a shallower one, for maps in the middle of the student (layers 1, 3 and 5)."""
    return {"targets": [{"feature": feature, "name": f"tap_{tap}", "tap": tap, "weight": weight} for tap in indices]}


LARGER: dict[str, Any] = {
    "student": {
        "class_path": "students.RS4D",
        "init_args": {"variant": "small", "image_size": 128, "patch_size": 8},
    }
}
EMA = {"callbacks": [{"class_path": "distill.EMA", "init_args": {"decay": 0.99}}]}
# What each condition changes of the default, z-scored L1 + cosine without corruption: of model, data and trainer.
CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}, {}),
    "reconstruction": (RAW | corrupted(0.2, 0.2), {}, {}),
    "raw_l1": (RAW, {}, {}),
    "raw_l1_cosine": (terms("none", l1=1.0, cosine=1.0), {}, {}),
    "z_l1": (terms(l1=1.0), {}, {}),
    "z_l2": (terms(l2=1.0), {}, {}),
    "z_cosine": (terms(cosine=1.0), {}, {}),
    "z_smooth_l1_cosine": (terms(smooth_l1=1.0, cosine=1.0), {}, {}),
    "phi_s_l1_cosine": (terms("phi_s", l1=1.0, cosine=1.0), {}, {}),
    "with_gram": (terms(l1=1.0, cosine=1.0, gram=1.0), {}, {}),
    "with_cka": (terms(l1=1.0, cosine=1.0, cka=1.0), {}, {}),
    "with_cwd": (terms(l1=1.0, cosine=1.0, cwd=1.0), {}, {}),
    "with_mgd": (terms(l1=1.0, cosine=1.0, mgd=1.0), {}, {}),
    "noise_10_mask_0": (corrupted(0.1, 0.0), {}, {}),
    "noise_0_mask_10": (corrupted(0.0, 0.1), {}, {}),
    "noise_20_mask_20": (corrupted(0.2, 0.2), {}, {}),
    "noise_30_mask_30": (corrupted(0.3, 0.3), {}, {}),
    "adaptive": (corrupted(0.2, 0.2, control="adaptive"), {}, {}),
    "plateau": (corrupted(0.2, 0.2, control="plateau"), {}, {"val_check_interval": 20}),  # it decides at validations
    "fading": (corrupted(0.2, 0.2, control="cosine", start=1.0, end=0.0), {}, {}),
    "signal_noise": (corrupted(0.2, 0.0, noise_scale="signal"), {}, {}),
    "blocks": (corrupted(0.0, 0.2, mask_shape="block"), {}, {}),
    "guided": (corrupted(0.0, 0.2, guide="high"), {}, {}),
    "taps": (taps(0, 1), {}, {}),
    "ema": ({}, {}, EMA),
    "batch_8": ({}, {"batch_size": 8}, {}),
    "batch_32": ({}, {"batch_size": 32}, {}),
    "lr_2e-3": ({"optim": {"lr": 2.0e-3, "warmup_steps": 30}}, {}, {}),
    "lr_8e-3": ({"optim": {"lr": 8.0e-3, "warmup_steps": 30}}, {}, {}),
    "few_images": ({}, {"train_limit": 64}, {}),
    "few_images_noise_20_mask_20": (corrupted(0.2, 0.2), {"train_limit": 64}, {}),
    "larger": (LARGER, {}, {}),
    "larger_noise_20_mask_20": (LARGER | corrupted(0.2, 0.2), {}, {}),
}

# What a condition differs from in one thing, where that is not the default.
BASES = {"few_images_noise_20_mask_20": "few_images", "larger_noise_20_mask_20": "larger"}


class Study:
    """Where everything lies, and how it is made.

    Args:
        root: The data.
        work: The folder of tiles, teacher and runs.
    """

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work

    def prepare(self) -> None:
        """Cuts the tiles and trains the teacher, where they are not there."""
        nwpu, tiles = self.root / "nwpu", self.work / "tiles"
        if not (tiles / "manifest.json").exists():
            settings = TileSettings(256, 64, empty=0.1)
            tile_instances([nwpu / "annotations/train.json"], nwpu / "images", tiles, settings)
        fit_once(self._teacher_recipe())

    def run(self, condition: str, steps: int, seed: int) -> None:
        """Trains one run and scores it."""
        torch.set_num_threads(1)
        folder = fit_once(self._recipe(condition, steps, seed))
        self.score(folder / "probes.json", student_features(distill.load_student(folder / "student.safetensors")))

    def score(self, file: Path, features: Features) -> dict[str, float]:
        """The scores of frozen features, from the file where they are stored."""
        if not file.exists():
            objects, patches = (probe.score(features) for probe in self._probes())
            found = {"few-shot": objects["few_shot"], "linear": objects["linear"], "patches": patches["few_shot"]}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def references(self) -> dict[str, dict[str, float]]:
        """Scores of the colours, of random students and of the teacher."""
        teacher = CNN("resnet18", str(self.work / "teacher/student.safetensors"), stages=[2]).freeze()
        torch.manual_seed(0)
        random = RS4D("tiny", 128, 8)
        return {
            "mean colour": self.score(self.work / "colour/probes.json", mean_colour),
            "random RS4D-tiny": self.score(self.work / "random/probes.json", student_features(random)),
            "teacher": self.score(self.work / "teacher/probes.json", teacher_features(teacher, "stage_2")),
        }

    def scores(self, condition: str, steps: int, seeds: Sequence[int]) -> dict[int, dict[str, float]]:
        """The scores of the seeds that there are, and `l1_ratio` of the last validation."""
        found = {}
        for seed in seeds:
            folder = self.folder(condition, steps, seed)
            if (folder / "probes.json").exists():
                summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
                probes = json.loads((folder / "probes.json").read_text(encoding="utf-8"))
                found[seed] = {**probes, "l1_ratio": summary["val/l1_ratio"]}
        return found

    def folder(self, condition: str, steps: int, seed: int) -> Path:
        return self.work / f"{condition}-{steps}" / f"seed{seed}"

    def _probes(self) -> tuple[ObjectProbe, PatchProbe]:
        nwpu = self.root / "nwpu"
        places = [str(nwpu / "images"), str(nwpu / "annotations/train.json")]
        places += [str(nwpu / "images"), str(nwpu / "annotations/val.json")]
        objects = ObjectProbe(*places, val_per_class=None, tokens=False)
        cover = str(self.root / "landcover")
        files = {"ignore": [255], "train": "train.txt", "val": "val.txt", "masks": "labels"}
        return objects, PatchProbe(cover, LAND_COVER, image_size=64, tokens=False, **files)

    def _recipe(self, condition: str, steps: int, seed: int) -> dict[str, Any]:
        model, data, trainer = CONDITIONS[condition]
        weights = str(self.work / "teacher/student.safetensors")
        images = {"root": str(self.work / "tiles/images"), "image_size": 128, "batch_size": 16, "num_workers": 0}
        images |= {"crop_area": [0.25, 1.0], "train_limit": 1400, "views": 4, "val_fraction": 0.05}
        arguments = {
            "teacher": {
                "class_path": "teachers.CNN",
                "init_args": {"name": "resnet18", "checkpoint": weights, "stages": [2]},
            },
            "student": {
                "class_path": "students.RS4D",
                "init_args": {"variant": "tiny", "image_size": 128, "patch_size": 8},
            },
            "target": "stage_2",
            "calibration_images": 64,
            **terms(l1=1.0, cosine=1.0),
            **corrupted(0.0, 0.0),
            "optim": {"lr": 4.0e-3, "warmup_steps": 30},
        }
        size = images["batch_size"] / data.get("batch_size", images["batch_size"])  # the same number of views
        return {
            "seed_everything": seed,
            "model": {"class_path": "distill.DistillationModule", "init_args": arguments | model},
            "data": {"class_path": "distill.data.ImageFolder", "init_args": images | data},
            "trainer": {"max_steps": int(steps * size), "val_check_interval": 100_000, "check_val_every_n_epoch": None}
            | trainer,
            "run": {"dir": str(self.folder(condition, steps, seed)), "pictures_every": 0, "loggers": []},
        }

    def _teacher_recipe(self) -> dict[str, Any]:
        tiles = self.work / "tiles"
        images, labels = str(tiles / "images"), str(tiles / "annotations/train.json")
        files = {"train_images": images, "train_annotations": labels, "val_images": images, "val_annotations": labels}
        views = {"image_size": 128, "batch_size": 16, "num_workers": 1, "turns": True, "scale_jitter": [0.7, 1.5]}
        return {
            "seed_everything": 0,
            "model": {
                "class_path": "distill.FineTuningModule",
                "init_args": {
                    "student": {
                        "class_path": "students.TimmStudent",
                        "init_args": {"name": "resnet18", "out_indices": [2]},
                    },
                    "head": {"class_path": "heads.DenseMasks"},
                    "optim": {"lr": 1.0e-3, "warmup_steps": 50},
                },
            },
            "data": {"class_path": "distill.data.CocoInstances", "init_args": files | views},
            "trainer": {"max_steps": 1000, "limit_val_batches": 0},
            "run": {"dir": str(self.work / "teacher"), "pictures_every": 0, "loggers": []},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the data")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/study"), help="where tiles, teacher and runs are written"
    )
    parser.add_argument("--only", nargs="+", default=list(CONDITIONS), choices=CONDITIONS, metavar="CONDITION")
    parser.add_argument("--steps", type=int, nargs="+", default=[300, 1200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only the table of what there is")
    parser.add_argument("--run", nargs=3, metavar=("CONDITION", "STEPS", "SEED"), help="one run, in this process")
    arguments = parser.parse_args()
    study = Study(arguments.root.absolute(), arguments.work.absolute())
    if arguments.run:
        study.run(arguments.run[0], int(arguments.run[1]), int(arguments.run[2]))
        return
    if not arguments.table:
        study.prepare()
        # Every condition with its first seed, then with the next: the table widens evenly.
        for steps in arguments.steps:
            for seed in arguments.seeds:
                for condition in arguments.only:
                    if not (study.folder(condition, steps, seed) / "probes.json").exists():
                        places = ["--root", study.root, "--work", study.work]
                        on_one_thread(__file__, [*places, "--run", condition, steps, seed])
    show(study, arguments)


def show(study: Study, arguments: argparse.Namespace) -> None:
    """Mean and 95 % t-interval over seeds, and the same of few-shot differences to the base with the same seed."""
    columns = ("", "steps", "seeds", "l1_ratio", *SCORES, "few-shot - base")
    table = make_table("Frozen features, balanced accuracy in percent", *columns)
    for name, found in study.references().items():
        table.add_row(name, "", "", "", *(f"{100 * found[score]:.1f}" for score in SCORES), "")
    for steps in arguments.steps:
        for condition in arguments.only:
            scores = study.scores(condition, steps, arguments.seeds)
            if scores:
                base = study.scores(BASES.get(condition, "default"), steps, arguments.seeds)
                gains = [100 * (scores[seed]["few-shot"] - base[seed]["few-shot"]) for seed in scores if seed in base]
                columns = [spread([100 * of[name] for of in scores.values()]) for name in SCORES]
                ratio = spread([of["l1_ratio"] for of in scores.values()], 3)
                gain = spread(gains) if gains and condition != "default" else ""
                table.add_row(condition, str(steps), str(len(scores)), ratio, *columns, gain)
    console.print(table)


if __name__ == "__main__":
    main()
