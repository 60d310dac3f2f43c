import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from distill.tasks.losses import features
from distill.tasks.losses.features import LossSettings, combine


def parts(settings: LossSettings, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
    channels = estimate.shape[1]
    return features.evaluate(settings, estimate, target, torch.zeros(channels), settings.generators(channels))


def evaluate(settings: LossSettings, estimate: Tensor, target: Tensor, corrupted: Tensor | None) -> dict[str, Tensor]:
    return combine(settings, parts(settings, estimate, target), corrupted)


def test_l1_alone_is_the_plain_mean() -> None:
    estimate, target = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    values = evaluate(LossSettings(terms={"l1": 1.0}), estimate, target, None)
    torch.testing.assert_close(values["loss"], torch.nn.functional.l1_loss(estimate, target))


def test_terms_are_weighted_and_reported_unweighted() -> None:
    estimate, target = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    values = evaluate(LossSettings(terms={"l1": 2.0, "cosine": 0.5, "l2": 1.0}), estimate, target, None)
    cosine = 1 - torch.nn.functional.cosine_similarity(estimate, target, dim=1).mean()
    torch.testing.assert_close(values["cosine"], cosine)
    torch.testing.assert_close(values["l2"], torch.nn.functional.mse_loss(estimate, target))
    torch.testing.assert_close(values["loss"], 2 * values["l1"] + 0.5 * values["cosine"] + values["l2"])


def test_corrupted_positions_can_weigh_more() -> None:
    estimate, target = torch.zeros(1, 2, 1, 4), torch.tensor([1.0, 1.0, 3.0, 3.0]).expand(1, 2, 1, 4)
    corrupted = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 4)
    values = evaluate(LossSettings(corrupted_weight=3.0), estimate, target, corrupted)
    assert values["l1"].item() == pytest.approx((1 + 1 + 9 + 9) / 8)
    only_clean = evaluate(LossSettings(corrupted_weight=0.0), estimate, target, corrupted)
    assert only_clean["l1"].item() == pytest.approx(1.0)
    nothing = evaluate(LossSettings(corrupted_weight=0.0), estimate, target, torch.ones(1, 1, 4))
    assert nothing["loss"].item() == 0


def test_low_precision_inputs_are_compared_in_fp32() -> None:
    values = evaluate(LossSettings(), torch.ones(1, 1, 1, 1).bfloat16(), torch.ones(1, 1, 1, 1).bfloat16(), None)
    assert values["loss"].dtype == torch.float32


def test_l1_is_at_hand_without_being_a_term() -> None:
    settings = LossSettings({"cosine": 1.0})
    estimate, target = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    maps = parts(settings, estimate, target)
    torch.testing.assert_close(maps["l1"].mean(), torch.nn.functional.l1_loss(estimate, target))
    assert combine(settings, maps, None).keys() == {"cosine", "loss"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": {"l3": 1.0}}, "did you mean l2 or l1"),
        ({"terms": {}}, "empty"),
        ({"terms": {"l1": -1.0}}, "model.loss.terms.l1"),
        ({"corrupted_weight": -1.0}, "corrupted_weight"),
    ],
)
def test_bad_settings_name_the_key(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LossSettings(**settings)
