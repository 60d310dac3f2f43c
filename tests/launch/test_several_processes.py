"""Two processes: every student trains under every task, as one process would with the whole batch, and every image is
scored once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from distill.cli import main
from tests.launch import two_processes

ROOT = Path(__file__).parents[2]


def on_two_processes(verb: str, *arguments: str) -> str:
    """Runs `distill` with two processes, which start it anew; what it printed."""
    command = [str(Path(sys.executable).with_name("distill")), verb, *arguments, "--trainer.devices=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


def test_every_student_trains_under_every_task(tmp_path: Path) -> None:
    """Without `find_unused_parameters`: each parameter that is trained has a gradient in every step."""
    meeting = str(tmp_path / "meeting")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.launch.two_processes", meeting], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    ) as other:
        assert two_processes.run(0, meeting) == []
        assert other.wait(30) == 0, other.stderr.read().decode() if other.stderr else ""


def test_two_processes_train_as_one_with_the_whole_batch(finetune_recipe: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(finetune_recipe.read_text())
    # A loss that is a mean over images: MMDetection's are means over regions, which halves of a batch have unlike many.
    recipe["model"]["init_args"]["student"] = {"class_path": "tests.tasks.test_instances_training.Student"}
    recipe["model"]["init_args"]["head"] = {"class_path": "tests.tasks.test_instances_training.Head"}
    finetune_recipe.write_text(yaml.safe_dump(recipe))
    common = [str(finetune_recipe), "--trainer.max_steps=3", "--trainer.limit_val_batches=0"]
    assert main(["fit", *common, f"--run.dir={tmp_path / 'one'}", "--data.batch_size=4"]) == 0
    on_two_processes("fit", *common, f"--run.dir={tmp_path / 'two'}", "--data.batch_size=2")
    assert main(["fit", *common, f"--run.dir={tmp_path / 'half'}", "--data.batch_size=2"]) == 0
    one, two, half = (weights(tmp_path / name) for name in ("one", "two", "half"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0, msg=name)
    assert max(float((half[name] - tensor).abs().max()) for name, tensor in one.items()) > 1e-4


def test_a_real_head_on_two_processes_scores_every_image_once(
    finetune_recipe: Path, scenes: Path, tmp_path: Path
) -> None:
    content = json.loads((scenes / "test/annotations.json").read_text())
    content["images"] = content["images"][:3]  # an odd number: one process has to repeat an image
    shown = {image["id"] for image in content["images"]}
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] in shown]
    (tmp_path / "three.json").write_text(json.dumps(content))
    run, three = tmp_path / "run", f"--data.val_annotations={tmp_path / 'three.json'}"
    said = on_two_processes(
        "fit", str(finetune_recipe), three, "--trainer.max_steps=4", "--trainer.val_check_interval=2"
    )
    assert "sync_dist" not in said
    assert all(tensor.isfinite().all() for tensor in weights(run).values())
    assert (run / "fit_pictures/4/index.json").is_file()
    scores = []
    for test in (lambda: on_two_processes("test", str(run)), lambda: main(["test", str(run), "--trainer.devices=1"])):
        test()
        predictions = json.loads((run / "test_predictions.json").read_text())
        assert {record["image_id"] for record in predictions} == shown
        assert len(list((run / "test_pictures").iterdir())) == 3 * 3 + 1
        scores.append((len(predictions), json.loads((run / "test.json").read_text())))
    assert scores[0] == scores[1]
