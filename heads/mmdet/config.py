"""A fine-tuning run as an ordinary MMDetection configuration: model, data, optimizer and schedule."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Backbone:
    """The student in a configuration.

    Args:
        class_path: Dotted path of its class.
        init_args: Its keyword arguments.
        mean: Mean of the RGB channels in [0, 1] that it expects to be subtracted.
        std: Standard deviation by which it expects them to be divided.
    """

    class_path: str
    init_args: dict[str, Any]
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Data:
    """COCO images and how they are shown.

    Args:
        sources: Image folder and annotation file of "train", "val" and "test".
        classes: Names in label order, which is the order of the annotation files.
        image_size: Side S of the padded view, in pixels.
        batch_size: Images per batch and process.
        num_workers: Processes that read images.
        scale_jitter: Range of the large-scale jitter.
        flip: Whether training views are mirrored in both directions.
        bands: Which bands of the images are shown; None for those that `distill.data.images.read_image` chooses.
    """

    sources: dict[str, tuple[str, str]]
    classes: list[str]
    image_size: int
    batch_size: int
    num_workers: int
    scale_jitter: tuple[float, float]
    flip: bool
    bands: list[int] | None = None


@dataclass(frozen=True)
class Schedule:
    """AdamW, its learning-rate schedule, and the validation interval. Steps are batches.

    Args:
        steps: Of the whole run.
        val_every: Steps between validations; None never validates.
        lr: Peak learning rate.
        betas: AdamW's two momenta.
        weight_decay: Of matrices and kernels.
        warmup_steps: Of linear warm-up from 0.
        final_lr: Learning rate at the last step.
        student_lr_factor: Learning rate of the student as a fraction of `lr`.
        clip_norm: Largest norm of the gradient; None does not clip.
        accumulate: Batches per update.
        autocast: "bfloat16" or "float16", or None for float32.
        seed: Of everything random.
    """

    steps: int
    val_every: int | None
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup_steps: int
    final_lr: float
    student_lr_factor: float
    clip_norm: float | None
    accumulate: int
    autocast: str | None
    seed: int


def mmdet_config(
    name: str, backbone: Backbone, detector: dict[str, Any], data: Data, schedule: Schedule
) -> dict[str, Any]:
    """Everything that MMEngine's runner needs.

    Args:
        name: Of the run; its folder is `work_dirs/<name>`.
        backbone: The student.
        detector: What a head's `mmdet_config()` returns.
        data: The images.
        schedule: The optimizer and its schedule.
    """
    return {
        "custom_imports": {"imports": ["heads.mmdet.registered"], "allow_failed_imports": False},
        "default_scope": "mmdet",
        "model": _model(backbone, detector, data.image_size),
        **_data(data, validate=schedule.val_every is not None),
        **_schedule(schedule),
        **_precision(schedule),
        "work_dir": f"work_dirs/{name}",
    }


def write_config(config: dict[str, Any], path: Path, opening: str) -> None:
    """Writes a configuration as a Python file that `mmengine.config.Config.fromfile` reads.

    Args:
        config: What `mmdet_config` returns.
        path: The file.
        opening: Lines of comment to start with.
    """
    from mmengine.config import Config

    comment = "".join(f"# {line}\n" for line in opening.splitlines())
    path.write_text(comment + Config(config).pretty_text, encoding="utf-8")


def _model(backbone: Backbone, detector: dict[str, Any], image_size: int) -> dict[str, Any]:
    return {
        **detector,
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": [round(255 * channel, 4) for channel in backbone.mean],
            "std": [round(255 * channel, 4) for channel in backbone.std],
            "bgr_to_rgb": True,
            "pad_mask": True,
            "pad_size_divisor": image_size,  # views are no larger, so this pads them all to one square
        },
        "backbone": {
            "type": "DistillStudent",
            "class_path": backbone.class_path,
            "init_args": backbone.init_args,
        },
    }


def _data(data: Data, validate: bool) -> dict[str, Any]:
    loaders: dict[str, Any] = {
        "train_dataloader": _loader(data, "train", _training_pipeline(data), data.batch_size)
        | {"sampler": {"type": "InfiniteSampler", "shuffle": True}},
        "val_dataloader": None,
        "val_evaluator": None,
        "val_cfg": None,
    }
    for split in ("val", "test"):
        if split == "test" or validate:
            loaders |= {
                f"{split}_dataloader": _loader(data, split, _evaluation_pipeline(data), 1)
                | {"sampler": {"type": "DefaultSampler", "shuffle": False}},
                f"{split}_evaluator": {
                    "type": "CocoMetric",
                    "ann_file": data.sources[split][1],
                    "metric": ["bbox", "segm"],
                },
                f"{split}_cfg": {"type": f"{split.capitalize()}Loop"},
            }
    return loaders


def _loader(data: Data, split: str, pipeline: list[dict[str, Any]], batch_size: int) -> dict[str, Any]:
    images, annotations = data.sources[split]
    dataset = {
        "type": "CocoDataset",
        "ann_file": annotations,
        "data_prefix": {"img": images},
        "metainfo": {"classes": data.classes},
        "test_mode": split != "train",
        "pipeline": pipeline,
    }
    if split == "train":
        dataset["filter_cfg"] = {"filter_empty_gt": False}  # the annotation file lists what to train on
    return {
        "batch_size": batch_size,
        "num_workers": data.num_workers,
        "persistent_workers": data.num_workers > 0,
        "dataset": dataset,
    }


def _resizing(data: Data) -> dict[str, Any]:
    # Pillow smooths when it shrinks, as our views do; OpenCV does not.
    return {"scale": (data.image_size, data.image_size), "keep_ratio": True, "backend": "pillow"}


def _loading(data: Data) -> dict[str, Any]:
    return {"type": "DistillLoadImage", **({"bands": data.bands} if data.bands else {})}


def _training_pipeline(data: Data) -> list[dict[str, Any]]:
    flips = [{"type": "RandomFlip", "prob": 0.5, "direction": way} for way in ("horizontal", "vertical")]
    return [
        _loading(data),
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "RandomResize", "ratio_range": data.scale_jitter, **_resizing(data)},
        {
            "type": "RandomCrop",
            "crop_size": (data.image_size, data.image_size),
            "crop_type": "absolute",
            "allow_negative_crop": True,
        },
        *(flips if data.flip else []),
        {
            "type": "FilterAnnotations",
            "min_gt_bbox_wh": (1e-5, 1e-5),
            "by_mask": True,
            "keep_empty": False,  # MMDetection's name for keeping images without objects
        },
        {"type": "PackDetInputs"},
    ]


def _evaluation_pipeline(data: Data) -> list[dict[str, Any]]:
    facts = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return [
        _loading(data),
        {"type": "Resize", **_resizing(data)},
        {"type": "PackDetInputs", "meta_keys": facts},
    ]


def _schedule(schedule: Schedule) -> dict[str, Any]:
    warmup = schedule.warmup_steps
    phases: list[dict[str, Any]] = []
    if warmup:
        phases.append({"type": "LinearLR", "start_factor": 1 / (warmup + 1), "begin": 0, "end": warmup + 1})
    if schedule.steps > warmup:
        floor = schedule.final_lr / schedule.lr
        phases.append({"type": "CosineAnnealingLR", "eta_min_ratio": floor, "begin": warmup, "end": schedule.steps})
    wrapper: dict[str, Any] = {"type": "OptimWrapper"}
    if schedule.autocast:
        wrapper = {"type": "AmpOptimWrapper", "dtype": schedule.autocast}
    training: dict[str, Any] = {"type": "IterBasedTrainLoop", "max_iters": schedule.steps}
    checkpoint: dict[str, Any] = {"type": "CheckpointHook", "by_epoch": False, "interval": schedule.steps}
    if schedule.val_every is not None:
        training["val_interval"] = schedule.val_every
        checkpoint |= {"interval": schedule.val_every, "save_best": "coco/segm_mAP", "max_keep_ckpts": 1}
    return {
        "train_cfg": training,
        "optim_wrapper": {
            **wrapper,
            "constructor": "DistillOptimWrapperConstructor",
            "optimizer": {
                "type": "AdamW",
                "lr": schedule.lr,
                "betas": schedule.betas,
                "weight_decay": schedule.weight_decay,
            },
            "paramwise_cfg": {"student_lr_mult": schedule.student_lr_factor},
            "clip_grad": None if schedule.clip_norm is None else {"max_norm": schedule.clip_norm},
            "accumulative_counts": schedule.accumulate,
        },
        "param_scheduler": [phase | {"by_epoch": False} for phase in phases],
        "default_hooks": {"checkpoint": checkpoint, "logger": {"type": "LoggerHook", "interval": 10}},
        "log_processor": {"by_epoch": False},
        "randomness": {"seed": schedule.seed},
    }


def _precision(schedule: Schedule) -> dict[str, Any]:
    """Under autocast, heads that return float32; MMEngine validates and tests in float32 anyway."""
    return {"custom_hooks": [{"type": "DistillFloat32Hook"}]} if schedule.autocast else {}
