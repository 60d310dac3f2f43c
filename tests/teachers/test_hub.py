from pathlib import Path

import huggingface_hub
import pytest

from distill.errors import UserError
from teachers.hub import fetch


@pytest.mark.usefixtures("no_network")
def test_says_what_to_do_when_offline() -> None:
    with pytest.raises(UserError, match=r"weights some/where cannot be fetched.*; walk to the archive") as caught:
        fetch("some/where", "walk to the archive")
    assert "\n" not in str(caught.value)


def test_gives_up_without_retrying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host\nand a second line")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: pytest.fail("it would retry for long"))
    with pytest.raises(UserError, match=r"\(no route to host\)"):
        fetch("some/where", "")


def test_needs_no_network_for_cached_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--some--where"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    weights = repository / "snapshots" / "abc" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert fetch("some/where", "") == weights
