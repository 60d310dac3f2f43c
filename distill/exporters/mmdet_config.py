"""A fine-tuning recipe as a plain MMDetection config: what the recipe says, checked and translated.

`heads.mmdet.config` turns the result into MMDetection's notation. What MMDetection cannot express is refused.
"""

import dataclasses
import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace

from distill.contracts import HeadBase
from distill.data.coco import CocoInstances
from distill.data.records import REQUIRED, tidied
from distill.errors import UserError
from distill.files import write_atomically, write_json
from distill.recipe.check import TRAINER_DEFAULTS
from distill.tasks.instances import FineTuningModule

_MODEL_KEYS = {"student", "head", "optim", "max_detections"}  # the last is evaluation's, and MMDetection's is 100
_DATA_KEYS = {
    "root", "train_images", "train_annotations", "val_images", "val_annotations", "test_images", "test_annotations",
    "split", "val_fraction", "val_seed", "train_limit", "filter_empty", "classes", "on_error",  # which images, objects
    "image_size", "batch_size", "num_workers", "scale_jitter", "flip", "seed", "bands",
}  # fmt: skip
_TRAINER_KEYS = {
    "max_steps", "val_check_interval", "check_val_every_n_epoch", "limit_val_batches",
    "gradient_clip_val", "accumulate_grad_batches", "precision", "callbacks",
    # where a run computes and what it shows meanwhile, not what it computes
    "accelerator", "strategy", "logger", "log_every_n_steps", "num_sanity_val_steps", "default_root_dir",
    "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams", "model_registry",
    "benchmark", "inference_mode", "detect_anomaly", "profiler",
}  # fmt: skip
_SCORED_KEYS = {"id", "category_id", "bbox", "area", "segmentation", "iscrowd"}  # that pycocotools asks of an object
_AUTOCAST = {"32-true": None, "32": None, "bf16-mixed": "bfloat16", "16-mixed": "float16"}


def export_mmdet_config(
    name: str, recipe: Namespace, model: FineTuningModule, data: CocoInstances, output: Path, source: str
) -> None:
    """Writes a recipe as an MMDetection config, and beside it the splits that no annotation file holds.

    Args:
        name: Of the run that the config describes.
        recipe: Sections `model`, `data` and `trainer`, and `seed_everything`, defaults filled in.
        model: What the recipe builds, its head included.
        data: What the recipe builds.
        output: The config file.
        source: How the recipe is called in the file's opening comment.

    Raises:
        UserError: A setting that an MMDetection config cannot express, or a head that is no detector of MMDetection.
    """
    notation = import_module("heads.mmdet.config")  # by name: `distill` imports no components
    _refuse_others("model", recipe.model.init_args, _defaults(type(model)), _MODEL_KEYS)
    assert isinstance(model.head, HeadBase)
    detector = model.head.mmdet_config()
    schedule = notation.Schedule(**_schedule(recipe, model, {f.name for f in dataclasses.fields(notation.Schedule)}))
    config = notation.mmdet_config(
        name,
        notation.Backbone(
            class_path=recipe.model.init_args.student.class_path,
            init_args=_plain(recipe.model.init_args.student.get("init_args")),
            mean=list(model.student.mean),
            std=list(model.student.std),
        ),
        detector,
        notation.Data(**_data(recipe, data, output)),  # last of what may be refused, because it writes files
        schedule,
    )
    train = f"Runner.from_cfg(Config.fromfile('{output}')).train()"
    opening = (
        f"{source} in MMDetection's notation, written by `distill mmdet-config`. Train with\n"
        f'  python -c "from mmengine.config import Config; from mmengine.runner import Runner; {train}"\n'
        "or any tool of MMDetection. Paths are relative to the folder it is started in."
    )
    write_atomically(output, lambda temporary: notation.write_config(config, temporary, opening))


def _data(recipe: Namespace, data: CocoInstances, output: Path) -> dict[str, Any]:
    _refuse_others("data", recipe.data.init_args, _defaults(type(data)), _DATA_KEYS)
    sources = {}
    for split, (images, annotations) in data.sources.items():
        truth = data.ground_truth(split)
        if not _is_split(json.loads(Path(annotations).read_text(encoding="utf-8-sig")), truth):
            annotations = str(output.with_name(f"{output.stem}_{split}.json"))
            write_json(Path(annotations), truth)
        sources[split] = (images, annotations)
    return {
        "sources": sources,
        "classes": list(data.class_names),
        "image_size": data.image_size,
        "batch_size": data.batch_size,
        "num_workers": data.num_workers,
        "scale_jitter": tuple(data.scale_jitter),
        "flip": data.flip,
        "bands": data.bands,
    }


