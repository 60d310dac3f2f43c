"""Facts about a run that are known before its first step."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.runs.initial_weights import initial_weights
from distill.runs.metadata import environment, git_commit
from distill.weights import write_weights


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_commit(tmp_path) == {}
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "file").write_text("1")
    git("init", "-q")
    assert git_commit(tmp_path) == {}, "there is no commit yet"
    git("add", "file")
    git("commit", "-qm", "first")
    git("tag", "release")
    commit = git("rev-parse", "HEAD")
    found = git_commit(tmp_path)["git"]
    assert len(found) >= 7
    assert commit.startswith(found)
    (tmp_path / "untracked").touch()
    assert git_commit(tmp_path) == {"git": found}
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == {"git": f"{found}-dirty"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == {}, "git is not installed"


def test_the_environment_says_when_a_run_started() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    started = datetime.fromisoformat(environment()["started"])
    assert before <= started <= datetime.now(UTC)


def test_initial_weights_are_judged_by_the_file(tmp_path: Path) -> None:
    def said(**arguments: Any) -> dict[str, str]:
        return initial_weights({"class_path": "students.RS4D", "init_args": arguments})

    module = torch.nn.Linear(1, 1)
    distilled, own = tmp_path / "weights.safetensors", tmp_path / "own" / "student.safetensors"
    write_weights(module, distilled, {"teacher": "SAM sam_vit_b", "class": "students.RS4D"})
    write_weights(module, own, {"class": "students.RS4D"})
    untrained = tmp_path / "untrained.safetensors"
    write_weights(module, untrained, {"teacher": "SAM sam_vit_b", "teacher_weights": "random"})
    torch.save(module.state_dict(), tmp_path / "other.pth")
    assert initial_weights({"class_path": "students.RS4D"}) == said(checkpoint=None) == {"init": "scratch"}
    assert said(pretrained=False) == {"init": "scratch"}
    assert said(pretrained=True) == {"init": "pretrained"}
    assert said(checkpoint=str(distilled), pretrained=True) == {"init": "distilled", "init_teacher": "SAM sam_vit_b"}
    told = {"init": "distilled", "init_teacher": "SAM sam_vit_b", "init_teacher_weights": "random"}
    assert said(checkpoint=str(untrained)) == told
    assert said(checkpoint=str(own)) == said(checkpoint=str(tmp_path / "other.pth")) == {"init": "pretrained"}
    own.unlink()
    assert said(checkpoint=str(own)) == {"init": "distilled"}, "of a run that is resumed"
