"""The runs of benchmarks/landcover.py: their data, their teachers and their recipes."""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from studying import distil_once, fit_once

import distill
from distill.data import DubaiLandCover
from distill.data.image_list import list_images
from distill.weights import read_metadata

ZOOM = 0.5  # of land cover, in training and test
SIDE = 128  # of training views
IN_DOMAIN = 4  # times each land-cover image counts among the unlabelled ones, which are many more
HELD_OUT = ("tile2", "tile7")  # of the training tiles, for --select
STUDENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lale_s1": (
        {"class_path": "students.LALE", "init_args": {"variant": "S1"}},
        {"class_path": "heads.LALEDecoder"},
    ),
    "efficientvit_b0": (
        {"class_path": "students.EfficientViT", "init_args": {"variant": "b0"}},
        {"class_path": "heads.SegHead"},
    ),
}
SCRATCH, LABELS = "scratch", "labels"  # where a student starts, beside the teachers that are given as files
BACKBONE = {"class_path": "students.TimmStudent", "init_args": {"name": "resnet18", "out_indices": [1, 2, 3, 4]}}
BACKBONE_HEAD = {"class_path": "heads.LALEDecoder"}
TEACHER_STEPS = 800  # of the teacher that learns from the labels


@dataclass(frozen=True)
class Teacher:
    """What is distilled.

    Args:
        build: The teacher as a recipe names it, without its weights.
        target: Feature for the student's last map.
        taps: Features for its maps of stride 8 and 16.
    """

    build: dict[str, Any]
    target: str
    taps: dict[int, str] = field(default_factory=dict)


TEACHERS = {
    "imagenet": Teacher(
        {"class_path": "teachers.CNN", "init_args": {"name": "tf_efficientnet_lite2", "stages": [2, 3, 4]}},
        "stage_4",
        {1: "stage_2", 2: "stage_3"},
    ),
    "nwpu_cnn": Teacher(
        {"class_path": "teachers.CNN", "init_args": {"name": "resnet18", "stages": [2]}},
        "stage_2",
        {1: "stage_2", 2: "stage_2"},
    ),
    LABELS: Teacher(
        {"class_path": "teachers.Segmenter", "init_args": {"backbone": BACKBONE, "head": BACKBONE_HEAD}},
        "map",
        {1: "logits", 2: "logits"},
    ),
    "vit": Teacher({"class_path": "teachers.ViT", "init_args": {}}, "embedding", {1: "embedding", 2: "embedding"}),
}


@dataclass(frozen=True)
class Run:
    """One training on labels.

    Args:
        student: One of `STUDENTS`.
        start: `SCRATCH`, or the teacher that the student was distilled from.
        share: Of the labelled images.
        seed: Of the draw of these images, of initial weights and of views.
        steps: Of the training on labels.
        lr: Its learning rate.
    """

    student: str
    start: str
    share: float
    seed: int
    steps: int
    lr: float

    @property
    def name(self) -> str:
        """Of its folder."""
        condition = f"{self.student}-{self.start}-{100 * self.share:g}-steps{self.steps}-lr{self.lr:g}"
        return f"{condition}/seed{self.seed}"