def _is_split(content: dict[str, Any], truth: dict[str, Any]) -> bool:
    """Whether an annotation file holds these images and objects, and the classes in the order of their labels.

    MMDetection labels categories in file order, whatever order its config names them in. It takes records as they are
    written, and scores an object of id 0 as if it were not there.
    """
    wanted = [category["id"] for category in truth["categories"]]
    return (
        all(_is_plain(section, record) for section in REQUIRED for record in content[section])
        and [category["id"] for category in content["categories"] if category["id"] in wanted] == wanted
        and {image["id"] for image in content["images"]} == {image["id"] for image in truth["images"]}
        and sum(record["category_id"] in wanted for record in content["annotations"]) == len(truth["annotations"])
    )


def _is_plain(section: str, record: Any) -> bool:
    """Whether a record means the same to MMDetection, which undoes none of the ways to write it that `tidied` does."""
    if json.dumps(tidied(section, record)) != json.dumps(record):  # 64.0 is 64 to `==`
        return False
    return section != "annotations" or (
        isinstance(record, dict) and record.keys() >= _SCORED_KEYS and record["id"] != 0
    )


def _schedule(recipe: Namespace, model: FineTuningModule, known: set[str]) -> dict[str, Any]:
    """Arguments of `heads.mmdet.config.Schedule`, which knows the settings of the optimizer that are `known`."""
    trainer, optim = recipe.trainer, model.optim_settings
    for field in dataclasses.fields(optim):
        value = vars(optim)[field.name]
        if field.name not in known and value != field.default:
            raise _inexpressible(f"model.optim.{field.name}", value, field.default)
    if trainer.max_steps < 1:
        raise UserError(
            "MMDetection's config counts steps; set trainer.max_steps, for example --trainer.max_steps 1000"
        )
    if trainer.callbacks:
        raise _inexpressible("trainer.callbacks", "set", None)
    precision = str(trainer.precision or "32-true")
    if precision not in _AUTOCAST:
        raise _inexpressible("trainer.precision", precision, "32-true, bf16-mixed or 16-mixed")
    limit = trainer.limit_val_batches
    if limit not in (None, 0) and not (isinstance(limit, float) and limit == 1):  # the integer 1 is one batch
        raise _inexpressible("trainer.limit_val_batches", limit, "1.0 or 0")
    defaults = _defaults(pl.Trainer) | TRAINER_DEFAULTS | {"gradient_clip_algorithm": "norm"}
    # None is Lightning's word for its own default.
    given = Namespace(**{key: value for key, value in vars(trainer).items() if value is not None})
    _refuse_others("trainer", given, defaults, _TRAINER_KEYS)
    if not isinstance(trainer.val_check_interval, int) or trainer.check_val_every_n_epoch is not None:
        raise UserError("MMDetection's config validates by steps; set trainer.val_check_interval to a whole number")
    accumulate = trainer.accumulate_grad_batches
    return {
        "steps": trainer.max_steps * accumulate,
        "val_every": None if trainer.limit_val_batches == 0 else trainer.val_check_interval,
        "lr": optim.lr,
        "betas": tuple(optim.betas),
        "weight_decay": optim.weight_decay,
        "warmup_steps": optim.warmup_steps * accumulate,
        "final_lr": optim.final_lr,
        "student_lr_factor": optim.student_lr_factor,
        "clip_norm": trainer.gradient_clip_val or None,
        "accumulate": accumulate,
        "autocast": _AUTOCAST[precision],
        "seed": recipe.seed_everything or 0,
    }


def _defaults(owner: type) -> dict[str, Any]:
    """Of a constructor's arguments, those of its bases included."""
    return {
        name: parameter.default
        for base in reversed(inspect.getmro(owner))
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
    }


def _refuse_others(section: str, given: Namespace, defaults: dict[str, Any], known: set[str]) -> None:
    """Refuses arguments that differ from their defaults and have no counterpart in the config."""
    for name, value in vars(given).items():
        if name not in known and _plain(value) != defaults.get(name):
            raise _inexpressible(f"{section}.{name}", _plain(value), defaults.get(name))


def _inexpressible(key: str, given: Any, expressible: Any) -> UserError:
    allowed = "null" if expressible is None else expressible
    return UserError(f"{key} is {given}, which MMDetection's config cannot express; add --{key} {allowed}")


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries."""
    return value.as_dict() if isinstance(value, Namespace) else value
