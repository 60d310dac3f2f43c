"""A run that was cut off and resumed ends with the weights of one that never stopped."""

import json
import re
import signal
from pathlib import Path

import pytest
import torch

from distill.cli import main
from distill.runs.last_checkpoint import LastCheckpoint
from distill.weights import read_state_dict
from tests.launch.resuming import assert_same_weights, cut_and_resume

pytestmark = pytest.mark.xdist_group("resume")  # uninterrupted runs are made once

EMA = "--trainer.callbacks+=distill.EMA"


AVERAGED = [EMA, "--trainer.callbacks.decay=0.9"]
# Eight steps in two epochs; validated once, at the end.
TWO_EPOCHS = ["--data.batch_size=3", "--trainer.val_check_interval=8", "--trainer.limit_val_batches=1"]
LIMITS = {"steps": ["--trainer.max_steps=8"], "epochs": ["--trainer.max_steps=-1", "--trainer.max_epochs=2"]}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where uninterrupted runs are kept, so that each kind is run once."""
    return tmp_path_factory.mktemp("straight")


@pytest.mark.parametrize(
    ("limit", "workers", "averaged", "every"),
    [
        ("epochs", 2, False, 3),  # mid-epoch; test_killed_fits.py has the other combinations
        ("steps", 0, True, 4),  # at the end of an epoch
    ],
)
def test_resumed_distillation_equals_uninterrupted(
    distill_recipe: Path, tmp_path: Path, straight: Path, limit: str, workers: int, averaged: bool, every: int
) -> None:
    """The same bits, wherever the run was cut, and whether steps or epochs limit it."""
    extra = [*TWO_EPOCHS, *(AVERAGED if averaged else [])]
    whole = straight / f"averaged_{averaged}"
    if not whole.exists():
        assert main(["fit", str(distill_recipe), *extra, *LIMITS["steps"], f"--run.dir={whole}"]) == 0
    extra += [*LIMITS[limit], f"--data.num_workers={workers}", f"--run.checkpoint_every={every}"]
    resumed = cut_and_resume(distill_recipe, tmp_path / "cut", *extra, cut=7)
    for name, tensor in read_state_dict(whole / "student.safetensors").items():
        assert torch.equal(tensor, resumed[name]), name
    assert_same_weights(whole, tmp_path / "cut")


@pytest.mark.parametrize("workers", [0, 2])
def test_growing_views_resume_across_a_change(
    distill_recipe: Path, tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """Cut in the step before the views grow, after a checkpoint at the step before that one."""
    sizes = "[{size: 24, until: 3}, {size: 44, until: 5}]"
    extra = [*TWO_EPOCHS, "--trainer.max_steps=6", f"--data.sizes={sizes}", "--trainer.limit_val_batches=0"]
    whole = straight / "growing"
    if not whole.exists():
        assert main(["fit", str(distill_recipe), *extra, f"--run.dir={whole}"]) == 0
        said = capsys.readouterr().out
        assert "training views: 24 px for 3 steps, then 44 px for 2 steps, then 64 px for 1 step" in said
        for pattern in (
            r"a step of 3 images of 24 px; 6 steps take about \d+ s if time goes with pixels, estimated again",
            r"step 3: views of 44 px from here on",
            r"step 5: views of 64 px from here on",
            r"estimate: [\d.]+ s a step of 3 images; 6 steps",
        ):
            assert re.search(pattern, said), pattern
    extra += [f"--data.num_workers={workers}", "--run.checkpoint_every=2"]
    resumed = cut_and_resume(distill_recipe, tmp_path / "cut", *extra, cut=3)
    for name, tensor in read_state_dict(whole / "student.safetensors").items():
        assert torch.equal(tensor, resumed[name]), name
    assert_same_weights(whole, tmp_path / "cut")


VARIED = [
    "--data.oversample_threshold=1.0",
    "--data.turns=true",
    "--data.augmentation.speckle=0.5",
    "--model.optim.layer_decay=0.9",
]


def test_resumed_fine_tuning_equals_uninterrupted(finetune_recipe: Path, tmp_path: Path) -> None:
    """The step of the checkpoint is validated as well, and no later validation is better."""
    extra = [*VARIED, "--trainer.val_check_interval=4", *AVERAGED]
    assert main(["fit", str(finetune_recipe), *extra]) == 0
    straight = read_state_dict(tmp_path / "run" / "student.safetensors")
    resumed = cut_and_resume(finetune_recipe, tmp_path / "cut", *extra)
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert_same_weights(tmp_path / "run", tmp_path / "cut")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stopped_run_goes_on(
    finetune_recipe: Path,
    tmp_path: Path,
    straight: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
) -> None:
    """SIGTERM as SLURM sends it to a task that srun started; Lightning's own handlers of it stay out of the way."""
    if number == signal.SIGTERM:
        slurm = {"NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1", "JOB_ID": "1234", "JOB_NAME": "distil"}
        for name, value in {**slurm, "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NODELIST": "127.0.0.1"}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
    fit = ["fit", str(finetune_recipe), "--trainer.max_steps=4", "--trainer.limit_val_batches=0"]
    whole = straight / "tuned"
    if not whole.exists():
        assert main([*fit, f"--run.dir={whole}"]) == 0
    cut = ["--trainer.callbacks+=tests.launch.resuming.Interrupt", "--trainer.callbacks.step=1"]
    run = tmp_path / "cut"
    assert main([*fit, f"--run.dir={run}", *cut, f"--trainer.callbacks.number={int(number)}"]) == code
    assert f"stopped at step 2; go on with: distill fit {run}/recipe.yaml --ckpt_path last" in capsys.readouterr().err
    assert not isinstance(getattr(signal.getsignal(number), "__self__", None), LastCheckpoint)
    assert main([*fit, f"--run.dir={run}", "--ckpt_path=last"]) == 0
    assert_same_weights(whole, run)


