import itertools

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.evaluation.cost import cost, count_macs, count_macs_of_frozen, measure_latency, measure_memory


class Small(nn.Module):
    """A convolution with stride 2, then attention over its tokens; part of it frozen, part of it in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.conv.requires_grad_(False)
        self.norm.eval()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        torch.rand(5)  # random numbers drawn by a model must not shift those of the run
        self.calls += 1
        tokens = self.norm(self.conv(images)).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v)


def small_macs(height: int, width: int) -> int:
    tokens = (height // 2) * (width // 2)
    return tokens * 8 * 3 * 4 + tokens * 8 * 24 + 2 * tokens * tokens * 8


@pytest.mark.parametrize("size", [(6, 10), (8, 8), (2, 2)])
def test_counts_convolutions_linears_and_attention(size: tuple[int, int]) -> None:
    assert count_macs(Small(), size) == small_macs(*size)


def test_takes_the_side_of_a_square() -> None:
    assert count_macs(Small(), 8) == small_macs(8, 8)


def test_counts_fused_encoder_layers() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images.flatten(1)[:, : 10 * 16].unflatten(1, (10, 16)))

    fast_path = torch.backends.mha.get_fastpath_enabled()
    assert count_macs(Encoder(), 8) == 10 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 10 * 10 * 16
    assert torch.backends.mha.get_fastpath_enabled() == fast_path


class Products(nn.Module):
    """An LSTM of two layers over 4 tokens of 12 channels, and products of its states with vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.query = nn.Parameter(torch.ones(10))

    def forward(self, images: Tensor) -> Tensor:
        states = self.lstm(images.flatten(1).unflatten(1, (4, 12)))[0]
        pooled = states[0] @ self.query
        pooled = torch.addmv(pooled, states[0], self.query)
        return torch.addbmm(pooled.dot(pooled), states, states.mT)


def test_counts_recurrent_layers_and_products_with_vectors() -> None:
    lstm = 4 * 2 * 4 * 5 * (12 + 5) + 4 * 2 * 4 * 5 * (10 + 5)
    expected = lstm + 4 * 10 + 4 * 10 + 4 + 4 * 10 * 4
    assert count_macs(Products(), 4) == expected
    assert count_macs_of_frozen(Products(), 4) == expected


def test_leaves_module_and_random_numbers_as_they_were() -> None:
    module = Small().train()
    module.norm.eval()
    running = module.norm.running_mean.clone()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    cost(module, 8)
    assert torch.equal(torch.rand(4), expected)
    assert module.training
    assert module.qkv.training
    assert not module.norm.training
    assert torch.equal(module.norm.running_mean, running)
    assert torch.is_grad_enabled()


def test_training_flags_survive_a_failing_model() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("broken")

    module = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        count_macs(module, 8)
    assert module.training
    assert torch.is_grad_enabled()


def test_cost_sums_up() -> None:
    module = Small()
    result = cost(module, (6, 10))
    assert result.params == 3 * 8 * 4 + 16 + 8 * 24
    assert result.trainable_params == 16 + 8 * 24
    assert result.macs == small_macs(6, 10)
    assert result.cpu_ms > 0
    assert result.memory_mb == measure_memory(module, (6, 10))
    assert (result.gpu_ms is None) == (not torch.cuda.is_available())
    assert 1 + 1 + 3 + 1 <= module.calls <= 1 + 1 + 100 + 2


class Holding(nn.Module):
    """Makes tensors of known sizes, of which `kept` stay until the end."""

    def __init__(self, sizes: list[int], kept: list[int], weights: int = 1000) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(weights))
        self.register_buffer("shift", torch.zeros(10, dtype=torch.float64))
        self.sizes, self.kept = sizes, kept

    def forward(self, images: Tensor) -> Tensor:
        held = [self.weight.view(10, -1).t()]  # a view of weights costs nothing
        for size in self.sizes:
            made = torch.empty(size)
            if size in self.kept:
                held += [made, made[::2], made.view(-1, 1)]
            del made
        return held[-1]


IMAGE, WEIGHTS = 3 * 4 * 5 * 4, 1000 * 4 + 10 * 8  # bytes


@pytest.mark.parametrize(
    ("sizes", "kept", "most"),
    [
        ([500, 200, 300], [], 500),
        ([500, 200, 300], [500], 800),
        ([500, 200, 300], [200, 300], 500),
        ([100, 200, 300], [100, 200], 600),
        ([], [], 0),
    ],
)
def test_memory_is_that_of_weights_image_and_the_tensors_that_are_there_at_once(
    sizes: list[int], kept: list[int], most: int
) -> None:
    module = Holding(sizes, kept)
    expected = (WEIGHTS + IMAGE + 4 * most) / 1e6
    assert [measure_memory(module, (4, 5)) for _ in range(2)] == [expected] * 2


def test_memory_of_operators_and_of_what_was_there_before() -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)
            self.cached = torch.zeros(10_000)  # no buffer; made before the pass

        def forward(self, images: Tensor) -> Tensor:
            self.cached[:10].add_(1)
            maps = self.conv(images)
            return maps.relu_() + maps

    # Image, maps and their sum; in place, nothing is made.
    assert measure_memory(Chain(), 16) == ((3 * 8 + 8) * 4 + (3 + 8 + 8) * 256 * 4) / 1e6


def test_frozen_models_are_counted_without_computing() -> None:
    module = Small()
    places = [tensor.data_ptr() for tensor in module.state_dict().values()]
    running = module.norm.running_mean.clone()
    assert count_macs_of_frozen(module, (6, 10)) == small_macs(6, 10)
    assert [tensor.data_ptr() for tensor in module.state_dict().values()] == places
    assert torch.equal(module.norm.running_mean, running)
    assert {tensor.device.type for tensor in module.parameters()} == {"cpu"}


@pytest.mark.parametrize(("seconds", "passes"), [(5.0, 3), (0.25, 4), (2**-10, 100)])
def test_passes_are_timed_for_a_second(monkeypatch: pytest.MonkeyPatch, seconds: float, passes: int) -> None:
    """Three at least, as of slow models, and a hundred at most."""
    ticks = (seconds * number for number in itertools.count())
    monkeypatch.setattr("distill.evaluation.cost.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("distill.evaluation.cost._MIN_SECONDS", 1.0)  # as outside of these tests
    module = Small()
    assert measure_latency(module, 8) == 1000 * seconds
    assert module.calls == 1 + passes


def test_follows_the_precision_of_the_weights() -> None:
    assert count_macs(Small().double(), 8) == small_macs(8, 8)


def test_sam_vit_b_at_full_size() -> None:
    """368.7 G in linears and convolutions, 114.9 G in attention, 2.5 G in the relative positions added to it."""
    with torch.device("meta"):
        sam = timm.create_model("samvit_base_patch16", num_classes=0)
    linear_and_conv = 368_704_487_424
    attention = 114_880_610_304
    relative_positions = 2_453_569_536
    assert count_macs(sam, 1024) == linear_and_conv + attention + relative_positions
    assert sum(p.numel() for p in sam.parameters()) == 89_670_912
