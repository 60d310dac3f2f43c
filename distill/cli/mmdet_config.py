"""`distill mmdet-config RECIPE [--output FILE.py] [--key value]`: a fine-tuning recipe as a plain MMDetection config.

What MMDetection cannot say is refused, never dropped: the file either describes the recipe's run or is not written.
Splits that no annotation file holds, such as `val_fraction`, or none as MMDetection reads it, are written beside it.
"""

import argparse
import dataclasses
import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from distill.data.records import REQUIRED, tidied
from distill.errors import UserError
from distill.files import write_atomically, write_json
from distill.launch.parse import Recipe
from distill.launch.quiet import quiet
from distill.recipe.check import TRAINER_DEFAULTS, check
from distill.recipe.find import RUN_RECIPE, find
from distill.recipe.overrides import expand
from distill.runs.moved import moved_paths, words_for

_MODEL_KEYS = {"student", "head", "optim", "max_detections"}  # the last is evaluation's, and MMDetection's is 100
_DATA_KEYS = {
    "root", "train_images", "train_annotations", "val_images", "val_annotations", "test_images", "test_annotations",
    "val_fraction", "val_seed", "train_limit", "filter_empty", "classes", "on_error",  # which images and objects
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


class _Recipe(Recipe):
    """A fine-tuning recipe, of which model and data are built."""

    def __init__(self, source: Path, words: list[str]) -> None:
        super().__init__("fit", source, [*words, "--run.seeds=null"])  # a config: one run
        if self.task_class.kind != "fine-tune":
            raise UserError(f"{source} trains no head, so there is no detector to describe; name a fine-tuning recipe")
        built = self.build()
        self.model, self.datamodule = built.task, built.data


def run(words: list[str]) -> None:
    """Runs `distill mmdet-config RECIPE [--output FILE.py] [--key value]`.

    Raises:
        UserError: Anything that `distill fit` refuses, or a recipe that MMDetection cannot follow.
    """
    parser = argparse.ArgumentParser("distill mmdet-config", description=__doc__, allow_abbrev=False)
    parser.add_argument("recipe", help="a fine-tuning recipe or a run folder")
    parser.add_argument("--output", type=Path, help="the file to write; by default RECIPE.py here")
    arguments, overrides = parser.parse_known_args(words[1:])
    recipe = find(arguments.recipe)
    name = recipe.parent.name if recipe.name == RUN_RECIPE else recipe.stem
    output = arguments.output or Path(f"{name}.py")
    if output.suffix != ".py" or output.is_dir():
        raise UserError(
            f"--output is {output}; MMDetection reads configs from files in .py: name one, such as {name}.py"
        )
    check("fit", recipe, expand([*words_for(moved_paths(recipe)), *overrides]))
    with quiet():
        cli = _Recipe(recipe, overrides)
    export = import_module("heads.mmdet.config")  # by name: `distill` knows contracts, not components
    detector, schedule = _detector(cli), _schedule(cli, export)
    config = export.mmdet_config(name, _backbone(cli, export), detector, _data(cli, export, output), schedule)
    train = f"Runner.from_cfg(Config.fromfile('{output}')).train()"
    opening = (
        f"{arguments.recipe} in MMDetection's notation, written by `distill mmdet-config`. Train with\n"
        f'  python -c "from mmengine.config import Config; from mmengine.runner import Runner; {train}"\n'
        "or any tool of MMDetection. Paths are relative to the folder it is started in."
    )
    write_atomically(output, lambda temporary: export.write_config(config, temporary, opening))
    print(f"wrote {output}; its opening comment says how to train with it")


def _backbone(cli: _Recipe, export: Any) -> Any:
    given = _arguments(cli, "model").student
    student = cli.model.student
    return export.Backbone(
        class_path=given.class_path,
        init_args=_plain(given.get("init_args")),
        mean=list(getattr(student, "mean", IMAGENET_DEFAULT_MEAN)),
        std=list(getattr(student, "std", IMAGENET_DEFAULT_STD)),
    )


def _detector(cli: _Recipe) -> dict[str, Any]:
    _refuse_others("model", vars(_arguments(cli, "model")), _defaults(type(cli.model)), _MODEL_KEYS)
    cli.model.build(cli.datamodule.class_names)
    head = cli.model.head
    if not hasattr(head, "mmdet_config"):
        raise UserError(
            f"{type(head).__name__} is no head of MMDetection; use heads.MaskRCNN, "
            "heads.CascadeMaskRCNN or heads.RSPrompter"
        )
    config: dict[str, Any] = head.mmdet_config()
    return config


def _data(cli: _Recipe, export: Any, output: Path) -> Any:
    data = cli.datamodule
    _refuse_others("data", vars(_arguments(cli, "data")), _defaults(type(data)), _DATA_KEYS)
    sources = {}
    for split, (images, annotations) in data.sources.items():
        truth = data.ground_truth(split)
        if not _is_split(json.loads(Path(annotations).read_text(encoding="utf-8-sig")), truth):
            annotations = str(output.with_name(f"{output.stem}_{split}.json"))
            write_json(Path(annotations), truth)
        sources[split] = (images, annotations)
    return export.Data(
        sources=sources,
        classes=list(data.class_names),
        image_size=data.image_size,
        batch_size=data.batch_size,
        num_workers=data.num_workers,
        scale_jitter=tuple(data.scale_jitter),
        flip=data.flip,
        bands=data.bands,
    )


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


def _schedule(cli: _Recipe, export: Any) -> Any:
    trainer, optim = cli.config.trainer, cli.model.optim_settings
    known = {field.name for field in dataclasses.fields(export.Schedule)}
    for field in dataclasses.fields(optim):
        if field.name not in known and getattr(optim, field.name) != field.default:
            raise _inexpressible(f"model.optim.{field.name}", getattr(optim, field.name), field.default)
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
    given = {key: value for key, value in vars(trainer).items() if value is not None}
    _refuse_others("trainer", given, defaults, _TRAINER_KEYS)
    if not isinstance(trainer.val_check_interval, int) or trainer.check_val_every_n_epoch is not None:
        raise UserError("MMDetection's config validates by steps; set trainer.val_check_interval to a whole number")
    accumulate = trainer.accumulate_grad_batches
    return export.Schedule(
        steps=trainer.max_steps * accumulate,
        val_every=None if trainer.limit_val_batches == 0 else trainer.val_check_interval,
        lr=optim.lr,
        betas=tuple(optim.betas),
        weight_decay=optim.weight_decay,
        warmup_steps=optim.warmup_steps * accumulate,
        final_lr=optim.final_lr,
        student_lr_factor=optim.student_lr_factor,
        clip_norm=trainer.gradient_clip_val or None,
        accumulate=accumulate,
        autocast=_AUTOCAST[precision],
        seed=cli.config.seed_everything or 0,
    )


def _arguments(cli: _Recipe, key: str) -> Any:
    return cli.config[key].init_args


def _defaults(owner: type) -> dict[str, Any]:
    """Of a constructor's arguments, those of its bases included."""
    return {
        name: parameter.default
        for base in reversed(inspect.getmro(owner))
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
    }


def _refuse_others(section: str, given: dict[str, Any], defaults: dict[str, Any], known: set[str]) -> None:
    """Refuses arguments that differ from their defaults and have no counterpart in the config."""
    for name, value in given.items():
        if name not in known and _plain(value) != defaults.get(name):
            raise _inexpressible(f"{section}.{name}", _plain(value), defaults.get(name))


def _inexpressible(key: str, given: Any, expressible: Any) -> UserError:
    allowed = "null" if expressible is None else expressible
    return UserError(f"{key} is {given}, which MMDetection's config cannot express; add --{key} {allowed}")


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries."""
    return value.as_dict() if hasattr(value, "as_dict") else value
