from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

TINY = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.fixture
def tiny() -> dict[str, int]:
    """timm options of a ViT small enough to run in milliseconds."""
    return dict(TINY)


@pytest.fixture
def randomized() -> Callable[..., torch.nn.Module]:
    """Builds a timm model whose every parameter matters: position tables, biases and scales are random too."""

    def build(name: str, seed: int = 0, **options: object) -> torch.nn.Module:
        torch.manual_seed(seed)
        model = timm.create_model(name, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model.eval()

    return build


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, randomized: Callable[..., torch.nn.Module]) -> Path:
    """A tiny vit_tiny_patch16_224 in timm's layout, head included."""
    path = tmp_path / "vit.pth"
    torch.save(randomized("vit_tiny_patch16_224", num_classes=10, **TINY).state_dict(), path)
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An offline machine with an empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
