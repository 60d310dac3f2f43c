"""`pretrained: false`: what a step costs can be seen before weights are downloaded."""

import pytest
import torch

from teachers import CNN, SAM, ViT
from tests.contract.cases import narrow


@pytest.mark.usefixtures("no_network")
def test_a_teacher_without_weights_is_random_and_says_so(
    tiny: dict[str, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    narrow(monkeypatch)
    build = [
        lambda: SAM("sam_vit_b", image_size=64, pretrained=False),
        lambda: ViT("vit_tiny_patch16_224", options=tiny, pretrained=False),
        lambda: CNN("test_convnext", pretrained=False),
    ]
    for teacher in build:
        torch.manual_seed(0)
        first = teacher()
        torch.manual_seed(0)
        assert teacher().digest == first.digest  # so that a run goes on with the same
        assert all(maps.isfinite().all() for maps in first(torch.rand(1, 3, 64, 64)).values())
    assert caplog.text.count("has random weights") == 6
