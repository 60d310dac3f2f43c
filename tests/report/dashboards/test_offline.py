"""Offline runs of run folders, sent by the real `wandb sync` to a server of this machine."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.report.dashboards.fields import config_of, history_of, identity_of, summary_of
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.report.dashboards.stub import Received, Stub, serving
from tests.run_folders import write_pictures, write_run

offline = pytest.importorskip("distill.report.dashboards.offline")
wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.xdist_group("offline")  # sent once

HISTORY = [
    *({"step": step, "lr-AdamW/pg1": 1e-3 / step, "train/loss": 1 / step} for step in range(9, 100, 10)),
    {"step": 99, "val/l1_ratio": 0.5, "val/mask/AP": 0.1 + 0.2},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Run folders without W&B: a distillation, two seeds of a tested student, and a run that was interrupted."""
    place = tmp_path_factory.mktemp("runs")
    made = {
        "distilled": write_run(
            place / "distilled", "distillation", scores={"val/l1_ratio": 0.5}, history=HISTORY, weights="w"
        ),
        "interrupted": write_run(place / "interrupted", history=HISTORY[:4], finished=False, seed=7),
    }
    for step in (50, 100):
        write_pictures(made["distilled"], "fit", step, ["a.png", "more/b.png"], "distillation")
    for seed in (0, 1):
        made[f"seed{seed}"] = write_run(
            place / f"tested_{seed}",
            seed=seed,
            scores={"test/mask/AP": 0.2 + seed / 100, "test/mask/AP_large": None},
            history=HISTORY,
            classes={"ship": (12, 0.25), "building": (3, 0.5)},
        )
        write_pictures(made[f"seed{seed}"], "test", 100, ["a.png"])
    return made


@pytest.fixture(scope="module")
def received(folders: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Received]:
    """What arrives of them when they are sent from another place, on a machine without W&B's files of the user."""
    place = tmp_path_factory.mktemp("dashboard")
    offline.write_all([RunRecord.read(folder) for folder in folders.values()], place / "written")
    moved = (place / "written").rename(place / "moved")
    with serving() as server:
        sync(server, moved, place / "home")
        return dict(server.runs)


