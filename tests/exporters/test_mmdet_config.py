"""`distill mmdet-config`: the file is a run that MMEngine's runner takes, and the run that the recipe describes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image

from distill.cli import main
from distill.curate.prepare import prepare
from distill.training.optim import OptimSettings, build_optimizer, lr_factor
from heads.mmdet.mmcv_ops import ensure_mmcv_ops
from students import RS4D
from tests.data.published import ssdd_rsprompter

ensure_mmcv_ops()  # before MMEngine

from mmengine.config import Config  # noqa: E402

# What configs of version 0.1.0 import.
OLD_IMPORTS = [
    "heads.mmdet_student",
    "heads.mmdet_optim",
    "heads.mmdet_float32",
    "heads.mmdet_loading",
    "heads.prompt_roi_head",
]
QUICK = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"]
ROOT = Path(__file__).parents[2]


def write(recipe: Path, output: Path, *overrides: str, formatted: bool = False) -> int:
    """What `distill mmdet-config` returns; the file is not formatted, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if not formatted:
            patch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, True))
        return main(["mmdet-config", str(recipe), "--output", str(output), *overrides])


def test_the_runner_trains_and_validates_one_step(finetune_recipe: Path, tmp_path: Path) -> None:
    """In a process of its own, as a user starts it: MMEngine's runner changes settings of the process.

    Its autocast is for GPUs alone; without it the hook that belongs to it is built and called all the same. The first
    config names the modules that configs of version 0.1.0 import, before anything has imported the present ones.
    Nothing reads the copies of the config that the runner saves and logs, so they are not formatted.
    """
    cases = {
        "old": ("RSPrompter", "bf16-mixed"),
        "autocast": ("CascadeMaskRCNN", "bf16-mixed"),
        "mask_rcnn": ("MaskRCNN", "32-true"),
    }
    light = ["--model.head.neck_skip_finest=true", '--model.head.overrides={"roi_head.mask_head.class_agnostic": true}']
    for name, (head, precision) in cases.items():
        arguments = [f"--model.head.class_path=heads.{head}", "--model.head.init_args.score_threshold=0.0", *QUICK]
        arguments += [f"--trainer.precision={precision}", *(light if name == "mask_rcnn" else [])]
        assert write(finetune_recipe, tmp_path / f"{name}.py", *arguments, formatted=name == "autocast") == 0
    old = (tmp_path / "old.py").read_text()
    assert old.count("'heads.mmdet.registered'") == 1
    (tmp_path / "old.py").write_text(old.replace("'heads.mmdet.registered'", str(OLD_IMPORTS).strip("[]")))
    code = (
        "from mmengine.config import Config, config as module\nfrom mmengine.runner import Runner\n"
        "module.FormatCode = lambda text, **_: (text, True)\n"
        f"for name in {list(cases)}:\n"
        "    config = Config.fromfile(f'{name}.py')\n"
        "    config.optim_wrapper.pop('dtype', None)\n"
        "    config.optim_wrapper.type, config.work_dir = 'OptimWrapper', name\n"
        "    Runner.from_cfg(config).train()\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (done.stdout + done.stderr).count("coco/segm_mAP:") == len(cases)
    assert all((tmp_path / name / "iter_1.pth").is_file() for name in cases)


@pytest.mark.parametrize("names", [["heads.mmdet_student"], OLD_IMPORTS])
def test_a_config_with_the_old_module_names_loads(names: list[str], tmp_path: Path) -> None:
    from mmdet.registry import MODELS, TRANSFORMS
    from mmengine.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS

    imports = f"custom_imports = dict(allow_failed_imports=False, imports={names})"
    (tmp_path / "old.py").write_text(f"{imports}\ndefault_scope = 'mmdet'\n")
    assert Config.fromfile(tmp_path / "old.py").custom_imports.imports == names
    assert all(name in sys.modules for name in names)
    for registry, name in (
        (MODELS, "DistillStudent"),
        (MODELS, "DistillPromptRoIHead"),
        (TRANSFORMS, "DistillLoadImage"),
        (HOOKS, "DistillFloat32Hook"),
        (OPTIM_WRAPPER_CONSTRUCTORS, "DistillOptimWrapperConstructor"),
    ):
        assert registry.get(name) is not None, name


def test_the_file_says_what_the_recipe_says(finetune_recipe: Path, tmp_path: Path, scenes: Path) -> None:
    output = tmp_path / "config.py"
    arguments = [
        "--data.scale_jitter=[0.5, 1.5]",
        "--model.head.neck_norm=group",
        "--model.head.neck_path_aggregation=true",
        '--model.head.overrides={"rpn_head.loss_bbox.beta": 0.1}',
        "--model.optim.student_lr_factor=0.5",
        "--trainer.accumulate_grad_batches=4",
        "--trainer.precision=bf16-mixed",
        "--seed_everything=7",
    ]
    assert write(finetune_recipe, output, *arguments) == 0
    config = Config.fromfile(output)
    model = config.model
    assert model.backbone.class_path == "students.RS4D"
    assert model.backbone.init_args.patch_size == 8
    assert (model.neck.norm, model.neck.path_aggregation, model.neck.out_channels) == ("group", True, 16)
    assert model.rpn_head.loss_bbox == {"type": "SmoothL1Loss", "beta": 0.1}
    assert model.data_preprocessor.pad_size_divisor == 64
    assert config.train_dataloader.batch_size == 2
    dataset = config.train_dataloader.dataset
    assert dataset.ann_file == str(scenes / "train" / "annotations.json")
    assert next(step for step in dataset.pipeline if step.type == "RandomResize").ratio_range == (0.5, 1.5)
    assert config.val_evaluator.ann_file == str(scenes / "test" / "annotations.json")
    assert (config.train_cfg.max_iters, config.train_cfg.val_interval) == (32, 8)  # batches, not updates
    wrapper = config.optim_wrapper
    assert (wrapper.type, wrapper.dtype, wrapper.accumulative_counts) == ("AmpOptimWrapper", "bfloat16", 4)
    assert (wrapper.clip_grad.max_norm, config.randomness.seed) == (1.0, 7)
    assert config.custom_hooks == [{"type": "DistillFloat32Hook"}]  # what it does: tests/heads/mmdet/test_student.py


def test_optimizer_and_schedule_are_ours_step_by_step(finetune_recipe: Path, tmp_path: Path) -> None:
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS

    output = tmp_path / "config.py"
    arguments = ["--trainer.max_steps=20", "--model.optim.warmup_steps=5", "--model.optim.student_lr_factor=0.3"]
    assert write(finetune_recipe, output, *arguments) == 0
    config = Config.fromfile(output)

    class Detector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = self.backbone = RS4D("tiny", image_size=64, patch_size=8, frozen_layers=1)
            self.head = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))

    detector = Detector()
    settings = OptimSettings(lr=1e-3, warmup_steps=5, student_lr_factor=0.3)
    ours = build_optimizer(detector, 20, settings)
    theirs = build_optim_wrapper(detector, config.optim_wrapper)
    schedules = [PARAM_SCHEDULERS.build(phase, default_args={"optimizer": theirs}) for phase in config.param_scheduler]

    def table(optimizer):
        rows = {}
        for group in optimizer.param_groups:
            rows |= {id(p): (group["lr"], group["weight_decay"], tuple(group["betas"])) for p in group["params"]}
        return rows

    for step in range(20):
        mine, others = table(ours["optimizer"]), table(theirs.optimizer)
        assert mine.keys() == others.keys()
        for parameter, row in mine.items():
            assert others[parameter] == (pytest.approx(row[0], rel=1e-6), row[1], row[2]), step
        assert max(row[0] for row in mine.values()) == pytest.approx(1e-3 * lr_factor(step, 20, settings))
        ours["optimizer"].step()
        theirs.step()
        ours["lr_scheduler"]["scheduler"].step()
        for schedule in schedules:
            schedule.step()


