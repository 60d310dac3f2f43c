"""Text files are UTF-8 whatever the locale, and what a terminal cannot show does not stop a command."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("distill", "students", "teachers", "heads", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)

OPENERS = ("Image", "rasterio", "zipfile", "tarfile", "webbrowser", "os", "self")  # whose `open` reads no text


def _opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute)
    if name not in ("open", "fdopen", "TextIOWrapper", "NamedTemporaryFile"):
        return False
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id in OPENERS:
        return False
    words = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    return not any("b" in mode and len(mode) <= 3 for mode in modes)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_opened_as_utf_8(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    for call in filter(_opens_text, calls):
        given = {keyword.arg for keyword in call.keywords}
        assert "encoding" in given, f"line {call.lineno}: {ast.unparse(call)}"


def test_a_command_reads_utf_8_in_a_locale_of_ascii_and_shows_what_it_can(tmp_path: Path) -> None:
    recipe = tmp_path / "gebäude.yaml"
    recipe.write_text("# Gebäude, 船\nmodel: {}\n", encoding="utf-8")
    # The last two keep Python from taking UTF-8 by itself, as it would not in other locales than C.
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONIOENCODING"} | ascii_locale
    command = [sys.executable, "-m", "distill", "recipes", "show", str(recipe)]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert (done.stdout, done.returncode) == (b"# Geb\\xe4ude, \\u8239\nmodel: {}\n", 0), done.stderr.decode()
    # Also what libraries open in the locale's encoding, as jsonargparse opens a recipe.
    program = (
        "import locale; from distill.cli.encoding import restart_in_utf8_mode; restart_in_utf8_mode(); "
        "print(locale.getpreferredencoding(False).lower())"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.stdout == b"utf-8\n", done.stderr.decode()
