"""Runs of the tests train on a virtual GPU."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.virtual_device import CUDA, VirtualDevice


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualDevice]:
    """While it lasts, trainers and loaded models are on a virtual GPU, whatever the recipe asks for."""
    import pytorch_lightning as pl
    from pytorch_lightning.accelerators import Accelerator
    from pytorch_lightning.strategies import SingleDeviceStrategy

    class Virtual(Accelerator):
        """Leaves the device as it is."""

        setup_device = teardown = lambda *_: None
        parse_devices = staticmethod(lambda devices: [CUDA])
        get_parallel_devices = staticmethod(lambda devices: [CUDA])
        auto_device_count = staticmethod(lambda: 1)
        is_available = staticmethod(lambda: True)
        name = staticmethod(lambda: "virtual")

    def trainer(**settings: Any) -> pl.Trainer:
        strategy = SingleDeviceStrategy(CUDA)
        return pl.Trainer(**{**settings, "accelerator": Virtual(), "strategy": strategy, "devices": 1})

    for module in ("trainer", "cache", "load"):
        monkeypatch.setattr(f"distill.launch.{module}.pl", SimpleNamespace(Trainer=trainer))
    monkeypatch.setattr("distill.launch.load._device", lambda given: CUDA)
    # What only a driver knows.
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=2**30))
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda device: 2**20)
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device: None)
    threads = torch.get_num_threads()
    with VirtualDevice() as device:
        yield device
    torch.set_num_threads(threads)
