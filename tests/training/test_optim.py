import pytest
from torch import nn

from distill.errors import UserError
from distill.training.optim import OptimSettings, build_optimizer, lr_factor
from tests.networks import Deep, Toy


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


def test_learning_rates_decay_by_layer() -> None:
    module = nn.ModuleDict({"student": Deep(), "head": nn.Linear(2, 2)})
    module.student = module["student"]
    settings = OptimSettings(lr=1.0, warmup_steps=0, student_lr_factor=0.5, layer_decay=0.8, weight_decay=0.1)
    groups = build_optimizer(module, 100, settings)["optimizer"].param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    student = module["student"]
    assert rates[id(module["head"].weight)] == 1
    assert rates[id(student.norm.weight)] == rates[id(student.stages[1]["blocks"][1].weight)] == pytest.approx(0.4)
    assert rates[id(student.stages[0]["blocks"][0].bias)] == pytest.approx(0.5 * 0.8**5)
    assert rates[id(student.position)] == pytest.approx(0.5 * 0.8**7)
    assert decays[id(student.stages[0]["blocks"][0].bias)] == decays[id(student.norm.weight)] == 0
    assert decays[id(student.stages[0]["blocks"][0].weight)] == 0.1


def test_without_decay_by_layer_the_groups_are_four() -> None:
    module = nn.ModuleDict({"student": Deep(), "head": nn.Linear(2, 2)})
    module.student = module["student"]
    module.student.requires_grad_(False)
    groups = build_optimizer(module, 100, OptimSettings())["optimizer"].param_groups
    assert [len(group["params"]) for group in groups] == [0, 1, 0, 1]


def test_a_student_without_blocks_is_refused() -> None:
    module = nn.ModuleDict({"student": Toy()})
    module.student = module["student"]
    with pytest.raises(UserError, match=r"layer_decay is 0\.9, but the parameters of Toy"):
        build_optimizer(module, 100, OptimSettings(layer_decay=0.9))


@pytest.mark.parametrize(
    "settings",
    [{"lr": 0.0}, {"final_lr": -1e-5}, {"warmup_steps": -1}, {"layer_decay": 0.0}, {"layer_decay": 1.1}],
)
def test_bad_settings_name_the_key(settings: dict) -> None:
    with pytest.raises(UserError, match=r"model\.optim\."):
        OptimSettings(**settings)


def test_a_warm_up_longer_than_the_run_is_said(caplog: pytest.LogCaptureFixture) -> None:
    module = nn.ModuleDict({"student": Toy()})
    module.student = module["student"]
    settings = OptimSettings(lr=1e-3, warmup_steps=9)
    build_optimizer(module, 10, settings)
    assert not caplog.records
    build_optimizer(module, 5, settings)
    assert "warmup_steps is 9, but the run has 5 steps: it ends at 50 % of model.optim.lr" in caplog.text
