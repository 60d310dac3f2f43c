"""`distill dashboard` as users run it, against a server of this machine that keeps what it is sent."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.cli import main
from distill.errors import UserError
from distill.launch.dashboard import Dashboard
from tests.run_folders import write_run

pytest.importorskip("wandb_workspaces")
serving = pytest.importorskip("tests.report.dashboards.stub").serving

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "matplotlib", "pytorch_lightning", "scipy.stats")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("my runs")
    for init, mask in (("scratch", 0.2), ("distilled", 0.3)):
        rows = [{"step": step, "val/mask/AP": mask * step / 20} for step in (10, 20)]
        scores = {"test/mask/AP": mask, "test/box/AP": mask + 0.1}
        write_run(place / init, init=init, scores=scores, history=rows, classes={"ship": (5, mask)})
    (place / "data").mkdir()
    return [str(path) for path in sorted(place.iterdir())]


def offline(home: Path, **more: str) -> dict[str, str]:
    """Environment of a user without a key."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "XDG"))}
    return {**kept, "HOME": str(home), **more}


def dashboard(
    words: list[str], environment: Mapping[str, str], place: Path, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs the verb in a process of its own, which ends what it prints with the heavy packages that it has imported."""
    code = f"import sys\n{before}\nfrom distill.cli import main\ndone = main(sys.argv[1:])\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])\nsys.exit(done)"
    command = [sys.executable, "-c", code, "dashboard", *words]
    environment = {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # Into files, not pipes: W&B's service may outlive the verb, and would keep a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        process = subprocess.Popen(
            command, env=environment, cwd=place, stdout=out, stderr=error, text=True, start_new_session=True
        )
        try:
            code = process.wait(timeout=120)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), error.read())


def test_workspace_and_report_are_saved_and_the_printed_line_sends_the_runs(runs: list[str], tmp_path: Path) -> None:
    with serving() as server:
        environment = server.environment(tmp_path)
        key = environment.pop("WANDB_API_KEY")  # as `wandb login` leaves it
        (tmp_path / ".netrc").write_text(
            f"machine {server.url.removeprefix('http://')}\n  login user\n  password {key}\n"
        )
        done = dashboard([*runs, "--out", "out of runs", "--project", "some students"], environment, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        workspace, report = server.views
        saved = {
            line.partition(": ")[0]: line.partition(": ")[2]
            for line in done.stdout.splitlines()
            if line.startswith(("workspace: ", "report: ", "send them: "))
        }
        assert saved["workspace"].startswith(f"{server.url}/me/some students?nw=")
        assert saved["report"].startswith(f"{server.url}/me/some students/reports/Students-compared--")
        assert (workspace["type"], workspace["entityName"], workspace["projectName"]) == (
            "project-view",
            "me",
            "some students",
        )
        assert (report["type"], report["entityName"], report["projectName"]) == ("runs", "me", "some students")
        assert "CreateProject" in server.asked, "the server has another project only"

        dry = Dashboard.read(runs, "some students", "me").lint().workspace
        assert without_ids(json.loads(workspace["spec"])) == without_ids(dry)
        kinds = [block["type"] for block in json.loads(report["spec"])["blocks"]]
        assert {"heading", "paragraph", "panel-grid", "markdown-block"} <= set(kinds)

        program = Path(sys.executable).parent
        environment["PATH"] = f"{program}{os.pathsep}{environment['PATH']}"
        subprocess.run(
            saved["send them"], shell=True, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=120
        )
        used = json.loads(workspace["spec"])["section"]["runSets"][0]["runFeed"]["columnOrder"]
        assert len(server.runs) == 2
        for run in server.runs.values():
            assert run.about["project"] == "some students"
            assert {name.removeprefix("summary:") for name in used if name.startswith("summary:")} <= set(run.summary)
            assert run.exit_code == 0


def without_ids(content: object) -> object:
    """A view without the ids of panels, which differ whenever it is made."""
    if isinstance(content, dict):
        return {key: without_ids(value) for key, value in content.items() if key != "__id__"}
    return [without_ids(one) for one in content] if isinstance(content, list) else content


def test_a_dry_run_writes_and_prints_the_workspace_and_nothing_else(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", *runs, "--dry-run", "--out", str(tmp_path / "here")]) == 0
    printed, _, lint = capsys.readouterr().out.rpartition("}\n")
    assert json.loads(printed + "}") == json.loads((tmp_path / "here" / "workspace.json").read_text())
    assert lint.startswith("lint: ")
    assert lint.endswith(f" panels, all logged; wrote {tmp_path}/here/workspace.json\n")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["workspace.json"]


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_name_that_is_not_logged_ends_with_exit_code_2(
    words: list[str],
    runs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from distill.report.dashboards.panels import Panels

    monkeypatch.setattr(Panels, "_summary", lambda self, metric: "test_nothing")
    assert main(["dashboard", *runs, *words, "--out", str(tmp_path / "here")]) == 2
    said = capsys.readouterr()
    assert "Scatter Plot 'mask AP against CPU latency', yAxis: no run logs 'test_nothing' (summary)" in said.out
    assert "report: " in said.out
    (line,) = said.err.splitlines()
    assert line.startswith("distill: error: ")
    assert not list(tmp_path.glob("here/offline-run-*"))


def test_without_a_key_the_runs_are_written_and_a_line_says_how_to_get_the_rest(
    runs: list[str], tmp_path: Path
) -> None:
    done = dashboard([*runs, "--out", "here"], offline(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    passed, _, what, *table, _, send, how, heavy = done.stdout.splitlines()
    assert what == "writing 2 offline runs into here"
    assert passed.endswith("my runs0/data")
    assert len(list(tmp_path.glob("here/offline-run-*"))) == 2
    assert len(table) == 3
    assert send == "send them: wandb sync --project distill here/offline-run-*"
    assert how.startswith("no workspace and no report: there is no key for W&B, or")
    assert heavy == "[]"


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_that_does_not_answer_is_one_line_and_the_runs_stay(
    listens: bool, runs: list[str], tmp_path: Path
) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if listens:
            door.listen()
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        nobody = offline(tmp_path, WANDB_BASE_URL=address, WANDB_API_KEY="0123456789" * 4)
        soon = "from distill.report.dashboards import connection\nconnection._TIMEOUT = 1"
        done = dashboard([runs[-1], "--out", "here"], nobody, tmp_path, soon)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    why = "no answer within 1 s" if listens else "Connection refused"
    assert line.startswith(f"distill: error: W&B at {address} gives no access (")
    assert f"{why}); check the network" in line
    assert "send them: wandb sync" in done.stdout
    assert len(list(tmp_path.glob("here/offline-run-*"))) == 1


def test_a_server_that_answers_nonsense_is_left_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.report.dashboards import connection

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        settings = SimpleNamespace(base_url=f"http://127.0.0.1:{door.getsockname()[1]}")
        monkeypatch.setattr(connection.wandb, "setup", lambda: SimpleNamespace(settings=settings))

        def answer() -> None:
            with door.accept()[0] as other:
                other.recv(1024)
                other.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        connection._require_answer()
        thread.join()


def test_what_cannot_be_a_key_is_one_line(tmp_path: Path) -> None:
    code = "from distill.report.dashboards.connection import has_key; has_key()"
    environment = offline(tmp_path, WANDB_API_KEY="short", PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("distill.errors.UserError: WANDB_API_KEY invalid")


@pytest.mark.parametrize("missing", ["wandb", "wandb_workspaces"])
def test_a_missing_package_is_named_with_the_extra(
    missing: str, runs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["dashboard", *runs, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert missing in said
    assert said.endswith("pip install 'distill-rs[wandb]'\n")


def test_the_project_is_that_of_live_logging(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "a team")
    given = Dashboard.read(runs)
    assert (given.project, given.entity) == ("theirs", "a team")
    assert given.sync_line([Path("a b/offline-run-1-x")]).startswith("wandb sync --project theirs --entity 'a team' ")
    monkeypatch.delenv("WANDB_PROJECT")
    assert Dashboard.read(runs).project == "distill"
    with pytest.raises(UserError, match="there is no"):
        Dashboard.read(["nowhere"])


def test_a_run_and_its_copy_are_refused(runs: list[str], tmp_path: Path) -> None:
    shutil.copytree(runs[-1], tmp_path / "copy")
    with pytest.raises(UserError, match=f"scratch and {tmp_path}/copy are one run at W&B"):
        Dashboard.read([*runs, tmp_path / "copy"])


def test_runs_of_another_dashboard_in_the_folder_are_not_sent(runs: list[str], tmp_path: Path) -> None:
    ours, theirs = (tmp_path / "my out" / f"offline-run-20260101_000000-{name}" for name in ("ours", "theirs"))
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
    given = Dashboard.read(runs, "p")
    assert given.sync_line([ours, theirs]) == f"wandb sync --project p '{tmp_path}/my out'/offline-run-*"
    assert given.sync_line([ours]) == f"wandb sync --project p '{ours}'"


@pytest.mark.parametrize(
    ("name", "content"),
    [("wandb.json", b"{"), ("wandb.json", b"[]"), ("metrics.csv", b"\xff\xfe"), ("test_classes.csv", b"\xff\xfe")],
)
def test_a_broken_file_is_one_line(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", scores={"test/mask/AP": 0.2}, classes={"ship": (5, 0.2)})
    (run.path / name).write_bytes(content)
    assert main(["dashboard", str(run), "--dry-run", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(run.path / name) in line
    assert not (tmp_path / "out").exists()