def test_evaluation_views_are_ours(finetune_recipe: Path, tmp_path: Path) -> None:
    """The detector of the config sees what the student sees, to one grey level: zoom, padding, normalisation."""
    from mmdet.registry import DATASETS
    from mmdet.registry import MODELS as MMDET_MODELS
    from mmengine.registry import DefaultScope

    from distill.data import CocoInstances

    output = tmp_path / "config.py"
    size = 96
    assert write(finetune_recipe, output, f"--data.image_size={size}") == 0
    config = Config.fromfile(output)
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs = DATASETS.build(config.val_dataloader.dataset)[0]
        preprocess = MMDET_MODELS.build(config.model.data_preprocessor)
    batch = preprocess({"inputs": [theirs["inputs"]], "data_samples": [theirs["data_samples"]]})
    dataset = config.val_dataloader.dataset
    images, annotations = dataset.data_prefix.img, dataset.ann_file
    ours, target = CocoInstances(images, annotations, images, annotations, image_size=size).dataset("val")[0]
    shown = (batch["inputs"][0] * preprocess.std + preprocess.mean) / 255
    assert shown.shape == ours.shape
    assert (shown - ours).abs().max() < 1.5 / 255
    record = batch["data_samples"][0]
    assert (record.img_id, record.img_shape, record.ori_shape) == (target.image_id, target.size, target.original_size)


