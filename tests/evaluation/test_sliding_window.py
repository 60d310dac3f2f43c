"""Windows cover every pixel, are averaged where they overlap, and change nothing where there is no context."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.evaluation.sliding_window import predict_by_windows, resize_logits


@pytest.mark.parametrize(("height", "width"), [(17, 23), (16, 16), (40, 9), (5, 6)])
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (16, 5), (1, 1)])
def test_a_pixelwise_decoder_gives_the_same_as_on_the_whole_image(
    height: int, width: int, window: int, stride: int
) -> None:
    torch.manual_seed(0)
    decoder = nn.Conv2d(3, 4, 1)
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        assert torch.allclose(predict_by_windows(decoder, images, window, stride), decoder(images), atol=1e-6)


def test_overlaps_are_averaged() -> None:
    windows: list[int] = []

    def predict(crop: Tensor) -> Tensor:
        windows.append(crop.shape[-1])
        return torch.full((1, 1, *crop.shape[-2:]), float(len(windows)))

    logits = predict_by_windows(predict, torch.zeros(1, 3, 4, 10), window=4, stride=3)
    # From columns 0, 3 and 6, the last one flush with the end.
    assert logits[0, 0, 0].tolist() == [1, 1, 1, 1.5, 2, 2, 2.5, 3, 3, 3]
    windows.clear()
    logits = predict_by_windows(predict, torch.zeros(1, 3, 4, 9), window=4, stride=3)
    assert logits[0, 0, 0].tolist() == [1, 1, 1, 1.5, 2, 2.5, 2.5, 3, 3]
    assert windows == [4, 4, 4]  # all of them full


def test_an_image_smaller_than_the_window_is_seen_whole() -> None:
    seen = []

    def predict(crop: Tensor) -> Tensor:
        seen.append(tuple(crop.shape))
        return F.avg_pool2d(crop, 4)

    image = torch.randn(1, 3, 12, 20)
    logits = predict_by_windows(predict, image, window=64, stride=32)
    assert seen == [(1, 3, 12, 20)]
    assert torch.equal(logits, resize_logits(F.avg_pool2d(image, 4), (12, 20)))


def test_resize_is_bilinear_in_float32() -> None:
    logits = torch.randn(1, 2, 5, 7).bfloat16()
    expected = F.interpolate(logits.float(), (11, 13), mode="bilinear", align_corners=False)
    assert torch.equal(resize_logits(logits, (11, 13)), expected)
    assert resize_logits(logits, (5, 7)).dtype == torch.float32
