import torch
from torch import nn

from distill.plain_student import as_student
from distill.training.batch_norm import estimate_again, running_statistics


class Backbone(nn.Module):
    """One batch norm behind a convolution, without a base class."""

    feature_info = None

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.bn(self.conv(images))]


def test_names_are_those_of_the_state_dict() -> None:
    """A plain model is wrapped, but its state dict keeps its own names."""
    student = as_student(Backbone())
    found = running_statistics(student)
    assert found.keys() == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    assert found.keys() <= student.state_dict().keys()
    found["bn.running_mean"].fill_(3.0)
    assert student.state_dict()["bn.running_mean"].tolist() == [3.0] * 4
    assert running_statistics(nn.Linear(2, 2)) == {}


def test_statistics_are_those_of_the_first_images() -> None:
    torch.manual_seed(0)
    module = Backbone()
    batches = torch.rand(10, 3, 8, 8).split(2)
    assert estimate_again(module, batches, 5) == 6
    with torch.no_grad():
        means = torch.stack([module.conv(batch).mean((0, 2, 3)) for batch in batches[:3]])
    torch.testing.assert_close(module.bn.running_mean, means.mean(0))
