import pytest
import torch

from distill.tasks.matching.baseline import TargetStatistics


def test_statistics_are_those_of_the_first_images() -> None:
    torch.manual_seed(0)
    maps = torch.randn(11, 3, 4, 5) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1) + 5
    statistics = TargetStatistics.of(iter(maps.split(4)), limit=7)
    torch.testing.assert_close(statistics.mean, maps[:7].mean((0, 2, 3)))
    torch.testing.assert_close(statistics.std, maps[:7].std((0, 2, 3)))
    torch.testing.assert_close(statistics.median, maps[:7].median(0).values)


KINDS = {
    "gaussian": torch.randn,
    "laplace": lambda *shape: torch.distributions.Laplace(0.0, 1.0).sample(shape),
    "relu": lambda *shape: torch.randn(*shape).relu(),
}


@pytest.mark.parametrize("images", [8, 9, 16, 64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("places", [False, True], ids=["a constant map", "the median of every place"])
def test_what_ignores_the_image_scores_one(kind: str, images: int, places: bool) -> None:
    """Uncorrected, it would score 0.93 with 8 images."""
    torch.manual_seed(0)
    scale = torch.tensor([0.1, 1.0, 1.5, 0.5]).view(4, 1, 1)
    offset = 3 * torch.randn(4, 64, 64) * places
    draw = KINDS[kind]
    best = offset + scale * draw(100_001).median()
    calibration, validation = (offset + scale * draw(count, 4, 64, 64) for count in (images, 64))
    statistics = TargetStatistics.of(calibration.split(3), images)
    for maps, found, known in (
        (validation, best, statistics),
        (statistics.z_scores(validation), statistics.z_scores(best), statistics.standardized()),
    ):
        ratio = (maps - found).abs().mean() / known.baseline_l1(maps)
        assert ratio.item() == pytest.approx(1, abs=0.01)
    if images == 8:
        assert (validation - best).abs().mean() < 0.96 * (validation - statistics.median).abs().mean()


def test_few_images_and_dead_channels_are_survived() -> None:
    """A channel that hardly varies must not outweigh the others."""
    torch.manual_seed(0)
    maps = torch.randn(8, 5, 6, 6)
    maps[:, 0] = 2.0
    maps[:, 1] *= 1e-5
    statistics = TargetStatistics.of([maps], 8)
    assert statistics.std[:2].tolist() == pytest.approx([0.1 * float(maps.std((0, 2, 3)).median())] * 2)
    assert torch.equal(statistics.std[2:], maps.std((0, 2, 3))[2:])
    assert statistics.z_scores(maps + 0.5 * torch.randn_like(maps)).abs().max() < 30
    assert statistics.unbias.isfinite().all()
    single = TargetStatistics.of([maps], 1)
    assert single.unbias.tolist() == [1.0] * 5
    assert single.std.isfinite().all()
    assert float(TargetStatistics.of([torch.zeros(4, 2, 1, 1)], 4).baseline_l1(torch.zeros(1, 2, 1, 1))) == 0


def test_statistics_of_older_checkpoints_are_not_corrected() -> None:
    maps = torch.randn(5, 3, 4, 4)
    stored = {name: value for name, value in vars(TargetStatistics.of([maps], 5)).items() if name != "unbias"}
    statistics = TargetStatistics(**stored)
    torch.testing.assert_close(statistics.baseline_l1(maps), (maps - stored["median"]).abs().mean())


def test_the_median_is_the_best_content_free_prediction_under_l1() -> None:
    torch.manual_seed(0)
    maps = torch.randn(101, 2, 3, 3).exp()
    median = TargetStatistics.of([maps], limit=101).median
    best = (maps - median).abs().mean()
    for other in (maps.mean(0), median + 0.05, median - 0.05, torch.zeros_like(median)):
        assert (maps - other).abs().mean() > best


def test_standardized_statistics_belong_to_standardized_maps() -> None:
    torch.manual_seed(0)
    maps = torch.randn(9, 3, 4, 4) * 3 + 2
    statistics = TargetStatistics.of([maps], limit=9)
    scored = (maps - statistics.mean[:, None, None]) / statistics.std[:, None, None]
    again = TargetStatistics.of([scored], limit=9)
    torch.testing.assert_close(statistics.standardized().median, again.median)


def test_rms_is_the_scale_of_the_maps() -> None:
    maps = torch.randn(50, 4, 8, 8) * 0.16
    torch.testing.assert_close(
        TargetStatistics.of([maps], limit=50).rms(), maps.square().mean().sqrt().item(), rtol=1e-3, atol=1e-4
    )
