"""`distill completion`: what the tab key completes, asked of real shells, and without imports that take seconds."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.cli import VERBS, main
from distill.cli.candidates import candidates
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.find import shipped

ROOT = Path(__file__).parents[2]
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables under which a shell finds a `distill` that runs this code."""
    command = tmp_path / "bin" / "distill"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m distill "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def bash(environment: dict[str, str], *parts: str) -> list[str]:
    """What bash would show after the tab key, at the last of the parts that it makes of a line."""
    script = 'eval "$(distill completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
    script += '_distill distill 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", "distill", *parts], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["pre"], {"predict"}),
        (["fit", "rs4d_s"], {"rs4d_small"}),
        (["predict", "--sh"], {"--shard"}),
        (["data", "v"], {"verify"}),
        (["data", "tile", "--min"], {"--min-visible"}),
        (["compare", "--stage", ""], {"test", "validate"}),
        (["recipes", "show", "dinov2_to_r"], {"dinov2_to_rs4d"}),
        (["cache", "rs4d_small", "--ver"], {"--verify"}),
        (["fit", "rs4d_small", "--r"], {"--run."}),
        (["fit", "rs4d_small", "--model.student.v"], {"--model.student.variant"}),
        (["fit", "finetune/mask_rcnn", "data/nwpu", "--data.root", "x", "--data.val_f"], {"--data.val_fraction"}),
        (
            ["fit", "rs4d_small", "--model.student", "students.LALE", "--model.student.k"],
            {"--model.student.kernel_size"},
        ),
        (["fit", "rs4d_small", "--trainer.overf"], {"--trainer.overfit_batches"}),
        (["fit", "rs4d_small", "--run.ov"], {"--run.overwrite"}),
        (["fit", "rs4d_small", "--model.student", "=", "students.L"], {"students.LALE"}),
        (["fit", "rs4d_small", "--run.overwrite", "="], {"true", "false"}),
        (["test", "runs/a", "--ckpt_path", "b"], {"best"}),
        (["predict", "runs/"], set()),  # a path, which bash completes by itself
        (["fit", "no_such_recipe", "--model."], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_completes(environment: dict[str, str], parts: list[str], expected: set[str]) -> None:
    assert set(bash(environment, *parts)) == expected


class Terminal:
    """An interactive shell in a folder of its own, and what it shows."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        self.process, self._file = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execvpe(words[0], words, environment)

    def shown(self, keys: str, expected: str) -> str:
        """What is shown after keys are typed, until it holds what is expected, or for a minute."""
        os.write(self._file, keys.encode())
        text, end = "", time.monotonic() + 60
        while expected not in text and time.monotonic() < end:
            if select.select([self._file], [], [], 0.1)[0]:
                text += os.read(self._file, 4096).decode()
        return text

    def leave(self) -> None:
        os.write(self._file, b"exit\n")
        os.waitpid(self.process, 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_tab_key_in_a_real_bash(environment: dict[str, str], tmp_path: Path) -> None:
    """Typed into a terminal: no space after a group of keys, `=` stays, and a path is completed where one belongs."""
    (tmp_path / "pictures" / "far").mkdir(parents=True)
    settings = {"PS1": "> ", "INPUTRC": "/dev/null", "TERM": "dumb"}
    bash = Terminal(["bash", "--norc", "--noprofile", "-i"], environment | settings, tmp_path)
    # The prompt is awaited, too: keys that come before it are edited by the terminal instead of by bash.
    assert "ready:" in bash.shown('eval "$(distill completion bash)"; echo ready"":\n', "ready:\r\n> ")
    for typed, completed in {
        "distill fit rs4d_sm\t": "distill fit rs4d_small ",
        "distill fit rs4d_small --mo\t.\x15": "--model..",
        "distill fit rs4d_small --model.student=students.LA\t": "--model.student=students.LALE ",
        "distill predict pic\t\tf\t": "distill predict pictures/far/",
    }.items():
        assert completed in bash.shown(typed, completed)
        bash.shown('\x15echo next"":\n', "next:\r\n> ")
    bash.leave()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_the_tab_key_in_a_real_zsh(environment: dict[str, str], tmp_path: Path) -> None:
    """The line is run after the tab key, by a `distill` that says what it was given."""
    (tmp_path / "pictures" / "far").mkdir(parents=True)
    settings = {"TERM": "dumb", "HOME": str(tmp_path)}
    zsh = Terminal(["zsh", "-f", "-i"], environment | settings, tmp_path)
    reads = "\x1b[?2004h"  # what zsh prints when it reads keys; earlier ones are edited by the terminal instead
    zsh.shown("", reads)
    start = 'PS1="> "; autoload -U compinit; compinit -u -D; eval "$(distill completion zsh)"; '
    assert "ready:" in zsh.shown(f'{start}say() {{ echo "<$*>" }}; echo ready"":\n', reads)
    for typed, completed in {
        "pre\t runs": "<predict runs>",
        "fit rs4d_sm\t": "<fit rs4d_small>",
        "fit rs4d_small --mo\tx": "<fit rs4d_small --model.x>",
        "predict pict\t": "<predict pictures>",  # zsh takes the slash away again
    }.items():
        # `distill` is replaced by `say` after the tab key, which calls it.
        assert completed in zsh.shown(f"distill {typed}\x01\x04\x04\x04\x04\x04\x04\x04say\n", reads)
    zsh.leave()


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pre", {"predict"}),
        ("fit rs4d_sm", {"rs4d_small"}),
        ("fit rs4d_small --model.student.v", {"--model.student.variant"}),
        ("predict pict", {"pictures/"}),
    ],
)
def test_fish_completes(environment: dict[str, str], tmp_path: Path, line: str, expected: set[str]) -> None:
    (tmp_path / "pictures").mkdir()
    script = f"distill completion fish | source; complete -C 'distill {line}'"
    variables = environment | {"HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "-c", script], env=variables, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == expected


def test_every_verb_has_options() -> None:
    assert set(VERBS) < set(candidates([], ""))
    for verb in VERBS:
        assert "--help" in candidates([verb], "--")
    assert {*shipped(), *COMBINATIONS} == set(candidates(["fit"], ""))


def test_nothing_slow_is_imported() -> None:
    """Not for any verb, and not for the keys of a recipe."""
    lines = [[verb, "--"] for verb in VERBS] + [["fit", "rs4d_small", "--model."], ["fit", "rs4d_small", "--data="]]
    program = (
        "import sys; from distill.cli.completion import answer\n"
        f"assert all(answer(line) for line in {lines})\n"
        "print({'torch', 'pytorch_lightning', 'jsonargparse', 'numpy', 'rasterio'} & sys.modules.keys())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_which_its_shell_can_read(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "completion --answer" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("distill: error: argument shell: invalid choice: 'csh'")
    assert error.count("\n") == 1
