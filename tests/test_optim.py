import pytest
import torch
from torch import nn

from distill.errors import UserError
from distill.optim import OptimSettings, build_optimizer, lr_factor, parameter_groups


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.position = nn.Parameter(torch.zeros(1, 2, 2))
        self.A_log = nn.Parameter(torch.zeros(2, 2))
        self.A_log._no_weight_decay = True  # type: ignore[attr-defined]

    def no_weight_decay(self) -> set[str]:
        return {"position"}


def test_norms_biases_positions_and_state_space_parameters_are_not_decayed() -> None:
    toy = nn.Sequential(Toy())
    decayed, undecayed = parameter_groups(toy, 0.05)
    assert [id(p) for p in decayed["params"]] == [id(toy[0].linear.weight)]
    assert decayed["weight_decay"] == 0.05
    assert len(undecayed["params"]) == 5
    assert undecayed["weight_decay"] == 0


def test_frozen_parameters_are_in_no_group() -> None:
    toy = Toy()
    toy.linear.weight.requires_grad_(False)
    assert not parameter_groups(toy, 0.05)[0]["params"]


def test_schedule_warms_up_peaks_and_ends_at_the_final_rate() -> None:
    settings = OptimSettings(lr=1e-3, warmup_steps=10, final_lr=1e-5)
    factors = [lr_factor(step, 110, settings) for step in range(111)]
    assert 0 < factors[0] < factors[5] < factors[9] < 1
    assert factors[10] == max(factors) == 1
    assert factors[60] == pytest.approx((1 + 0.01) / 2)
    assert factors[110] == pytest.approx(0.01)


def test_lightning_gets_a_per_step_schedule_and_the_student_its_own_rate() -> None:
    module = nn.ModuleDict({"student": Toy(), "head": nn.Linear(2, 2)})
    module.student = module["student"]
    built = build_optimizer(module, 100, OptimSettings(warmup_steps=0, student_lr_factor=0.1))
    assert built["lr_scheduler"]["interval"] == "step"
    rates = {id(p): group["lr"] for group in built["optimizer"].param_groups for p in group["params"]}
    assert len(rates) == len(list(module.parameters()))
    assert rates[id(module["head"].weight)] == pytest.approx(4e-4)
    assert rates[id(module["student"].A_log)] == pytest.approx(4e-5)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"warmup_steps": -1}])
def test_bad_settings_name_the_key(settings: dict) -> None:
    with pytest.raises(UserError, match=r"model\.optim\."):
        OptimSettings(**settings)
