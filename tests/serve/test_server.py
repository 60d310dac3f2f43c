"""Where the server listens, what it says, and what it leaves behind."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from distill.cli import main
from distill.cli import serve as verb
from distill.errors import UserError
from distill.serve import server
from tests.serve.conftest import FakeRun


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What was seen while the server ran: its folder, and its address."""
    seen: list[str] = []

    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        seen.extend([*(path.name for path in tmp_path.iterdir()), "{}:{}".format(*sockets[0].getsockname()[:2])])
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(server, "load_runs", lambda runs, **settings: [FakeRun(str(run)) for run in runs])
    before = signal.getsignal(signal.SIGTERM)
    yield seen
    signal.signal(signal.SIGTERM, before)


def serve(host: str, port: int = 0) -> list[str]:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        server.serve(["runs/a"], host, port, 1, 100, said.append)
    return said


def test_it_serves_this_machine_alone_and_leaves_no_file(listened: list[str], tmp_path: Path) -> None:
    said = serve("127.0.0.1")
    folder, address = listened
    assert folder.startswith("distill-serve-")
    assert said == ["loading runs/a", f"open http://{address}/ (Ctrl-C ends it)"]
    assert not list(tmp_path.iterdir())


def test_an_address_that_others_reach_is_warned_of(listened: list[str]) -> None:
    said = serve("0.0.0.0")
    assert said[1].startswith("warning: everyone who reaches 0.0.0.0 can send images; there is no password")
    assert said[2].startswith("open http://127.0.0.1:")


def test_a_port_in_use_is_one_line(listened: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be listened on .*give another --host or --port"):
            server.serve(["runs/a"], "127.0.0.1", port, 1, 100, str)
    with pytest.raises(UserError, match="cannot be listened on"):
        server.serve(["runs/a"], "no such host", 0, 1, 100, str)
    with pytest.raises(UserError, match="cannot be listened on"):
        server.serve(["runs/a"], "two..dots", 0, 1, 100, str)
    with pytest.raises(UserError, match="--port is 70000; it must lie between 0 and 65535"):
        server.serve(["runs/a"], "127.0.0.1", 70_000, 1, 100, str)
    assert not listened


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None)
    assert main(["serve", "runs/a"]) == 2
    assert "needs fastapi and uvicorn; pip install 'distill-rs[serve]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--max-mb", "0"], ["--max-pixels", "-5"], ["--max-mb", "nan"], ["--max-mb", "inf"]])
def test_limits_are_above_zero(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["serve", "runs/a", *words]) == 2
    assert f"{words[0]} is" in capsys.readouterr().err
