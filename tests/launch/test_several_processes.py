"""Two processes: every student trains under every task, as one process would with the whole batch, and every image is
scored once.
"""

import json
import socket
from pathlib import Path

import pytest
import torch
import yaml

from distill.cli import main
from tests.launch.two_processes import work
from tests.small_recipes import fine_tuning

pytestmark = pytest.mark.xdist_group("two processes")  # one pair serves all


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


@pytest.fixture(scope="module")
def folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes of `two_processes.py` leave.

    The loss of `mean.yaml` is a mean over images; MMDetection's, in `real.yaml`, are means over regions, of which
    halves of a batch have unlike many.
    """
    folder = tmp_path_factory.mktemp("two")
    mean, real = (fine_tuning(scenes, folder / name) for name in ("mean", "real"))
    mean["model"]["init_args"]["student"] = {"class_path": "tests.tasks.test_instances_training.Student"}
    mean["model"]["init_args"]["head"] = {"class_path": "tests.tasks.test_instances_training.Head"}
    mean["trainer"] |= {"max_steps": 3, "limit_val_batches": 0}
    content = json.loads((scenes / "test/annotations.json").read_text())
    content["images"] = content["images"][:3]  # an odd number: one process has to repeat an image
    shown = {image["id"] for image in content["images"]}
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] in shown]
    (folder / "three.json").write_text(json.dumps(content))
    real["data"]["init_args"]["val_annotations"] = str(folder / "three.json")
    real["trainer"] |= {"max_steps": 4, "val_check_interval": 2}
    for name, recipe in {"mean": mean, "real": real}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Forked, so that they need not import everything again.
    torch.multiprocessing.start_processes(work, (folder, port), nprocs=2, start_method="fork")
    said = [(folder / f"said_{rank}.txt").read_text() for rank in (0, 1)]
    assert "training: 3 steps" in said[0]
    assert "sync_dist" not in "".join(said)
    return folder


def test_every_student_trains_under_every_task(folder: Path) -> None:
    """Without `find_unused_parameters`: each parameter that is trained has a gradient in every step."""
    assert [json.loads((folder / f"failed_{rank}.json").read_text()) for rank in (0, 1)] == [[], []]


def test_two_processes_train_as_one_with_the_whole_batch(folder: Path) -> None:
    for name, size in {"one": 4, "half": 2}.items():
        assert main(["fit", str(folder / "mean.yaml"), f"--run.dir={folder / name}", f"--data.batch_size={size}"]) == 0
    one, two, half = (weights(folder / name) for name in ("one", "mean", "half"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0, msg=name)
    assert max(float((half[name] - tensor).abs().max()) for name, tensor in one.items()) > 1e-4


def test_a_signal_to_one_process_stops_both_at_one_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the run goes on, on one process with as many images a step."""
    assert [json.loads((folder / f"stopped_{rank}.json").read_text()) for rank in (0, 1)] == [75, 0]
    run = folder / "stopped"
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 2  # of 3
    resume = ["fit", str(folder / "mean.yaml"), f"--run.dir={run}", "--ckpt_path=last", "--trainer.devices=1"]
    assert main(resume) == 2
    assert "took 4 images a step, 2 on each of 2 processes" in capsys.readouterr().err
    assert main([*resume, "--data.batch_size=4"]) == 0
    two, elastic = weights(folder / "mean"), weights(run)
    for name, tensor in two.items():
        torch.testing.assert_close(elastic[name], tensor, atol=1e-5, rtol=0, msg=name)


def test_a_real_head_on_two_processes_scores_every_image_once(folder: Path) -> None:
    run = folder / "real"
    shown = {image["id"] for image in json.loads((folder / "three.json").read_text())["images"]}
    assert all(tensor.isfinite().all() for tensor in weights(run).values())
    assert (run / "fit_pictures/4/index.json").is_file()

    def scored() -> tuple[int, dict[str, float]]:
        predictions = json.loads((run / "test_predictions.json").read_text())
        assert {record["image_id"] for record in predictions} == shown
        assert len(list((run / "test_pictures").iterdir())) == 3 * 3 + 1
        return len(predictions), json.loads((run / "test.json").read_text())

    on_two = scored()
    for name in ("test_predictions.json", "test.json"):
        (run / name).unlink()
    assert main(["test", str(run), "--trainer.devices=1"]) == 0
    assert scored() == on_two
