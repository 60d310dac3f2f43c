"""Parts of a model are told apart by a meter, and nothing is left of that afterwards."""

import pytest
import torch
from torch import nn

from distill.evaluation.parts import Parts, shared_out


class Counter:
    """A meter that the model itself moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Model(nn.Module):
    def __init__(self, meter: Counter) -> None:
        super().__init__()
        self.meter, self.first = meter, nn.Linear(2, 2)

    def second(self) -> None:
        self.meter.now += 5

    def forward(self) -> None:
        self.first(torch.zeros(1, 2))
        self.meter.now += 1  # between the parts
        self.second()


def test_each_part_has_what_it_took_and_the_rest_has_a_name() -> None:
    meter = Counter()
    model = Model(meter)
    model.first.register_forward_hook(lambda *_: setattr(meter, "now", meter.now + 2))  # outside of `forward`
    parts = Parts({"first": model.first.forward, "second": model.second}, rest="between")
    assert parts.names == ("first", "second", "between")
    assert parts.measure(model, meter) == {"first": 0, "second": 5, "between": 3}
    assert "forward" not in vars(model.first)
    assert "second" not in vars(model)


def test_a_model_that_fails_is_left_as_it_was() -> None:
    model = Model(Counter())
    with pytest.raises(TypeError):
        Parts({"second": model.second}, rest="rest").measure(lambda: model.second(1))
    assert "second" not in vars(model)


def test_a_total_is_shared_out_as_in_the_median_pass() -> None:
    passes = [{"a": 1.0, "b": 3.0}, {"a": 10.0, "b": 30.0}, {"a": 5.0, "b": 1.0}]
    assert shared_out(8.0, passes) == {"a": 2.0, "b": 6.0}
