"""The virtual GPU refuses what a GPU refuses, and takes what it takes."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.virtual_device import CPU, CUDA, VirtualDevice, WrongDevice


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    with VirtualDevice():
        yield


def there() -> Tensor:
    return torch.ones(4, device="cuda")


@pytest.mark.parametrize(
    "operation",
    [
        lambda: there() + torch.ones(4),
        lambda: there() + torch.ones(1),
        lambda: torch.ones(4)[torch.tensor([0], device="cuda")],
        lambda: torch.cat([there(), torch.ones(4)]),
        lambda: torch.stack([there()[0], torch.tensor(1.0)]),
        lambda: F.linear(there(), torch.ones(2, 4)),
        lambda: nn.Linear(4, 2)(there()),
        lambda: there().numpy(),
        lambda: torch.ones(4).addcmul_(there(), there()),
    ],
)
def test_devices_are_not_mixed(operation: Callable[[], object]) -> None:
    with pytest.raises(WrongDevice):
        operation()


@pytest.mark.parametrize(
    ("made", "device"),
    [
        (lambda: there() + torch.tensor(1.0), CUDA),
        (lambda: there()[torch.tensor([0, 1])], CUDA),
        (lambda: torch.zeros(4).copy_(there()), CPU),
        (lambda: torch.zeros(2), CPU),
        (lambda: torch.zeros_like(there()), CUDA),
        (lambda: torch.zeros_like(there(), device="cpu"), CPU),
        (lambda: there().new_tensor([1.0]), CUDA),
        (lambda: there().new_zeros(3), CUDA),
        (lambda: torch.tensor([1.0], device="cuda:0"), CUDA),
        (lambda: F.one_hot(there().long()), CUDA),
        (lambda: there().cpu(), CPU),
        (lambda: there().to(torch.zeros(1)), CPU),
        (lambda: torch.zeros(1).to(there()), CUDA),
        (lambda: there().to("cpu", torch.float64), CPU),
        (lambda: there().double().view(2, 2)[0], CUDA),
        (lambda: nn.BatchNorm1d(4).cuda().running_mean, CUDA),
        (lambda: torch.from_numpy(there().cpu().numpy()), CPU),
    ],
)
def test_results_are_where_they_would_be(made: Callable[[], Tensor], device: torch.device) -> None:
    found = made()
    assert found.device == device
    assert found.is_cuda == (device == CUDA)


def test_gradients_return_to_the_device_of_their_leaf() -> None:
    leaf = torch.ones(4, requires_grad=True)
    (leaf.to("cuda") * there()).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.device == CPU


def test_the_backward_pass_is_watched() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
            return grad * torch.ones(4)

    with pytest.raises(WrongDevice):
        Wrong.apply(there().requires_grad_()).sum().backward()


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizers_and_clipping_work(optimizer: type[torch.optim.Optimizer]) -> None:
    layer = nn.Linear(4, 2).to("cuda")
    layer(there()).sum().backward()
    nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer(layer.parameters(), lr=0.1).step()
    assert {x.device for x in layer.parameters()} == {CUDA}
