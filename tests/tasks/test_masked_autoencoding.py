"""Masked autoencoding against transformers' implementation, and what becomes of the encoder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

import distill
from distill.errors import UserError
from distill.layers import sin_cos_positions
from distill.tasks.masked_autoencoding import DecoderSettings, MaskedAutoencodingModule
from distill.weights import read_state_dict
from students import RS4D, TimmStudent
from teachers import ViT

NARROW = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2, "dynamic_img_size": True}
VIT: dict[str, Any] = {"name": "vit_tiny_patch16_224", "out_indices": [1], "options": NARROW}
SMALL = DecoderSettings(channels=16, depth=1, heads=2)
SIDE = 32


def build(**arguments: Any) -> MaskedAutoencodingModule:
    torch.manual_seed(0)
    return MaskedAutoencodingModule(TimmStudent(**VIT, sin_cos_positions=True), decoder=SMALL, **arguments)


def released_names(module: MaskedAutoencodingModule) -> dict[str, Tensor]:
    """The weights under the names of released files, whose pixels of a patch have their channels last."""
    encoder = {name.removeprefix("student.model.model."): x for name, x in module.state_dict().items()}
    layers = {
        f"vit.encoder.layer.{i}": block_names(encoder, f"blocks.{i}", "attn.qkv", "attn.proj", "mlp.fc") for i in (0, 1)
    }
    own = module.decoder.state_dict()
    layers["decoder.decoder_layers.0"] = block_names(
        own, "blocks.0", "self_attn.in_proj_", "self_attn.out_proj", "linear"
    )
    pixels = torch.arange(3 * 8 * 8).view(3, 8, 8).permute(1, 2, 0).flatten()
    return {
        "vit.embeddings.cls_token": encoder["cls_token"],
        "vit.embeddings.position_embeddings": encoder["pos_embed"],
        **renamed(encoder, "patch_embed.proj.", "vit.embeddings.patch_embeddings.projection."),
        **renamed(own, "norm.", "vit.layernorm."),
        **renamed(own, "embed.", "decoder.decoder_embed."),
        **renamed(own, "last_norm.", "decoder.decoder_norm."),
        "decoder.mask_token": own["mask_token"].view(1, 1, -1),
        "decoder.decoder_pos_embed": torch.cat([torch.zeros(1, 16), sin_cos_positions((4, 4), 16)])[None],
        "decoder.decoder_pred.weight": own["pixels.weight"][pixels],
        "decoder.decoder_pred.bias": own["pixels.bias"][pixels],
        **{f"{layer}.{name}": x for layer, found in layers.items() for name, x in found.items()},
    }


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {new + name.removeprefix(old): x for name, x in state.items() if name.startswith(old)}


def block_names(state: dict[str, Tensor], block: str, inward: str, outward: str, mlp: str) -> dict[str, Tensor]:
    found = renamed(state, f"{block}.norm1.", "layernorm_before.") | renamed(
        state, f"{block}.norm2.", "layernorm_after."
    )
    for layer, name in enumerate(("intermediate.dense.", "output.dense."), start=1):
        found |= renamed(state, f"{block}.{mlp}{layer}.", name)
    for name, x in renamed(state, f"{block}.{inward}", "").items():
        parts = zip(("query", "key", "value"), x.chunk(3), strict=True)
        found |= {f"attention.attention.{key}.{name.lstrip('.')}": part for key, part in parts}
    return found | renamed(state, f"{block}.{outward}.", "attention.output.dense.")


@pytest.mark.parametrize("normalized", [True, False])
def test_loss_and_gradients_equal_those_of_transformers(normalized: bool) -> None:
    module = build(normalize_pixels=normalized)
    nn.init.normal_(module.student.model.model.pos_embed)  # type: ignore[union-attr]
    config = ViTMAEConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=SIDE,
        patch_size=8, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=64, norm_pix_loss=normalized, layer_norm_eps=1e-6,
    )  # fmt: skip
    # Releases differ in the names in memory; all load the names of released files.
    reference, report = ViTMAEForPreTraining.from_pretrained(
        None, config=config, state_dict=released_names(module), output_loading_info=True
    )
    assert not any(report.values())
    images, noise = torch.rand(3, 3, SIDE, SIDE), torch.rand(3, 16)
    loss = module.loss(images, noise.argsort(dim=1))
    expected = reference(module.normalize(images), noise=noise).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    first = module.student.model.model.patch_embed.proj.weight.grad  # type: ignore[union-attr]
    torch.testing.assert_close(first, reference.vit.embeddings.patch_embeddings.projection.weight.grad)
    torch.testing.assert_close(module.decoder.mask_token.grad, reference.decoder.mask_token.grad[0, 0])


def test_only_masked_patches_are_compared_and_only_visible_ones_are_seen() -> None:
    module = build().eval()
    images = torch.rand(1, 3, SIDE, SIDE, requires_grad=True)
    order = torch.arange(16)[None]  # of which 0 to 3, the first row, are visible
    estimate = module.decoder(module.student.forward_visible(images, order[:, :4]), order[:, :4], order[:, 4:], (4, 4))
    seen = torch.autograd.grad(estimate.square().sum(), images, retain_graph=True)[0]
    assert bool((seen[:, :, :8] != 0).any())
    assert not bool(seen[:, :, 8:].any())
    changed = images.detach().clone()
    changed[:, :, 8:16] = torch.rand(1, 3, 8, SIDE)
    assert not torch.equal(module.loss(images, order), module.loss(changed, order))


def test_some_patches_get_the_tokens_that_they_would_have_alone() -> None:
    """With all of them, and in any order, the result is that of the whole image."""
    student = TimmStudent(**VIT).eval()
    images = torch.rand(2, 3, SIDE, SIDE)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    tokens = student.forward_visible(images, order)
    assert tokens.shape == (2, 17, 32)
    whole = student(images)[-1].flatten(2).transpose(1, 2)
    for row, numbers, expected in zip(tokens, order, whole, strict=True):
        torch.testing.assert_close(row[1:], expected[numbers])


def test_checkpointing_computes_visible_patches_again() -> None:
    module = build()
    images = torch.rand(2, 3, SIDE, SIDE)
    order, gradients, calls = module.order(images), [], []
    vit: Any = module.student.model.model
    vit.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for enabled in (False, True):
        module.student.set_grad_checkpointing(enabled)
        module.zero_grad()
        module.loss(images, order).backward()
        gradients.append(vit.patch_embed.proj.weight.grad.clone())
    assert len(calls) == 1 + 2
    torch.testing.assert_close(*gradients)


def test_positions_are_waves_of_columns_then_rows() -> None:
    waves = sin_cos_positions((2, 3), 8)
    assert waves.shape == (6, 8)
    row, column = 1, 2
    angles = torch.tensor([[column, column / 100], [row, row / 100]])
    expected = torch.cat([torch.cat([angle.sin(), angle.cos()]) for angle in angles])
    torch.testing.assert_close(waves[row * 3 + column], expected)
    start = TimmStudent(**VIT, sin_cos_positions=True).model.model.pos_embed  # type: ignore[union-attr]
    assert torch.equal(start[0, 1:], sin_cos_positions((4, 4), 32))
    assert not bool(start[0, 0].any())


def test_a_run_resumes_exactly_and_its_encoder_becomes_student_and_teacher(scenes: Path, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "seed_everything": 0,
        "model": {
            "class_path": "distill.MaskedAutoencodingModule",
            "init_args": {
                "student": {"class_path": "students.TimmStudent", "init_args": VIT},
                "decoder": vars(SMALL),
                "optim": {"warmup_steps": 1},
            },
        },
        "data": {
            "class_path": "distill.data.ImageFolder",
            "init_args": {"root": str(scenes / "train/images"), "image_size": SIDE, "batch_size": 2, "num_workers": 0},
        },
        "trainer": {"max_steps": 4, "val_check_interval": 4, "check_val_every_n_epoch": None},
        "run": {"dir": str(tmp_path / "whole"), "checkpoint_every": 2, "pictures_every": 0, "loggers": []},
    }
    whole = distill.fit(recipe, **{"data.val_root": str(scenes / "test/images")})
    part = {"data.val_root": str(scenes / "test/images"), "run.dir": str(tmp_path / "part")}
    cut = [{"class_path": "tests.launch.resuming.PowerCut", "init_args": {"step": 3}}]
    with pytest.raises(ConnectionAbortedError):
        distill.fit(recipe, **part, **{"trainer.callbacks": cut})
    resumed = distill.fit(recipe, **part, ckpt_path="last")
    first, second = (read_state_dict(run.student) for run in (whole, resumed))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert whole.read_summary()[1]["val/mse"] == resumed.read_summary()[1]["val/mse"] > 0

    images = torch.rand(1, 3, SIDE, SIDE)
    expected = distill.load_student(whole.student)((images - 0.5) / 0.5)[-1]
    again = TimmStudent(**VIT, checkpoint=str(whole.student)).eval()
    torch.testing.assert_close(again((images - 0.5) / 0.5)[-1], expected)
    torch.testing.assert_close(ViT(VIT["name"], str(whole.student))(images)["embedding"], expected)


def test_what_cannot_be_masked_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.mask is 1\.0"):
        build(mask=1.0)
    with pytest.raises(UserError, match="a multiple of 4"):
        DecoderSettings(channels=18, heads=2)
    with pytest.raises(UserError, match="32 x 30 pixels cannot be divided into patches of 8"):
        build().order(torch.rand(1, 3, SIDE, 30))
    module = MaskedAutoencodingModule(RS4D("tiny", image_size=SIDE, patch_size=8))
    images = torch.rand(1, 3, SIDE, SIDE)
    with pytest.raises(UserError, match="RS4D tiny cannot leave out patches"):
        module.loss(images, module.order(images))
    with pytest.raises(UserError, match="sin_cos_positions to false"):
        TimmStudent("resnet10t", sin_cos_positions=True)
