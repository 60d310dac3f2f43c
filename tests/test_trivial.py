import torch

from distill.trivial import TargetStatistics


def test_statistics_are_those_of_the_first_images() -> None:
    torch.manual_seed(0)
    maps = torch.randn(11, 3, 4, 5) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1) + 5
    statistics = TargetStatistics.of(iter(maps.split(4)), limit=7)
    torch.testing.assert_close(statistics.mean, maps[:7].mean((0, 2, 3)))
    torch.testing.assert_close(statistics.std, maps[:7].std((0, 2, 3)))
    torch.testing.assert_close(statistics.median, maps[:7].median(0).values)


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
