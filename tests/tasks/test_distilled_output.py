"""What a distillation hands on: maps of the teacher's scale, statistics of clean images, a start for another run."""

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import students
from distill import EMA, load_student
from distill.data import ImageFolder
from distill.runs.finish import FinishRun
from distill.runs.folder import RunFolder
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.losses.features import LossSettings
from distill.training.optim import OptimSettings
from distill.weights import read_state_dict, write_weights
from students import RS4D, TimmStudent
from teachers import ViT
from tests.contract.cases import narrow

VIT = {"img_size": 64, "patch_size": 8, "depth": 3, "num_heads": 4}
CASES: dict[str, tuple[dict[str, Any], int]] = {  # arguments, and channels of the last map
    "RS4D": ({"variant": "tiny", "image_size": 64, "patch_size": 8}, 192),
    "LALE": ({"variant": "S1"}, 256),
    "EfficientViTSAM": ({"variant": "l0"}, 256),
    "TimmStudent": ({"name": "vit_tiny_patch16_224", "options": VIT}, 192),
}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)


def teacher_of(width: int, folder: Path) -> ViT:
    """A ViT with as many channels, each of a mean and a scale of its own."""
    torch.manual_seed(1)
    options = VIT | {"embed_dim": width, "depth": 1}
    encoder = TimmStudent("vit_tiny_patch16_224", [0], options=options)
    write_weights(encoder, folder / "t.safetensors", {"class": "students.TimmStudent", "init_args": encoder.init_args})
    teacher = ViT("vit_tiny_patch16_224", str(folder / "t.safetensors"))
    last = teacher.encoder.blocks[-1].mlp.fc2
    last.bias.copy_(2 * torch.randn(width))
    return teacher


def fit(
    student: nn.Module, teacher: ViT, scenes: Path, standardize: bool | str, *callbacks: pl.Callback, **changes: Any
) -> tuple[DistillationModule, pl.Trainer]:
    """A few steps, validated at the end."""
    settings: dict[str, Any] = {"steps": 4, "lr": 2e-3, "ckpt_path": None} | changes
    level = "token" if isinstance(student, students.RS4D | students.LALE) else "image"
    module = DistillationModule(
        teacher,
        student,
        "embedding",
        CorruptionSettings(noise=0.2, mask=0.2, level=level, patch_size=8),
        LossSettings({"l1": 1.0}, standardize=standardize),
        OptimSettings(lr=settings["lr"], warmup_steps=0),
        calibration_images=8,
    )
    root = str(scenes / "train" / "images")
    data = ImageFolder(root, 64, batch_size=2, val_root=str(scenes / "test" / "images"), num_workers=0, seed=0)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=settings["steps"],
        val_check_interval=settings["steps"],
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=data, ckpt_path=settings["ckpt_path"])
    return module, trainer


def export(module: DistillationModule, name: str, path: Path) -> dict[str, Any]:
    """Writes the student as a run does; its metadata."""
    student, said = module.exported_student()
    write_weights(student, path, {"class": f"students.{name}", "init_args": module.student.init_args, **said})
    return said


def ratio(trainer: pl.Trainer) -> float:
    return float(trainer.callback_metrics["val/l1_ratio"])


@pytest.mark.parametrize(
    ("name", "standardize"),
    [(name, way) for name in CASES for way in (False, True) if way or name != "EfficientViTSAM"],
)
def test_a_reloaded_student_goes_on_where_it_was(name: str, standardize: bool, scenes: Path, tmp_path: Path) -> None:
    arguments, width = CASES[name]
    torch.manual_seed(0)
    teacher = teacher_of(width, tmp_path)
    module, before = fit(getattr(students, name)(**arguments), teacher, scenes, standardize)
    path = tmp_path / "student.safetensors"
    said = export(module, name, path)

    loaded: Any = load_student(path)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        inside = module.eval().student_maps(images)[0][-1]
        outside = loaded(module.normalize(images))[-1]
    statistics = module.match.statistics
    assert statistics is not None
    if standardize:
        inside = inside * statistics.std[:, None, None] + statistics.mean[:, None, None]
    if standardize and name in ("LALE", "TimmStudent"):  # nothing to fold it into: the file says how to undo it
        mean, std = (torch.tensor(said[key])[:, None, None] for key in ("output_mean", "output_std"))
        outside = outside * std + mean
        assert "standardised" in said["last_map"]
    else:
        assert said == {"last_map": "ViT's embedding"}
    torch.testing.assert_close(outside, inside, rtol=1e-4, atol=1e-4)

    warm = loaded.train() if standardize else getattr(students, name)(**arguments, checkpoint=str(path))
    _, after = fit(warm, teacher, scenes, standardize, steps=1, lr=1e-12)
    assert ratio(after) == pytest.approx(ratio(before), rel=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name != "TimmStudent"])
