"""RS4D against the form its authors run and transformers' mixer; what every student does is in tests/contract."""

import itertools
from pathlib import Path

import pytest
import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from distill.contracts import StudentBase
from distill.errors import UserError
from distill.weights import write_weights
from students import RS4D, convert_released_state_dict
from students.rs4d import BidirectionalMixer
from students.scan import selective_scan_reference
from students.scan.backends import BACKENDS
from students.scan.problem import Traits

PARAMETERS = {"tiny": 1_661_568, "small": 8_250_368, "base": 11_752_448, "large": 16_567_808, "huge": 18_756_608}


def build(variant: str = "tiny", image_size: int = 32, patch_size: int = 8, **arguments: object) -> RS4D:
    torch.manual_seed(0)
    return RS4D(variant, image_size, patch_size, **arguments)  # type: ignore[arg-type]


def images(height: int = 32, width: int = 32, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


def one_direction(mixer: BidirectionalMixer, tokens: Tensor) -> Tensor:
    """Mamba's mixer as published, all of it for one direction."""
    x, gate = mixer.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
    kernel = mixer.conv1d.weight
    x = F.silu(F.conv1d(F.pad(x, (kernel.shape[-1] - 1, 0)), kernel, mixer.conv1d.bias, groups=x.shape[1]))
    low_rank, B, C = mixer.x_proj(x.transpose(1, 2)).split(mixer.split, dim=-1)
    delta = F.softplus(mixer.dt_proj(low_rank)).transpose(1, 2)
    B, C = (projected.transpose(1, 2).unsqueeze(1) for projected in (B, C))
    y, _ = selective_scan_reference(x, delta, -mixer.A_log.exp(), B, C, mixer.D)
    return mixer.out_proj((y * F.silu(gate)).transpose(1, 2))


def two_passes(model: RS4D, inputs: Tensor) -> list[Tensor]:
    """The reference implementation: RS4D's layer loop as released, both directions through the whole mixer."""
    patches = model.patch_embed(inputs)
    x = (patches + model.pos_embed).flatten(2).transpose(1, 2)
    streams = []
    for layer in model.layers:
        ahead, back = one_direction(layer, model.pre_norm(torch.cat([x, x.flip(1)]))).chunk(2)
        x = x + (ahead + back.flip(1)) / 2
        streams.append(x)
    streams[-1] = model.norm(streams[-1])
    return [s.transpose(1, 2).unflatten(2, patches.shape[2:]) for s in streams]


@pytest.mark.parametrize("backend", ["cpu-avx512", "cpu-avx2", "cpu-generic", "chunked", "reference"])
def test_every_scan_backend_gives_the_same_maps(backend: str) -> None:
    """Also what the kernels fuse: convolution, SiLU, the low-rank Δ, softplus, both directions, gate."""
    if backend in BACKENDS and (obstacle := BACKENDS[backend].obstacle(Traits("cpu"))):
        pytest.skip(f"{backend}: {obstacle}")
    model = build(image_size=40, scan_backend=backend)
    expected = [x.detach() for x in two_passes(model, images(40, 40))]
    for one, other in zip(model(images(40, 40))[-1:], expected[-1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_scan_backend_is_a_name_that_exists() -> None:
    with pytest.raises(UserError, match="did you mean cpu-avx2"):
        build(scan_backend="cpu-avx")


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_count(variant: str) -> None:
    with torch.device("meta"):
        model = RS4D(variant)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]


def test_equals_two_full_passes() -> None:
    model = build().double()
    for parameter in (*model.pre_norm.parameters(), *model.norm.parameters()):
        nn.init.normal_(parameter)
    inputs = images(dtype=torch.float64)
    fast = [*model(inputs)]
    slow = [two_passes(model, inputs)[i] for i in (1, 3, 5)]
    weights = [torch.randn_like(feature) for feature in slow]
    gradients = [
        torch.autograd.grad(sum((w * f).sum() for w, f in zip(weights, maps, strict=True)), list(model.parameters()))
        for maps in (fast, slow)
    ]
    for one, other in zip(itertools.chain(fast, gradients[0]), itertools.chain(slow, gradients[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_mixer_equals_transformers() -> None:
    torch.manual_seed(0)
    mixer = BidirectionalMixer(dim=16, inner=32, states=8, rank=4, layers=2)
    config = MambaConfig(
        hidden_size=16, intermediate_size=32, state_size=8, conv_kernel=4, time_step_rank=4, num_hidden_layers=1
    )
    config.intermediate_size = 32
    theirs = MambaMixer(config, 0)
    theirs.load_state_dict(mixer.state_dict())
    tokens = torch.randn(2, 37, 16)
    expected = (theirs(tokens) + theirs(tokens.flip(1)).flip(1)) / 2
    torch.testing.assert_close(mixer(tokens), expected, rtol=1e-4, atol=1e-5)


def test_initialisation_gives_long_memory() -> None:
    mixer = build("small").layers[0]
    delta = F.softplus(mixer.dt_proj.bias)
    assert 1e-3 * 0.999 <= delta.min() < 2e-3
    assert 5e-2 < delta.max() <= 1e-1 * 1.001
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17.0).expand(512, 16))
    assert mixer.dt_proj.weight.abs().max() <= 16**-0.5
    assert mixer.out_proj.weight.abs().max() <= 512**-0.5 / 16**0.5


def test_padding_is_at_the_bottom_and_right() -> None:
    model = build().eval()
    small = images(27, 30)
    padded = F.pad(small, (0, 2, 0, 5))
    assert torch.equal(model(small)[-1], model(padded)[-1])


def test_512_pixels_give_32_by_32() -> None:
    with FakeTensorMode():
        assert RS4D("small")(torch.empty(1, 3, 512, 512))[-1].shape == (1, 256, 32, 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_at_other_sizes(dtype: torch.dtype) -> None:
    """A model in half precision, not autocast: its position embedding is resized in float32."""
    model = build().to(dtype)
    maps = model(images(48, 40).to(dtype))
    assert maps[-1].dtype == dtype
    assert maps[-1].shape == (2, 192, 6, 5)
    maps[-1].float().square().sum().backward()
    assert model.pos_embed.grad.isfinite().all()
    exact = build().to(dtype).float()(images(48, 40).to(dtype).float())
    torch.testing.assert_close(maps[-1].float(), exact[-1], rtol=0.1, atol=0.1)


def shallow() -> RS4D:
    """One layer: what sizes that vary have to pass is there, and tracing is quick."""
    model = build()
    model.layers, model._taps = model.layers[:1], [0]
    return model


@pytest.mark.parametrize(("example", "strict"), [((48, 40), False), ((32, 32), False), ((32, 32), True)])
def test_exports_with_sizes_that_vary(example: tuple[int, int], strict: bool) -> None:
    """Sizes above one patch; neither the example's nor the position embedding's is pinned."""
    model = shallow()
    height, width = (torch.export.Dim(name, min=9, max=4096) for name in ("height", "width"))
    shapes = {"images": {2: height, 3: width}}
    program = torch.export.export(model, (images(*example),), dynamic_shapes=shapes, strict=strict).module()
    for size in ((64, 24), (32, 32), (9, 51), (128, 136)):
        assert torch.equal(program(images(*size))[-1], model(images(*size))[-1])


def test_training_compiles_for_a_second_size() -> None:
    torch._dynamo.reset()
    model = shallow()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for size in ((32, 32), (48, 40), (30, 51)):
        gradients = []
        for run in (model, compiled):
            loss = run(images(*size))[-1].square().mean()
            gradients.append(torch.autograd.grad(loss, list(model.parameters())))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_outputs_are_the_taps_and_then_the_normalised_last() -> None:
    everything = build(out_indices=list(range(6)))(images())
    assert len(everything) == 6
    chosen = build(out_indices=[0, 2])
    maps = chosen(images())
    for feature, index in zip(maps, (0, 2, 5), strict=True):
        assert torch.equal(feature, everything[index])
    assert chosen.feature_info.channels() == [192] * 3
    assert chosen.feature_info.reduction() == [8] * 3
    assert isinstance(chosen, StudentBase)
    torch.testing.assert_close(maps[-1].mean(1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
    assert build(out_indices=[])(images())[0].equal(everything[5])
    assert [len(build("small", out_indices=None)._taps), build("small")._taps[0]] == [8, 1]


def _blank(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Every token masked with zeros."""
    return torch.zeros_like(tokens), torch.ones(tokens.shape[:2], dtype=torch.bool)


def test_corruption_acts_on_tokens_before_the_position_embedding() -> None:
    model = build()
    seen: list[Tensor] = []

    corrupted, touched = model.forward_corrupted(images(), lambda tokens: (seen.append(tokens), _blank(tokens))[1])
    assert touched.all()
    patches = model.patch_embed(images()).flatten(2).transpose(1, 2)
    assert torch.equal(seen[0], patches)
    nn.init.zeros_(model.patch_embed.weight)
    for one, other in zip(corrupted, model(images()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("frozen", [2, 6])
def test_frozen_parameters_stay(frozen: int) -> None:
    model = build(frozen_layers=frozen)
    head = nn.Conv2d(192, 1, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=0.1, weight_decay=0.1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    sum(head(feature).square().mean() for feature in model(images())).backward()
    optimizer.step()
    still = ("patch_embed.", "pos_embed", "pre_norm.", *(f"layers.{i}." for i in range(frozen)))
    if frozen == 6:
        still = (*still, "norm.")
    for name, parameter in model.named_parameters():
        if name.startswith(still):
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is not None, name
            assert not torch.equal(parameter, before[name]), name


def test_no_weight_decay() -> None:
    model = build()
    names = model.no_weight_decay()
    assert {name.rsplit("layers.", 1)[-1].split(".", 1)[-1] for name in names} == {
        "pos_embed",
        "A_log",
        "D",
        "dt_proj.bias",
    }
    undecayed, decayed = param_groups_weight_decay(model, 0.05, no_weight_decay_list=names)
    kept = {id(parameter) for parameter in undecayed["params"]}
    assert id(model.layers[3].A_log) in kept
    assert id(model.pos_embed) in kept
    assert id(model.layers[3].in_proj.weight) in {id(parameter) for parameter in decayed["params"]}


def test_checkpoint_round_trip_and_new_grid(tmp_path: Path) -> None:
    model = build()
    path = tmp_path / "student.safetensors"
    write_weights(model, path, {"class": "students.RS4D", "init_args": model.init_args})
    torch.manual_seed(9)
    again = RS4D(**model.init_args, checkpoint=str(path))  # type: ignore[arg-type]
    for one, other in zip(model(images()), again(images()), strict=True):
        assert torch.equal(one, other)
    wide = RS4D("tiny", image_size=64, patch_size=8, checkpoint=str(path))
    assert wide.pos_embed.shape == (1, 192, 8, 8)
    for one, other in zip(model(images(64, 64)), wide(images(64, 64)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"variant": "small"}, "variant 'tiny', the student has 'small'"),
        ({"patch_size": 16}, "patch_size 8, the student has 16"),
    ],
)
def test_checkpoint_of_another_student(tmp_path: Path, arguments: dict[str, object], said: str) -> None:
    model = build()
    path = tmp_path / "student.safetensors"
    write_weights(model, path, {"class": "students.RS4D", "init_args": model.init_args})
    with pytest.raises(UserError, match=said):
        build(**({"checkpoint": str(path)} | arguments))  # type: ignore[arg-type]
    write_weights(model, path, {"class": "students.TimmStudent", "init_args": {"name": "resnet10t"}})
    with pytest.raises(UserError, match="holds a students"):
        build(checkpoint=str(path))


def released(model: RS4D) -> dict[str, Tensor]:
    """The state dict as RS4D's code would have saved it."""
    renamed = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("patch_embed.", "patch_embed.projection.")
        name = f"ln1.{name.removeprefix('norm.')}" if name.startswith("norm.") else name
        renamed[name] = tensor.flatten(2).transpose(1, 2) if name == "pos_embed" else tensor
    return renamed


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_released_weights(tmp_path: Path, prefix: str) -> None:
    model = build()
    state = {prefix + name: tensor for name, tensor in released(model).items()}
    if prefix == "backbone.":
        state["rpn_head.rpn_conv.weight"] = torch.zeros(1)
    converted = convert_released_state_dict(state)
    assert converted.keys() == model.state_dict().keys()
    torch.save(state, tmp_path / "released.pth")
    torch.manual_seed(9)
    again = RS4D("tiny", 32, 8, checkpoint=str(tmp_path / "released.pth"))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_nothing_redraws_a_loaded_position_embedding() -> None:
    """A method of this name is called by mmengine on every child of a detector, after the weights are loaded."""
    assert not any(hasattr(module, "init_weights") for module in build().modules())


def test_base_at_1024_stays_within_its_budget() -> None:
    with FakeTensorMode():
        model, inputs = RS4D("base"), torch.empty(1, 3, 1024, 1024)
        with FlopCounterMode(display=False) as counter:
            model(inputs)
    counted = {str(operator): flops for operator, flops in counter.get_flop_counts()["Global"].items()}
    assert any("convolution" in operator for operator in counted)
    assert any("selective_scan" in operator for operator in counted)
    assert 50e9 < counter.get_total_flops() / 2 <= 53e9


def test_autograd_saves_no_state_sequence() -> None:
    """What a training step keeps are maps (2B, L, E); a (2B, L, E, N) tensor would be eight of them."""
    model = build("tiny", image_size=128)
    sizes: list[int] = []

    def record(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        model(images(128, 128, batch=1))
    assert max(sizes) < 8 * 2 * 16 * 16 * 192


def trained(model: RS4D, inputs: Tensor, autocast: bool) -> tuple[list[Tensor], dict[str, Tensor | None], int]:
    """Maps, gradients of all parameters, and the bytes that autograd keeps for them."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            maps = model(inputs)
        loss = torch.stack([feature.float().square().mean() for feature in maps]).sum()
    loss.backward()
    return maps, {name: parameter.grad for name, parameter in model.named_parameters()}, kept


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("frozen", [0, 4])
def test_checkpointing_changes_memory_alone(frozen: int, autocast: bool) -> None:
    inputs = images(64, 48)
    plain, lean = (trained(build(frozen_layers=frozen, checkpointing=on), inputs, autocast) for on in (False, True))
    for one, other in zip(plain[0], lean[0], strict=True):
        assert torch.equal(one, other)
    for name, gradient in plain[1].items():
        assert (gradient is None) == (lean[1][name] is None), name
        assert gradient is None or torch.equal(gradient, lean[1][name]), name
    # Autograd's hooks do not see the inputs of the layers, which is all that the lean one keeps of them.
    tokens = 2 * 8 * 6 * 192 * 4
    assert lean[2] + (6 - frozen) * tokens < 0.3 * plain[2]


def test_checkpointing_with_corruption_and_without_gradients() -> None:
    model = build(checkpointing=True)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model(images()), build()(images()), strict=True))
    maps = [student.forward_corrupted(images(), _blank)[0][-1] for student in (model, build())]
    for feature in maps:
        feature.square().sum().backward()
    assert torch.equal(maps[0], maps[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"variant": "smal"}, "did you mean small"),
        ({"out_indices": [0, 6]}, "increasing numbers from 0 to 5"),
        ({"out_indices": [3, 1]}, "increasing numbers from 0 to 5"),
        ({"frozen_layers": 7}, "allows 0 to 6"),
        ({"image_size": 30}, "positive multiple of patch_size"),
        ({"checkpoint": "missing.pth"}, "does not exist"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        build(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