def test_the_config_reads_images_as_fit_does(finetune_recipe: Path, tmp_path: Path) -> None:
    """16 bits with nodata, an EXIF orientation and bands by number: each would be another image to MMCV's reader."""
    from mmdet.registry import TRANSFORMS

    from distill.data.images import read_image

    output = tmp_path / "config.py"
    assert write(finetune_recipe, output, "--data.bands=[3,1,2]") == 0
    pipelines = [Config.fromfile(output)[f"{split}_dataloader"].dataset.pipeline for split in ("train", "val", "test")]
    load = TRANSFORMS.build(pipelines[0][0])
    assert [pipeline[0] for pipeline in pipelines] == [{"type": "DistillLoadImage", "bands": [3, 1, 2]}] * 3
    values = np.random.default_rng(0).gamma(2, 300, (3, 24, 40)).astype(np.uint16)
    options = {"driver": "GTiff", "count": 3, "height": 24, "width": 40, "dtype": "uint16", "nodata": 65535}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 0), **options) as dataset:
        dataset.write(np.where(np.arange(40) < 9, 65535, values))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray((values[:, :8] % 256).astype(np.uint8).transpose(1, 2, 0)).save(tmp_path / "b.jpg", exif=exif)
    for name, size in (("a.tif", (24, 40)), ("b.jpg", (40, 8))):
        loaded = load({"img_path": str(tmp_path / name)})
        rgb = np.moveaxis(loaded["img"][..., ::-1], 2, 0)
        assert np.array_equal(rgb, read_image(tmp_path / name, [3, 1, 2]).numpy())
        assert (loaded["img_shape"], loaded["ori_shape"]) == (size, size)


@pytest.mark.parametrize(
    "changed", ["train_limit=3", "filter_empty=true", "val_fraction=0.25", 'classes=["aircraft", "building", "ship"]']
)
def test_splits_that_no_file_holds_are_written_beside_it(changed: str, finetune_recipe: Path, tmp_path: Path) -> None:
    from mmdet.registry import DATASETS
    from mmengine.registry import DefaultScope

    output = tmp_path / "config.py"
    assert write(finetune_recipe, output, f"--data.{changed}") == 0
    config = Config.fromfile(output)
    names, ids = {}, {}
    for split in ("train", "val"):
        with DefaultScope.overwrite_default_scope("mmdet"):
            dataset = DATASETS.build(config[f"{split}_dataloader"].dataset)
        categories = json.loads(Path(dataset.ann_file).read_text())["categories"]
        by_id = {category["id"]: category["name"] for category in categories}
        names[split] = [by_id[category] for category in dataset.cat_ids]  # what MMDetection's labels stand for
        ids[split] = {record["img_path"] for record in dataset.load_data_list()}
    assert names["train"] == names["val"] == config.train_dataloader.dataset.metainfo.classes
    written = sorted(path.name for path in tmp_path.glob("config_*.json"))
    if changed.startswith("train_limit"):
        assert (len(ids["train"]), written) == (3, ["config_train.json"])
    elif changed.startswith("filter_empty"):
        assert (len(ids["train"]), written) == (11, ["config_train.json"])
    elif changed.startswith("val_fraction"):
        assert (len(ids["train"]), len(ids["val"]), ids["train"] & ids["val"]) == (9, 3, set())
        assert written == ["config_train.json", "config_val.json"]
    else:
        assert names["train"] == ["aircraft", "building", "ship"]
        assert written == ["config_test.json", "config_train.json", "config_val.json"]


def test_a_published_split_is_taken_by_its_name(finetune_recipe: Path, tmp_path: Path) -> None:
    root = prepare("ssdd", ssdd_rsprompter(tmp_path / "source"), tmp_path / "ssdd").root
    recipe = yaml.safe_load(finetune_recipe.read_text())
    recipe["data"] = {"class_path": "distill.data.SSDD", "init_args": {"root": str(root), "split": "rsprompter"}}
    finetune_recipe.write_text(yaml.safe_dump(recipe))
    assert write(finetune_recipe, tmp_path / "config.py") == 0
    config = Config.fromfile(tmp_path / "config.py")
    assert config.val_dataloader.dataset.ann_file == str(root / "annotations/rsprompter/val.json")