def sync(server: Stub, place: Path, home: Path) -> None:
    """Sends all offline runs of a place."""
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "wandb", "sync", *map(str, place.glob("offline-run-*"))]
    done = subprocess.run(command, env=server.environment(home), capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr


def of(received: dict[str, Received], folder: RunFolder) -> Received:
    return received[identity_of(RunRecord.read(folder)).id]


def rows(run: Received) -> list[dict[str, Any]]:
    """The history without pictures and tables."""
    return [row for row in run.history if not any(isinstance(value, dict) for value in row.values())]


NAMES = ("distilled", "interrupted", "seed0", "seed1")


@pytest.mark.parametrize("name", NAMES)
def test_every_row_and_number_arrives(folders: dict[str, RunFolder], received: dict[str, Received], name: str) -> None:
    assert len(received) == len(folders)
    run, record = of(received, folders[name]), RunRecord.read(folders[name])
    assert rows(run) == list(history_of(record.folder))
    assert {key: value for key, value in run.config.items() if key != "_wandb"} == config_of(record)
    expected = summary_of(record)
    assert {key: value for key, value in run.summary.items() if key in expected} == expected
    assert run.exit_code == (1 if name == "interrupted" else 0)
    identity = identity_of(record)
    about = run.about
    assert (about["displayName"], about["groupName"], about["jobType"]) == (identity.name, "test", identity.job_type)
    assert about["tags"] == list(identity.tags)
    assert not {"host", "commit", "repo"} & about.keys(), "what writes offline runs is not what trained"


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_every_picture_arrives(
    folders: dict[str, RunFolder], received: dict[str, Received], name: str
) -> None:
    run = of(received, folders[name])
    pictures = {path.read_bytes() for path in folders[name].path.glob("*_pictures/**/*.png")}
    assert {content for file, content in run.files.items() if file.startswith("media/images")} == pictures
    assert bool(pictures) == (name != "interrupted")


def test_pictures_stand_at_their_steps_under_one_key_for_each_image(
    folders: dict[str, RunFolder], received: dict[str, Received]
) -> None:
    run = of(received, folders["distilled"])
    shown = [row for row in run.history if "maps/a" in row]
    assert [row["trainer/global_step"] for row in shown] == [50, 100]
    assert all(row["maps/more/b"]["count"] == 5 for row in shown)
    captions = ["input", "corrupted", "teacher", "student", "error: 1 objects"]
    assert shown[0]["maps/a"]["captions"] == captions
    assert [run.files[name] for name in shown[0]["maps/a"]["filenames"]] == [
        (folders["distilled"].pictures("fit") / "50" / f"0_{said.partition(':')[0]}.png").read_bytes()
        for said in captions
    ]


def test_the_table_of_classes_arrives_as_a_file_of_the_run(
    folders: dict[str, RunFolder], received: dict[str, Received]
) -> None:
    run = of(received, folders["seed1"])
    (table,) = [row["test_classes"] for row in run.history if "test_classes" in row]
    content = json.loads(run.files[table["path"]])
    assert content["columns"] == ["AP", "AP50", "AR", "class", "kind", "objects"]
    assert [0.25, None, None, "ship", "mask", 12] in content["data"]
    assert run.summary["test_classes"]["path"] == table["path"]


def test_a_run_is_replaced_when_it_is_written_again(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", history=HISTORY, finished=False)
    write_pictures(folder, "fit", 50, ["a.png"])
    before = digest(folder.path)
    first = offline.write_offline(RunRecord.read(folder), tmp_path / "out")
    assert digest(folder.path) == before
    with serving() as server:
        sync(server, tmp_path / "out", tmp_path / "home")
        shutil.rmtree(folder.path)
        write_run(tmp_path / "run", history=HISTORY[:5])
        killed = tmp_path / "out" / f".{first.name.rpartition('-')[2]}-killed"
        killed.mkdir()
        second = offline.write_offline(RunRecord.read(folder), tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == [second]
        sync(server, tmp_path / "out", tmp_path / "home")
        (run,) = server.runs.values()
    assert rows(run) == run.history == list(history_of(folder))
    assert run.exit_code == 0


def test_an_older_run_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", history=HISTORY, classes={"ship": (1, 0.5)}, scores={"test/mask/AP": 0.5})
    first = offline.write_offline(RunRecord.read(folder), tmp_path / "out")
    before = digest(first)
    folder.class_scores("test").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"test_classes\.csv is no valid CSV"):
        offline.write_offline(RunRecord.read(folder), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [first]
    assert digest(first) == before


@pytest.mark.parametrize("classes", [b"class,objects\n", b"\xff\xfe"])
def test_the_process_goes_on_without_the_log_of_a_run_that_went(tmp_path: Path, classes: bytes) -> None:
    """Whether the run was written or not: a closed log is opened again, and `logging.config` closes all there are."""
    folder = write_run(tmp_path / "run", history=HISTORY, classes={"ship": (1, 0.5)}, scores={"test/mask/AP": 0.5})
    folder.class_scores("test").write_bytes(classes)
    with suppress(UserError):
        offline.write_offline(RunRecord.read(folder), tmp_path / "out")
    assert wandb.run is None
    logger = logging.getLogger("wandb")
    for handler in logger.handlers:
        handler.close()
    logger.error("said after the run")


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "run", history=HISTORY)
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(folder, copy)
    records = [RunRecord.read(one) for one in (folder, copy)]
    with pytest.raises(UserError, match=r"/run and .*/copy are one run at W&B"):
        offline.write_all(records, tmp_path / "out")
    with pytest.raises(UserError, match=r"recipe.yaml cannot be written \(File exists\)"):
        offline.write_offline(records[0], folder.recipe)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "soon")
    with pytest.raises(UserError, match="WANDB_INIT_TIMEOUT is soon; it must be a number of seconds"):
        offline.write_offline(records[0], tmp_path / "out")


def digest(folder: Path) -> dict[str, str]:
    """The content of each file of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
