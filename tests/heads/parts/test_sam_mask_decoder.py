"""SAM's mask decoder against `segment_anything`'s, which is loaded as a user loads it: from a checkpoint file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from distill.parameter_groups import parameter_groups
from heads.parts.sam_mask_decoder import MaskDecoder

Official = tuple[Any, Any]
GRIDS = [(8, 8), (5, 7), (1, 9), (16, 11)]


@pytest.fixture(scope="module")
def official() -> Official:
    """Mask decoder and prompt encoder of the published architecture with random weights."""
    modeling = pytest.importorskip("segment_anything.modeling")
    torch.manual_seed(0)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = modeling.MaskDecoder(transformer_dim=256, transformer=transformer)
    encoder = modeling.PromptEncoder(
        256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
    )
    for parameter in [*decoder.parameters(), *encoder.parameters()]:  # norms and biases at their start hide mistakes
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
    return decoder, encoder


def official_state(official: Official) -> dict[str, Tensor]:
    decoder, encoder = official
    state = {f"mask_decoder.{name}": value for name, value in decoder.state_dict().items()}
    state |= {f"prompt_encoder.{name}": value for name, value in encoder.state_dict().items()}
    return state | {"image_encoder.pos_embed": torch.zeros(1, 64, 64, 8)}


@pytest.fixture(scope="module")
def decoder(official: Official, tmp_path_factory: pytest.TempPathFactory) -> MaskDecoder:
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.save(official_state(official), path)
    ours = MaskDecoder()
    ours.load(str(path))
    return ours


def run_official(official: Official, image: Tensor, prompts: Tensor, several: bool) -> tuple[Tensor, Tensor]:
    decoder, encoder = official
    encoder.image_embedding_size = tuple(image.shape[2:])
    _, dense = encoder(points=None, boxes=None, masks=None)
    return decoder(image, encoder.get_dense_pe(), prompts, dense.expand(len(prompts), -1, -1, -1), several)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("prompts", "tokens"), [(1, 1), (3, 5)])
@pytest.mark.parametrize("grid", GRIDS)
def test_outputs_and_gradients_are_the_originals(
    official: Official, decoder: MaskDecoder, grid: tuple[int, int], prompts: int, tokens: int, several: bool
) -> None:
    torch.manual_seed(1)
    image, prompt = torch.randn(1, 256, *grid), torch.randn(prompts, tokens, 256)
    weight = torch.randn(prompts, 3 if several else 1, 4 * grid[0], 4 * grid[1])

    def outputs_and_input_gradients(run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
        inputs = [image.clone().requires_grad_(), prompt.clone().requires_grad_()]
        masks, iou = run(*inputs)
        ((masks * weight).mean() + iou.square().mean()).backward()
        return [masks, iou, *(x.grad for x in inputs)]

    for module in (*official, decoder):
        module.zero_grad()
    expected = outputs_and_input_gradients(lambda i, p: run_official(official, i, p, several))
    found = outputs_and_input_gradients(lambda i, p: decoder(i, p, several))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)

    theirs = {name: p.grad for name, p in official[0].named_parameters()}
    theirs["no_mask_embed.weight"] = official[1].no_mask_embed.weight.grad
    for name, parameter in decoder.named_parameters():
        if parameter.grad is None:  # a perceptron of a mask that was not asked for, which the original multiplies by 0
            assert theirs[name].abs().sum() == 0, name
        else:
            torch.testing.assert_close(parameter.grad, theirs[name], atol=1e-5, rtol=1e-5)


def test_no_prompts_make_no_masks_and_gradients_of_zero(decoder: MaskDecoder) -> None:
    decoder.zero_grad()
    masks, iou = decoder(torch.randn(1, 256, 4, 4), torch.zeros(0, 5, 256))
    assert (masks.shape, iou.shape) == ((0, 1, 16, 16), (0, 1))
    masks.sum().backward()
    assert decoder.mask_tokens.weight.grad.abs().sum() == 0


def test_a_single_mask_trains_everything_that_is_left_to_train() -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(channels=32, heads=4)
    decoder.train_single_mask_only()
    decoder(torch.randn(1, 32, 4, 4), torch.randn(2, 3, 32))[0].square().mean().backward()
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_embeddings_are_not_decayed() -> None:
    decoder = MaskDecoder(channels=32, heads=4)
    decayed, undecayed = ({id(p) for p in group["params"]} for group in parameter_groups(decoder, 0.1))
    assert id(decoder.mask_tokens.weight) in undecayed
    assert id(decoder.transformer.layers[0].mlp.lin1.weight) in decayed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"image_encoder.pos_embed": state["image_encoder.pos_embed"]}, "holds no SAM mask decoder"),
        (lambda state: {k: v for k, v in state.items() if "gaussian" not in k}, "holds no SAM mask decoder"),
        (lambda state: {k: v for k, v in state.items() if "norm4" not in k}, "4 of .* parameters are missing"),
        (lambda state: state | {"mask_decoder.iou_token.weight": torch.zeros(1, 8)}, r"iou_token.weight is \(1, 8\)"),
    ],
)
def test_a_file_of_another_layout_is_one_line(
    official: Official, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    torch.save(change(official_state(official)), tmp_path / "other.pth")
    with pytest.raises(UserError, match=message) as raised:
        MaskDecoder().load(str(tmp_path / "other.pth"))
    assert "other.pth" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        MaskDecoder().load(str(tmp_path / "nowhere.pth"))


def test_channels_that_heads_cannot_share_are_named() -> None:
    with pytest.raises(UserError, match="decoder_channels is 40; it must be a multiple of 16"):
        MaskDecoder(channels=40)