class Study:
    """Where everything lies, and how it is made.

    Args:
        root: The data.
        work: The folder of prepared images and of runs.
        select: Whether two training tiles are held out and scored, instead of the test tiles.
        distill_steps: Of each distillation.

    Attributes:
        weights: File of each teacher.
    """

    def __init__(self, root: Path, work: Path, select: bool, distill_steps: int) -> None:
        self.root, self.work, self.select, self.distill_steps = root, work, select, distill_steps
        self.weights: dict[str, Path] = {}
        self.part = "select" if select else "test"

    def prepare(self) -> None:
        """Stores the images at half size, not compressed: reading them as they are takes as long as learning."""
        done = self.work / "prepared"
        if done.exists():
            return
        cover = DubaiLandCover(str(self.root / "landcover"), num_workers=0)
        for pair in cover.find("train"):
            halve(pair.image, self.work / f"half/images/{pair.image.stem}.png", Image.Resampling.BICUBIC)
            halve(pair.mask, self.work / f"half/labels/{pair.image.stem}.png", Image.Resampling.NEAREST)
        pixels = self.work / "pixels"
        annotations = json.loads((self.root / "nwpu/annotations/train.json").read_text(encoding="utf-8"))
        for image in annotations["images"]:
            name = Path(image["file_name"]).name
            halve(self.root / "nwpu/images" / name, pixels / f"nwpu/{Path(name).stem}.png", Image.Resampling.BICUBIC)
        others = self.root / "unlabelled/images"
        for name in list_images(others).names():
            place(others / name, pixels / "unlabelled" / Path(name).name)
        for copy in range(IN_DOMAIN):
            for image in sorted((self.work / "half/images").iterdir()):
                place(image, pixels / f"landcover{copy}/{image.name}")
        done.touch()

    def score(self, run: Run) -> dict[str, float]:
        """The scores of a run, which is trained where it is not there."""
        torch.set_num_threads(1)
        folder = self.work / self.part / run.name
        if not (folder / "test.json").exists():
            fit_once(self._recipe(run))
            data = {"root": str(self.root / "landcover"), "zoom": ZOOM, "batch_size": 1}
            distill.test(folder, data=data)
        return self.scores(run)

    def scores(self, run: Run) -> dict[str, float]:
        """The scores of a run that is there."""
        found = json.loads((self.work / self.part / run.name / "test.json").read_text(encoding="utf-8"))
        return {key.partition("/")[2]: value for key, value in found.items()}

    def done(self, run: Run) -> bool:
        """Whether a run has been scored."""
        return (self.work / self.part / run.name / "test.json").exists()

    def distilled(self, run: Run) -> Path:
        """The student that a run starts from, which is distilled where it is not there."""
        source, teacher = self._teacher(run)
        folder = distil_once(self._distillation(run, source, teacher), self.work / "caches" / source)
        return folder / "student.safetensors"

    def labelled(self, share: float, seed: int) -> list[str]:
        """The names of the training images with labels: the first of a shuffle, so that shares contain smaller ones."""
        cover = DubaiLandCover(str(self.root / "landcover"), num_workers=0)
        names = [pair.image.stem for pair in cover.find("train") if not (self.select and is_held_out(pair.image.stem))]
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
        return sorted(names[i] for i in order[: round(share * len(names))])

    def scored(self) -> list[str]:
        """The names of the images that are scored."""
        cover = DubaiLandCover(str(self.root / "landcover"), num_workers=0)
        if not self.select:
            return [pair.image.stem for pair in cover.find("test")]
        return [pair.image.stem for pair in cover.find("train") if is_held_out(pair.image.stem)]

    def data(self, share: float, seed: int) -> dict[str, Any]:
        """Land cover as the arguments of a data module: training views are of the halved images."""
        lists = {"train": self.labelled(share, seed), "test": self.scored()}
        files = {}
        for split, names in lists.items():
            file = self.work / f"lists/{self.part}-{split}-{100 * share:g}-{seed}.txt"
            files[split] = str(write(file, "\n".join(names) + "\n"))
        files["val"] = files["train"]  # nothing is validated
        table = DubaiLandCover(str(self.root / "landcover"), num_workers=0).table
        classes = dict(zip(table.names, range(len(table.names)), strict=True))
        return {"root": str(self.work / "half"), "classes": classes, "ignore": [255], "masks": "labels", **files}

    def _recipe(self, run: Run) -> dict[str, Any]:
        student, head = deepcopy(STUDENTS[run.student])
        if run.start != SCRATCH:
            student["init_args"]["checkpoint"] = str(self.distilled(run))
        return self._on_labels(run, student, head, f"{self.part}/{run.name}", run.steps, run.lr)

    def _on_labels(
        self, run: Run, student: dict[str, Any], head: dict[str, Any], folder: str, steps: int, lr: float
    ) -> dict[str, Any]:
        views = {"image_size": SIDE, "batch_size": 8, "num_workers": 0, "scale_jitter": [0.5, 1.5], "turns": True}
        views["augmentation"] = {"brightness": 0.2, "contrast": 0.2}
        return {
            "seed_everything": run.seed,
            "model": {
                "class_path": "distill.SegmentationModule",
                "init_args": {
                    "student": student,
                    "head": head,
                    "loss": {"terms": {"cross_entropy": 1.0, "dice": 1.0}},
                    "optim": {"lr": lr, "betas": [0.9, 0.999], "warmup_steps": 30},
                    "window": 2 * SIDE,
                },
            },
            "data": {"class_path": "distill.data.SemanticFolder", "init_args": self.data(run.share, run.seed) | views},
            "trainer": {"max_steps": steps, "limit_val_batches": 0},
            "run": {"dir": str(self.work / folder), "pictures_every": 0, "loggers": []},
        }

    def _teacher(self, run: Run) -> tuple[str, dict[str, Any]]:
        """What a run's teacher is called, and how a recipe builds it; the one of the labels is trained on the run's."""
        build = deepcopy(TEACHERS[run.start].build)
        if run.start == LABELS:
            name = f"{LABELS}-{self.part}-{100 * run.share:g}-seed{run.seed}"
            recipe = self._on_labels(run, BACKBONE, BACKBONE_HEAD, f"teachers/{name}", TEACHER_STEPS, 1.0e-3)
            return name, with_arguments(build, checkpoint=str(fit_once(recipe) / "checkpoints/last.ckpt"))
        file = self.weights[run.start]
        named = {} if "name" in build["init_args"] else {"name": timm_name(file)}
        return run.start, with_arguments(build, checkpoint=str(file), **named)

    def _distillation(self, run: Run, source: str, teacher: dict[str, Any]) -> dict[str, Any]:
        known = TEACHERS[run.start]
        taps = [
            {"feature": feature, "tap": tap, "name": f"stride_{2 ** (tap + 2)}", "image_size": SIDE}
            for tap, feature in known.taps.items()
        ]
        images = {"root": str(self.work / "pixels"), "image_size": SIDE, "batch_size": 16, "num_workers": 0}
        images |= {"crop_area": [0.15, 0.8], "views": 4, "val_fraction": 0.03, "seed": 0}  # one cache for all seeds
        return {
            "seed_everything": run.seed,
            "model": {
                "class_path": "distill.DistillationModule",
                "init_args": {
                    "teacher": teacher,
                    "student": json.loads(json.dumps(STUDENTS[run.student][0])),
                    "target": known.target,
                    "teacher_image_size": SIDE,
                    "target_dtype": "int8",
                    "targets": taps,
                    "optim": {"lr": 2.0e-3, "betas": [0.9, 0.999], "warmup_steps": 30},
                },
            },
            "data": {"class_path": "distill.data.ImageFolder", "init_args": images},
            "trainer": {
                "max_steps": self.distill_steps,
                "val_check_interval": 100_000,
                "check_val_every_n_epoch": None,
            },
            "run": {
                "dir": str(self.work / f"distilled/{run.student}-{source}-steps{self.distill_steps}/seed{run.seed}"),
                "pictures_every": 0,
                "loggers": [],
            },
        }


def is_held_out(name: str) -> bool:
    """Whether an image is of a tile that `--select` scores."""
    return name.partition("_")[0] in HELD_OUT


def halve(source: Path, target: Path, how: Image.Resampling) -> None:
    """Stores an image at half its size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        size = tuple(max(1, round(side * ZOOM)) for side in image.size)
        image.resize((size[0], size[1]), how).save(target, compress_level=0)


def place(source: Path, target: Path) -> None:
    """A link to an image."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source)


def with_arguments(build: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """A class of a recipe with further arguments."""
    return build | {"init_args": build["init_args"] | arguments}


def write(file: Path, content: str) -> Path:
    """A text file, in a folder that is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def timm_name(file: Path) -> str:
    """What timm calls the model of a file that this project wrote."""
    return json.loads(read_metadata(file).get("init_args", "{}")).get("name", "")
