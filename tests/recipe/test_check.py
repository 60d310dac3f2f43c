"""A wrong word, key, class or value answers at once, in one line: its key, what was given and what is allowed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distill.cli import main
from distill.errors import UserError
from distill.launch.parse import ParsedRecipe
from distill.recipe.check import check
from distill.recipe.command_line import merged, split
from distill.recipe.compose import compose
from distill.recipe.errors import explain
from distill.runs.free_folder import require_free_folder
from distill.runs.missing_paths import require_paths
from tests.run_folders import write_run

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("train", "val")
SLOW = {"torch", "pytorch_lightning", "jsonargparse", "timm", "numpy", "mmengine"}  # which take most of the start
IMAGES = ("--data.root", str(ROOT))
FURTHER = "--model.targets=[{feature: a, teacher: {class_path: teachers.ViT, init_args: {name: a, checkpoint: b.pth}}}]"
DISTIL, BOXES, PIXELS = "rs4d_small", "finetune/nwpu_mask_rcnn_cpu", "landcover/lale_s1_from_cnn_cpu"

WRONG = [
    (DISTIL, "--model.optm.lr=1", "unknown key in model 'optm': did you mean optim? valid names are teacher, student,"),
    (DISTIL, "--model.optim.rate=1", "unknown key in model.optim 'rate': valid names are lr, weight_decay,"),
    (DISTIL, "--model.optim={lr: fast}", "model.optim.lr: given fast, expected a number;"),
    (DISTIL, "--model.optim={lr: .nan}", "model.optim.lr: given nan, expected a number;"),
    (DISTIL, "--model.optim.betas=[0.9, .nan]", "model.optim.betas: given nan, expected a number;"),
    (DISTIL, "--model.optim={lr: 1, foo: 2}", "unknown key in model.optim 'foo': valid names are lr,"),
    (DISTIL, "--model.optim.betas=[0.9]", "model.optim.betas: given [0.9], expected a list of 2;"),
    (DISTIL, "--model.corruption={noise: [1]}", "model.corruption.noise: given [1], expected a number;"),
    (DISTIL, "--model.corruption=none", "model.corruption: given none, expected a class path, a mapping or null;"),
    (DISTIL, "--model.loss.terms=l1", "model.loss.terms: given l1, expected a mapping;"),
    (
        DISTIL,
        "--model.loss.terms.l1=big",
        "model.loss.terms.l1: given big, expected a number, a class path or a mapping;",
    ),
    (DISTIL, "--model.loss.terms.l1={start: 1, stop: 0}", "unknown key in model.loss.terms.l1 'stop': did you mean st"),
    (DISTIL, "--model.targets={feature: neck}", "model.targets: given {'feature': 'neck'}, expected a list or null;"),
    (DISTIL, "--model.targets=[{featur: neck}]", "unknown key in model.targets 'featur': did you mean feature?"),
    (DISTIL, "--model.targets=[{feature: neck, tap: x}]", "model.targets.tap: given x, expected a whole number;"),
    (
        DISTIL,
        "--model.targets=[{feature: a, teacher: teachers.Sam}]",
        "unknown class in model.targets.teacher (module teachers) 'Sam': did you mean SAM?",
    ),
    (DISTIL, "--model.teacher.blocks=[a]", "model.teacher.blocks: given a, expected a whole number;"),
    (DISTIL, "--model.teacher=null", "model.teacher: given null, expected a class path or a mapping;"),
    (
        DISTIL,
        "--model.teacher=teachers.Sam",
        "unknown class in model.teacher (module teachers) 'Sam': did you mean SAM?",
    ),
    (
        DISTIL,
        "--model.student=students",
        "model.student: students is a package; name a class of it: EfficientViT, EfficientViTSAM, LALE, RS4D,",
    ),
    (DISTIL, "--model.student=student.RS4D", "model.student: there is no module 'student'; classes live in distill,"),
    (DISTIL, "--model.student=students.rs4e.RS4D", "model.student: there is no module 'students.rs4e'; classes live"),
    (DISTIL, "--model.student={class_path: 5}", "model.student.class_path: given 5, expected a class path,"),
    (
        DISTIL,
        "--model.student={class_path: students.LALE, variant: S1}",
        "model.student: variant stands beside class_p",
    ),
    (DISTIL, "--model.student.init_args=5", "model.student.init_args: given '5', expected a mapping;"),
    (DISTIL, "--model.student.out_indices=1,2", "model.student.out_indices: given 1,2, expected a list or null;"),
    (DISTIL, "--model.student.init_args.varint=tiny", "unknown key in model.student 'varint': did you mean variant?"),
    (
        DISTIL,
        "--model=distill.Distillation",
        "unknown class in model (module distill) 'Distillation': did you mean Dis",
    ),
    (DISTIL, "--model=null", "has no model; a recipe is a mapping with model, data and trainer"),
    (
        DISTIL,
        "--data.rot=x",
        "unknown key in data 'rot': did you mean root or val_root? valid names are root, image_size,",
    ),
    (
        DISTIL,
        "--data={class_path: distill.data.ImageFolder, init_args: {rot: 5}}",
        "unknown key in data 'rot': did you",
    ),
    (DISTIL, "--trainer.max_stepz=3", "unknown key in trainer 'max_stepz': did you mean max_steps"),
    (DISTIL, "--trainer.max_steps=many", "trainer.max_steps: given many, expected a whole number;"),
    (DISTIL, "--trainer=5", "trainer: given '5', expected a mapping;"),
    (DISTIL, "--trainer=null", "trainer: given null, expected a mapping;"),
    (DISTIL, "--run=null", "run: given null, expected a mapping;"),
    (DISTIL, "--seed_everything=null", "seed_everything: given null, expected true, false or a whole number;"),
    (DISTIL, "--seed_everything=[1]", "seed_everything: given [1], expected true, false or a whole number;"),
    (
        DISTIL,
        "--trainer.callbacks=[{class_path: distill.EMAA}]",
        "unknown class in trainer.callbacks (module distill) 'E",
    ),
    (
        DISTIL,
        "--trainer.callbacks=[{class_path: distill.EMA, init_args: {decy: 1}}]",
        "in trainer.callbacks 'decy': did",
    ),
    (DISTIL, "--run.overwrit=true", "unknown key in run 'overwrit': did you mean overwrite? valid names are dir,"),
    (DISTIL, "--run.seeds=[two]", "run.seeds: given two, expected a whole number;"),
    (DISTIL, "--modle.target=neck", "unknown recipe key 'modle': did you mean model? valid names are model, data,"),
    (DISTIL, "--ckpt_path", "--ckpt_path has no value; give one after it"),
    (DISTIL, "last", "'last' follows no --key; recipes come first, then pairs --key value"),
    (
        BOXES,
        "--data=distill.data.CocoInstances",
        "data: distill.data.CocoInstances needs train_images, train_annotations",
    ),
    (BOXES, "--data.root=null", "data.root: given null, expected text;"),
    (BOXES, "--data.augmentation={looks: wide}", "data.augmentation.looks: given wide, expected a number;"),
    (BOXES, "--data.augmentation.look=3", "unknown key in data.augmentation 'look': did you mean looks?"),
    (BOXES, "--data.classes=[[ship]]", "data.classes: given ['ship'], expected text;"),
    (BOXES, "--data.train_images=x", "unknown key in data 'train_images': did you mean train_limit"),
    (
        BOXES,
        "--model.head.class_names=[ship]",
        "unknown key in model.head 'class_names': valid names are neck_channels",
    ),
    (
        BOXES,
        "--model.head={class_path: heads.MaskRCNN, init_args: {fc_channels: wide}}",
        "model.head.fc_channels: given",
    ),
    (
        PIXELS,
        "--model.teacher.backbone={class_path: students.RS4D, init_args: {varint: 1}}",
        "model.teacher.backbone 'va",
    ),
    (PIXELS, "--model.teacher.head.chanels=3", "unknown key in model.teacher.head 'chanels': did you mean channels?"),
    (PIXELS, "--model.soft_targets.weight=x", "model.soft_targets.weight: given x, expected a number;"),
    (PIXELS, "--data.ignore=[1]", "unknown key in data 'ignore': valid names are root, image_size,"),
]


@pytest.mark.parametrize(("recipe", "word", "expected"), WRONG)
def test_the_first_wrong_key_is_named(recipe: str, word: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        check("fit", compose([recipe]), [word])
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert "Namespace" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ["--model.optim.lr", "1e-3", "--trainer.max_steps=3"],  # text to YAML, a number to the parser
        ["--model.student=students.LALE", "--model.student.variant=S2"],  # keys of RS4D do not stay
        ["--model.student=LALE", "--model.head=RSPrompter"],  # classes that the parser may know
        ["--data=distill.data.CocoInstances", *(f"--data.{p}_{k}=x" for p in PARTS for k in ("images", "annotations"))],
        ["--data.root", "scans: all", "--model.head.overrides", "a.b: 1", "--model.help", "distill.FineTuningModule"],
        ["--model.optim=null", "--data.augmentation=augmentation.yaml", "--print_config"],
        ["--config", "{model.student.checkpoint: null}", "--trainer.callbacks+=distill.EMA"],
        ["--model.student=torch.nn.Identity", "--model.student.anything=1"],  # not ours: the parser's to judge
        ["--data.scale_jitter", "[1, 2]", "--trainer.devices=auto", "--seed_everything=1", "--ckpt_path=last"],
    ],
)
def test_what_the_parser_takes_passes(words: list[str]) -> None:
    check("fit", compose([BOXES]), words)


def test_overrides_are_put_in_place() -> None:
    words = ["--model.student.variant=small", "--model.head", "heads.DenseMasks", "--data.augmentation.looks=2.0"]
    tree = merged(compose([BOXES]), words)
    assert tree["model"]["init_args"]["student"]["init_args"]["variant"] == "small"
    assert tree["model"]["init_args"]["head"]["class_path"] == "heads.DenseMasks"
    assert "roi_samples" not in tree["model"]["init_args"]["head"]["init_args"]
    assert tree["data"]["init_args"]["augmentation"] == {"looks": 2.0}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", DISTIL, "--model.optm.lr", "1"], "did you mean optim?"),
        (["fit", BOXES, "--data.rot", "x"], "did you mean root?"),
        (["fit", "nope"], "there is no file nope"),
        (["fit", DISTIL, "--model", "distill.Nope"], "unknown class in model"),
        (["fti"], "did you mean fit?"),
        (["fit", DISTIL, "--data.root", "/nowhere"], "data.root '/nowhere' does not exist"),
        (["fit", DISTIL, "--data.root", ".", "--data.val_root", "/nowhere"], "data.val_root '/nowhere' does not exist"),
        (["fit", DISTIL, *IMAGES, "--model.teacher.checkpoint", "a.pth"], "model.teacher: checkpoint 'a.pth' does not"),
        (["fit", DISTIL, *IMAGES, "--model.student.checkpoint", "a.pth"], "model.student: checkpoint 'a.pth' does not"),
        (["fit", DISTIL, *IMAGES, FURTHER], "model.targets[0].teacher: checkpoint 'b.pth' does not exist"),
        (["fit", "demo/scratch", "--data.train_images", "."], "data.train_annotations 'runs/demo/data/labelled/annota"),
        (["cache", DISTIL, "--out", "targets"], "data.root 'data/images' does not exist"),
        (["fit", DISTIL, "--data.batch_size", "-4"], "data: batch_size is -4; it must be 1 or more"),
        (["fit", BOXES, "--data.num_workers", "-1"], "data: num_workers is -1; it must be 0 or more"),
        (["fit", DISTIL, "--data.val_limit", "0"], "data: val_limit is 0; it must be 1 or more"),
        (["fit", DISTIL, "--trainer.max_steps", "0"], "trainer.max_steps is 0; it must be above 0"),
        (["fit", DISTIL, "--trainer.max_steps", "-3"], "trainer.max_steps is -3; it must be above 0"),
        (["fit", DISTIL, "--model.optim.lr", "-1"], "model.optim: lr is -1; it must be above 0"),
        (["fit", BOXES, "--model.optim", "{lr: 0}"], "model.optim: lr is 0; it must be above 0"),
        (["fit", PIXELS, "--model.optim.warmup_steps=-1"], "model.optim: warmup_steps is -1; it must be 0 or more"),
        (["export", "runs/mine", "--out", "x", "--format", "onx"], "unknown format 'onx': did you mean onnx?"),
        (["export", "runs/mine"], "the following arguments are required: --out; see `distill export --help`"),
        (["predict", "runs/mine", "a.png"], "the following arguments are required: --out; see `distill predict --help"),
        (["serve", "runs/mine", "--port", "99999"], "--port is 99999; it must lie in 0 to 65535"),
        (["demo", "--seed", "-1"], "--seed is -1; it must lie in 0 to 4294967295"),
    ],
)
def test_a_mistake_waits_for_no_import(words: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in refused_at_once(words, tmp_path)


def refused_at_once(words: list[str], folder: Path) -> str:
    """What a command says that is refused before anything slow is imported."""
    program = (
        f"from distill.cli import main; code = main({words}); import sys; print(code, {SLOW} & sys.modules.keys())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.stdout.strip() == "2 set()"
    return done.stderr


def test_a_folder_that_holds_a_run_waits_for_no_import(tmp_path: Path) -> None:
    """The default folder, one that is named, and that of a run which is fitted again from its folder."""
    write_run(tmp_path / "runs" / "rs4d_small")
    named = ["--run.dir", "runs/rs4d_small"]
    for words in ([DISTIL], [BOXES, *named], ["runs/rs4d_small"]):
        said = refused_at_once(["fit", *words], tmp_path)
        assert "rs4d_small already holds a run; resume it with --ckpt_path last, start over with --run.ov" in said
    write_run(tmp_path / "2024")
    assert "2024 already holds a run" in refused_at_once(["fit", DISTIL, "--run.dir", "2024"], tmp_path)
    write_run(tmp_path / "seeds" / "seed0")
    assert "seeds holds the runs of several seeds" in refused_at_once(["fit", BOXES, "--run.dir=seeds"], tmp_path)


@pytest.mark.parametrize(
    "words", [["--ckpt_path=last"], ["--run.overwrite", "true"], ["--run.seeds=[0, 1]"], ["--run.dir=other"]]
)
def test_a_folder_that_holds_a_run_may_be_fitted(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "rs4d_small")
    recipe, overrides = split([DISTIL, *words])
    assert recipe is not None
    require_free_folder(recipe, overrides)


@pytest.mark.parametrize(
    "words",
    [
        ["--ckpt_path=last", "--model.teacher.checkpoint=a.pth", "--model.student.checkpoint=a.pth"],
        ["--model.cache={root: targets}", "--model.teacher.checkpoint=a.pth"],
        ["--data={class_path: mine.Data, init_args: {root: 'https://data'}}"],
    ],
)
def test_paths_that_are_not_needed_are_not_looked_at(words: list[str]) -> None:
    recipe, rest = split([DISTIL, *IMAGES, *words])
    assert recipe is not None
    require_paths(recipe, rest)


def test_what_a_class_of_others_needs_is_named(distill_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(distill_recipe), "--model.student=torch.nn.Linear"]) == 2
    error = capsys.readouterr().err
    assert "distill: error: model.student needs in_features, out_features; add to the recipe what is missing" in error


@pytest.mark.parametrize("form", ["--data={}", "--data {}"])
def test_a_class_keeps_the_arguments_that_stand_before_it(form: str) -> None:
    """Its own, also where no class was there before; what it does not take is refused."""
    coco = form.format("distill.data.CocoInstances").split()
    given = [f"--data.{part}_{kind}=x" for part in PARTS for kind in ("images", "annotations")]
    recipe, words = split(["finetune/mask_rcnn", "data/nwpu", *given, "--run.dir=a", *coco])
    assert recipe is not None
    assert words == ["--run.dir=a", *coco, *given]
    data = ParsedRecipe("fit", recipe, words).config.data
    assert (data.class_path, data.init_args.val_annotations) == ("distill.data.CocoInstances", "x")
    recipe, words = split(["finetune/mask_rcnn", "data/nwpu", "--data.root=a", *coco])
    assert recipe is not None
    with pytest.raises(UserError, match="unknown key in data 'root'"):
        check("fit", recipe, words)


def test_a_class_of_the_command_line_takes_the_arguments_of_a_recipe_without_one() -> None:
    recipe, words = split(["finetune/mask_rcnn", "size/cpu", "--data.root=a", "--data", "distill.data.SSDD"])
    assert recipe is not None
    check("fit", recipe, words)
    data = ParsedRecipe("fit", recipe, words).config.data
    assert (data.init_args.root, data.init_args.image_size) == ("a", 256)


def test_a_student_keeps_the_arguments_that_stand_before_it() -> None:
    recipe, words = split([BOXES, "--model.student.kernel_size", "5", "--model.student", "students.LALE"])
    assert recipe is not None
    student = ParsedRecipe("fit", recipe, words).config.model.init_args.student
    assert (student.class_path, student.init_args.kernel_size) == ("students.LALE", 5)


def test_a_whole_component_is_not_printed() -> None:
    text = (
        'Parser key "model":\n  Does not validate against any of the Union subtypes\n  Errors:\n'
        "    - Problem with given class_path 'a.B':\n        Something about c\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'Namespace'>\n  Given value: Namespace(class_path='a.B', init_args=Namespace(c=1))"
    )
    assert str(explain(text)).startswith("model: Something about c; see")


def test_the_first_of_several_files_is_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"rot": 1}}}), encoding="utf-8")
    with pytest.raises(UserError, match="unknown key in data 'rot'"):
        check("fit", compose([BOXES]), [f"--config={tmp_path / 'more.yaml'}"])