def test_a_resumed_run_keeps_its_metrics(distill_recipe: Path, tmp_path: Path) -> None:
    cut_and_resume(distill_recipe, tmp_path / "cut")
    lines = (tmp_path / "cut" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("step")
    steps = [int(line.split(",")[column]) for line in lines[1:]]
    assert sorted(set(steps)) == list(range(8))
    loss = lines[0].split(",").index("train/loss")
    assert len([line for line in lines[1:] if line.split(",")[loss]]) == 8, "a step was logged twice"


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (["--trainer.max_steps=1"], "already at step 1 of 1; raise trainer.max_steps"),
        (
            ["--trainer.max_steps=-1", "--trainer.max_epochs=1", "--data.batch_size=12"],
            "already at epoch 1 of 1; raise trainer.max_epochs",
        ),
    ],
    ids=["steps", "epochs"],
)
def test_a_finished_run_is_not_resumed(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: list[str], said: str
) -> None:
    arguments = ["fit", str(distill_recipe), *limit, "--trainer.limit_val_batches=0"]
    assert main(arguments) == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    assert main([*arguments, "--ckpt_path=last"]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_run_goes_on_with_its_own_recipe(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", str(distill_recipe), "--trainer.limit_val_batches=0"]
    assert main([*fit, "--trainer.max_steps=2"]) == 0
    recipe = (tmp_path / "run/recipe.yaml").read_bytes()
    longer = [*fit, "--ckpt_path=last", "--trainer.max_steps=3"]
    assert main([*longer, "--model.optim.lr=0.5", "--data.batch_size=4"]) == 2
    said = capsys.readouterr().err
    assert "cannot be resumed with other settings" in said
    assert "model.optim.lr, " in said
    assert "data.batch_size" in said
    assert (tmp_path / "run/recipe.yaml").read_bytes() == recipe
    assert main([*longer, "--data.num_workers=1"]) == 0


def test_a_run_that_was_moved_keeps_its_best_checkpoint(distill_recipe: Path, tmp_path: Path) -> None:
    """Its path is another one than the checkpoint knows; a worse validation does not replace it."""
    assert main(["fit", str(distill_recipe), "--trainer.max_steps=1", f"--run.dir={tmp_path / 'first'}"]) == 0
    run = (tmp_path / "first").rename(tmp_path / "moved")
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = (value for key, value in content["callbacks"].items() if key.startswith("ModelCheckpoint"))
    score = torch.tensor(0.0)  # below which no error lies
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], score)
    state["best_model_score"] = state["kth_value"] = score
    torch.save(content, run / "checkpoints" / "last.ckpt")
    before = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert main(["fit", str(run), "--trainer.max_steps=2", "--ckpt_path=last"]) == 0
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == before
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