def test_what_was_loaded_keeps_its_scale(name: str, tmp_path: Path) -> None:
    """By `checkpoint`, or by hand; of a part, where the part holds the last norm. What was trained keeps it, too."""
    arguments, _ = CASES[name]
    build = getattr(students, name)
    fresh = build(**arguments)
    state = {key: tensor.clone() for key, tensor in fresh.state_dict().items()}
    write_weights(fresh, tmp_path / "student.safetensors", {})
    loaded, by_hand, part, other_part, trained = (
        build(**arguments, checkpoint=str(tmp_path / "student.safetensors")),
        *(build(**arguments) for _ in range(4)),
    )
    by_hand.load_state_dict(state)
    norm = next(key for key, value in fresh.named_parameters() if value is fresh.output_norm().weight)
    part.load_state_dict({norm: state[norm]}, strict=False)
    other_part.load_state_dict({key: value for key, value in state.items() if key != norm}, strict=False)
    nn.init.uniform_(trained.output_norm().weight)
    for student, kept in ((loaded, True), (by_hand, True), (part, True), (trained, True), (other_part, False)):
        before = student.output_norm().weight.clone()
        assert copy.deepcopy(student).rescale_output(0.2) != kept
        assert student.rescale_output(0.2) != kept
        assert torch.equal(student.output_norm().weight, before) == kept


def test_with_an_adapter_the_file_says_that_its_maps_are_others(scenes: Path, tmp_path: Path) -> None:
    module, _ = fit(RS4D("tiny", 64, 8), teacher_of(64, tmp_path), scenes, True, steps=1)
    student, said = module.exported_student()
    assert student is module.student
    assert said == {"last_map": "features from which an adapter, now dropped, made ViT's embedding"}


def test_what_a_rotation_made_of_the_maps_is_in_the_file(scenes: Path, tmp_path: Path) -> None:
    """No last norm can undo it."""
    arguments, width = CASES["RS4D"]
    module, _ = fit(RS4D(**arguments), teacher_of(width, tmp_path), scenes, "phi_s", steps=1)
    said = export(module, "RS4D", tmp_path / "student.safetensors")
    loaded: Any = load_student(tmp_path / "student.safetensors")
    images = torch.rand(1, 3, 64, 64)
    mean, std, rotation = (torch.tensor(said[f"output_{key}"]) for key in ("mean", "std", "rotation"))
    with torch.no_grad():
        scores = loaded(module.normalize(images))[-1]
        expected = module.match.raw(module.eval().student_maps(images)[0][-1])
    maps = torch.einsum("dc,bdhw->bchw", rotation, scores * std[:, None, None] + mean[:, None, None])
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "averaged"])
def test_batch_norms_end_with_statistics_of_clean_views(
    averaged: bool, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that the exported weights have on the training images, and those of the last validation, too."""
    student = students.EfficientViT("b0")
    module, trainer = fit(student, teacher_of(64, tmp_path), scenes, False, *([EMA(0.9)] if averaged else []))
    assert capsys.readouterr().out.count("batch norms: statistics estimated again on 12 clean training views") == 1
    expected = copy.deepcopy(module.student)
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    update_bn((module.normalize(batch["image"]) for batch in data.train_dataloader()), expected)
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(module.student.get_buffer(name), buffer, msg=name)
    found = ratio(trainer)
    trainer.validate(module, datamodule=data, verbose=False)
    assert ratio(trainer) == pytest.approx(found, rel=1e-5)


def test_a_run_that_was_cut_off_after_its_last_step_exports_statistics_of_clean_views(
    scenes: Path, tmp_path: Path
) -> None:
    """Its checkpoint gives back those of training, and no step is left behind which they would be estimated."""
    teacher, path = teacher_of(64, tmp_path), tmp_path / "last.ckpt"
    _, trainer = fit(students.EfficientViT("b0"), teacher, scenes, False, steps=2)
    trainer.save_checkpoint(path)
    noisy = torch.load(path, weights_only=True)["training_statistics"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("{model: {}, trainer: {}}")
    finish = FinishRun(RunFolder(tmp_path / "run"), {}, lambda _: None, lambda _: None, Timer())
    fit(students.EfficientViT("b0"), teacher, scenes, False, finish, steps=2, ckpt_path=path)
    exported = read_state_dict(tmp_path / "run" / "student.safetensors")
    means = [name for name in noisy if name.endswith("running_mean")]
    assert means
    assert not any(torch.equal(exported[name.removeprefix("student.")], noisy[name]) for name in means)


def test_a_run_with_batch_norms_goes_on_with_those_of_training(scenes: Path, tmp_path: Path) -> None:
    """A checkpoint of the end holds both: those of clean views are for scoring alone."""
    teacher, path = teacher_of(64, tmp_path), tmp_path / "last.ckpt"
    _, trainer = fit(students.EfficientViT("b0"), teacher, scenes, False, steps=2)
    trainer.save_checkpoint(path)
    stored = torch.load(path, weights_only=True)
    noisy, clean = stored["training_statistics"], stored["state_dict"]
    assert noisy.keys() == {name for name in clean if "running_" in name or "num_batches" in name}
    assert all(not torch.equal(noisy[name], clean[name]) for name in noisy if "running_" in name)
    seen: list[dict[str, Tensor]] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})

    fit(students.EfficientViT("b0"), teacher, scenes, False, Look(), steps=4, ckpt_path=path)
    assert all(torch.equal(seen[0][name], tensor) for name, tensor in noisy.items())