@pytest.mark.parametrize("change", [{"id": 0}, {"bbox": None}, {"iscrowd": False}, {"category_id": 1.0}])
def test_records_that_mmdetection_misreads_are_written_anew(
    change: dict[str, object], finetune_recipe: Path, tmp_path: Path, scenes: Path
) -> None:
    """It crashes on boxes that are null, and scores an object of id 0 as if it were not there."""
    content = json.loads((scenes / "train" / "annotations.json").read_text())
    content["annotations"][0] |= change
    (tmp_path / "own.json").write_text(json.dumps(content))
    assert write(finetune_recipe, tmp_path / "config.py", f"--data.train_annotations={tmp_path / 'own.json'}") == 0
    config = Config.fromfile(tmp_path / "config.py")
    assert config.train_dataloader.dataset.ann_file == str(tmp_path / "config_train.json")
    written = json.loads((tmp_path / "config_train.json").read_text())["annotations"]
    assert len(written) == len(content["annotations"])
    assert all(record["id"] and len(record["bbox"]) == 4 for record in written)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--model.head.dense_weight=1"], "set it to 0"),
        (["--model.head=heads.DenseMasks"], "has no counterpart in MMDetection"),
        (["--data.turns=true"], "add --data.turns False"),
        (["--data.augmentation.rotate=true"], "data.turns is True"),  # its name in earlier versions
        (["--data.oversample_threshold=0.5"], "add --data.oversample_threshold 0.0"),
        (["--model.optim.layer_decay=0.8"], "add --model.optim.layer_decay 1.0"),
        (["--trainer.precision=64-true"], "trainer.precision is 64-true"),
        (["--trainer.limit_val_batches=0.5"], "trainer.limit_val_batches is 0.5"),
        (["--trainer.limit_train_batches=4"], "add --trainer.limit_train_batches null"),
        (["--trainer.overfit_batches=2"], "add --trainer.overfit_batches 0.0"),
        (["--trainer.gradient_clip_algorithm=value"], "add --trainer.gradient_clip_algorithm norm"),
        (["--trainer.max_epochs=2"], "add --trainer.max_epochs -1"),
        (["--trainer.max_time=00:01:00:00"], "add --trainer.max_time null"),
        (["--trainer.min_steps=4"], "add --trainer.min_steps null"),
        (["--trainer.fast_dev_run=true"], "add --trainer.fast_dev_run False"),
        (["--trainer.sync_batchnorm=true"], "add --trainer.sync_batchnorm False"),
        (["--trainer.devices=2"], "add --trainer.devices 1"),
        (["--trainer.deterministic=true"], "add --trainer.deterministic null"),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=2"], "set trainer.max_steps"),
        (["--trainer.check_val_every_n_epoch=1"], "validates by steps"),
        (["--model.head.neck_nrm=batch"], "neck_nrm"),
        (['--trainer.callbacks=[{"class_path": "distill.EMA"}]'], "trainer.callbacks"),
    ],
)
def test_what_mmdetection_cannot_say_is_refused_on_one_line(
    overrides: list[str], message: str, finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(finetune_recipe, tmp_path / "config.py", *overrides) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("distill: error: ")
    assert message in error
    assert not (tmp_path / "config.py").exists()


def test_what_changes_nothing_of_the_run_is_no_hindrance(finetune_recipe: Path, tmp_path: Path) -> None:
    words = ["limit_val_batches=1.0", "gradient_clip_algorithm=norm", "max_epochs=null", "log_every_n_steps=3"]
    assert write(finetune_recipe, tmp_path / "config.py", *(f"--trainer.{word}" for word in words)) == 0


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("config.yaml", "files in .py"),
        ("", "files in .py"),
        ("folder.py", "files in .py"),
        ("file/config.py", "cannot be written"),
        ("/proc/nope/config.py", "cannot be written"),
    ],
)
def test_a_place_that_takes_no_config_is_one_line(
    output: str, message: str, finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    (place / "folder.py").mkdir(parents=True)
    (place / "file").touch()
    assert write(finetune_recipe, place / output, "--data.train_limit=3") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("distill: error: ")
    assert message in error
    assert sorted(path.name for path in place.rglob("*")) == ["file", "folder.py"]


def test_a_distillation_has_no_detector(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(distill_recipe, tmp_path / "config.py") == 2
    assert "trains no head" in capsys.readouterr().err
