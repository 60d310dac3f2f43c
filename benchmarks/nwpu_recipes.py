"""The runs of the study on NWPU VHR-10 as recipes: pretraining, teachers, distillation, fine-tuning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwpu_data import SIDE, StudyData

from distill.recipe.compose import compose

PATCH = 8
IMAGE = 128  # side of what networks see, in pixels
PRETRAINING = "pretrain/masked_autoencoder"  # a recipe of the package
IMAGES, STEPS = 4096, 2400  # of a distillation, where nothing else is said
VIT = {
    "name": "vit_tiny_patch16_224",
    "out_indices": [11],
    "options": {"img_size": IMAGE, "patch_size": PATCH, "dynamic_img_size": True},
    "sin_cos_positions": True,
}
STUDENTS: dict[str, dict[str, Any]] = {
    "rs4d_tiny": {
        "class_path": "students.RS4D",
        "init_args": {"variant": "tiny", "image_size": IMAGE, "patch_size": 8},
    },
    "lale_s1": {"class_path": "students.LALE", "init_args": {"variant": "S1"}},
    "efficientvit_b0": {"class_path": "students.EfficientViT", "init_args": {"variant": "b0"}},
}
DISTILLED_AT = {"rs4d_tiny": 4.0e-3, "lale_s1": 1.0e-3, "efficientvit_b0": 4.0e-3}  # learning rates
RESNET = {"name": "resnet18", "out_indices": [2]}
# What is trained on all labels of the part "fit", with what learning rate and decay by layer; only the first teaches.
TEACHERS: dict[str, tuple[dict[str, Any], float, float]] = {
    "teacher": ({"class_path": "students.TimmStudent", "init_args": VIT}, 1.0e-3, 0.9),
    "vit_scratch": ({"class_path": "students.TimmStudent", "init_args": VIT}, 1.0e-3, 1.0),
    "resnet18": ({"class_path": "students.TimmStudent", "init_args": RESNET}, 1.0e-3, 1.0),
}
# Learning rates of a fine-tuning by its start, each the best of `SELECTED_FROM` on the images that are left out.
RATES = {"distilled": 4.0e-3, "scratch": 1.0e-3}
STARTS = tuple(RATES)
SELECTED_FROM = (5.0e-4, 1.0e-3, 2.0e-3, 4.0e-3)
# Other heads than `heads.DenseMasks`, by the recipes that have them: does the light one cost precision?
HEADS = {"mask_rcnn": ["finetune/mask_rcnn"], "light": ["finetune/mask_rcnn", "head/light"]}


@dataclass(frozen=True)
class Recipes:
    """What `distill.fit` is given for a run, by the name of its folder.

    Args:
        data: The images.
        quick: Whether every run takes two steps of two images: to see that everything fits together.
    """

    data: StudyData
    quick: bool = False

    def of(self, name: str) -> dict[str, Any]:
        """The recipe of a run, of `pretrained` what goes over `PRETRAINING`.

        Args:
            name: `pretrained`, `<teacher>`, `distilled/<student>-<images>-<steps>/<seed>`, or
                `finetuned/<student>-<start>-<percent>/<seed>`, where one of `HEADS` may follow the percentage, or
                `selected/<student>-<start>-<percent>-<learning rate>/<seed>`.
        """
        kind, *rest = name.split("/")
        if kind == "pretrained":
            recipe = self._pretraining()
        elif kind == "distilled":
            student, images, steps = rest[0].split("-")
            recipe = self._distillation(student, int(images), int(steps), int(rest[1]))
        elif kind == "finetuned":
            student, start, percent, *head = rest[0].split("-")
            recipe = self._fine_tuning(student, start, int(percent), int(rest[1]), RATES[start])
            if head:
                under(HEADS[head[0]], recipe)
        elif kind == "selected":
            student, start, percent, lr = rest[0].split("-")
            recipe = self._fine_tuning(student, start, int(percent), int(rest[1]), float(lr))
            recipe["data"]["init_args"]["test_annotations"] = str(self.data.part("select"))
        else:
            recipe = self._teacher(kind)
        recipe["run"] = {"dir": str(self.folder(name)), "pictures_every": 0, "loggers": [], "checkpoint_every": 100}
        if self.quick:
            recipe["trainer"] |= {"max_steps": 2}
            recipe["data"]["init_args"] |= {"batch_size": 2}
        return recipe

    def folder(self, name: str) -> Path:
        """The run folder of a name."""
        return self.data.work / name

    def student(self, name: str) -> str:
        """The file of the student that a run exported."""
        return str(self.folder(name) / "student.safetensors")

    def cached(self, name: str) -> Path:
        """The folder of the targets of a distillation: three students and all seeds and steps share it."""
        return self.data.work / f"caches/{name.split('-')[1]}"

    def _pretraining(self) -> dict[str, Any]:
        """What is not in the shipped recipe."""
        return {"data": self._unlabelled(64), "trainer": {}}

    def _teacher(self, name: str) -> dict[str, Any]:
        student, lr, decay = TEACHERS[name]
        if name == "teacher":
            student = {**student, "init_args": {**student["init_args"], "checkpoint": self.student("pretrained")}}
        optim = {"lr": lr, "layer_decay": decay, "betas": [0.9, 0.999], "warmup_steps": 100}
        return self._supervised(student, self.data.labels(100, 0), optim, 0, 2000, "bf16-mixed")

    def _distillation(self, student: str, images: int, steps: int, seed: int) -> dict[str, Any]:
        teacher = {"name": VIT["name"], "checkpoint": self.student("teacher")}
        data = self._unlabelled(16)
        data["init_args"] |= {"train_limit": images, "views": 4, "seed": 0, "val_limit": 128}
        return {
            "seed_everything": seed,
            "model": {
                "class_path": "distill.DistillationModule",
                "init_args": {
                    "teacher": {"class_path": "teachers.ViT", "init_args": teacher},
                    "student": STUDENTS[student],
                    "target": "embedding",
                    "target_dtype": "float16",
                    "calibration_images": 64,
                    "loss": {"terms": {"l1": 1.0, "cosine": 1.0}, "standardize": "channel"},
                    "corruption": {"noise": 0.0, "mask": 0.0},
                    "optim": {"lr": DISTILLED_AT[student], "warmup_steps": 30},
                },
            },
            "data": data,
            "trainer": {"max_steps": steps, "val_check_interval": 100_000, "check_val_every_n_epoch": None},
        }

    def _fine_tuning(self, student: str, start: str, percent: int, seed: int, lr: float) -> dict[str, Any]:
        chosen = STUDENTS[student]
        if start == "distilled":
            weights = self.student(f"distilled/{student}-{IMAGES}-{STEPS}/{seed}")
            chosen = {**chosen, "init_args": {**chosen["init_args"], "checkpoint": weights}}
        optim = {"lr": lr, "warmup_steps": 50}
        return self._supervised(chosen, self.data.labels(percent, seed), optim, seed, 1000, "32-true")

    def _supervised(
        self, student: dict[str, Any], labels: Path, optim: dict[str, Any], seed: int, steps: int, precision: str
    ) -> dict[str, Any]:
        """Tiles train, at 0.25 to 1 times the resolution of the files; whole images are scored tile by tile."""
        nwpu = self.data.nwpu
        files = {
            "train_images": str(self.data.tiles / "images"),
            "train_annotations": str(labels),
            "val_images": str(nwpu / "images"),
            "val_annotations": str(self.data.part("select")),
            "test_images": str(nwpu / "images"),
            "test_annotations": str(nwpu / "annotations/val.json"),
            "tile": SIDE,
        }
        views = {"image_size": IMAGE, "batch_size": 16, "num_workers": 0, "turns": True, "scale_jitter": [0.5, 2.0]}
        views["augmentation"] = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
        return {
            "seed_everything": seed,
            "model": {
                "class_path": "distill.FineTuningModule",
                "init_args": {"student": student, "head": {"class_path": "heads.DenseMasks"}, "optim": optim},
            },
            "data": {"class_path": "distill.data.CocoInstances", "init_args": files | views},
            "trainer": {"max_steps": steps, "limit_val_batches": 0, "precision": precision},
        }

    def _unlabelled(self, batch_size: int) -> dict[str, Any]:
        images = {"root": str(self.data.pool), "image_size": IMAGE, "batch_size": batch_size, "num_workers": 0}
        return {
            "class_path": "distill.data.ImageFolder",
            "init_args": images | {"crop_area": [0.15, 1.0], "val_limit": 256},
        }


def under(recipes: list[str], recipe: dict[str, Any]) -> None:
    """Puts the head of recipes of the package into a recipe, with what `size/cpu` sets for a short schedule and views
    as small as these; the widths and the numbers of proposals stay, in which the heads differ. Both train in bfloat16.
    """
    head = compose(recipes).content["model"]["init_args"]["head"]
    head["init_args"] |= {"anchor_scale": 4, "roi_samples": 64, "dense_weight": 1.0}
    optim = {"lr": 1.0e-3, "betas": [0.9, 0.95], "student_lr_factor": 0.5, "warmup_steps": 50}
    recipe["model"]["init_args"] |= {"head": head, "optim": optim}
    recipe["data"]["init_args"]["batch_size"] = 4
    recipe["trainer"]["precision"] = "bf16-mixed"
