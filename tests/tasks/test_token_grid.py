import torch

from distill.tasks.token_grid import to_grid, token_grid


def test_tokens_cover_an_image_in_its_proportions() -> None:
    assert token_grid(15, (48, 80)) == (3, 5)
    assert token_grid(64, (1, 1)) == (8, 8)
    assert token_grid(12, (60, 44)) == (4, 3)  # of 16 pixels, the last row and column cut off


def test_values_of_tokens_are_spread_by_area() -> None:
    tokens = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    assert to_grid(tokens, torch.zeros(1, 3, 32, 48), (1, 3)).tolist() == [[[1.5, 2.5, 3.5]]]
    finer = to_grid(tokens, torch.zeros(1, 3, 32, 48), (4, 6))[0]
    assert finer[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(finer[2], finer[0] + 3)
