"""A run's checkpoint as a teacher gives the logits of the module that wrote it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from distill import EMA
from distill.contracts import DecoderBase
from distill.errors import UserError
from distill.tasks.segmentation import SegmentationModule
from heads import DenseMasks, LALEDecoder, SegHead
from students import LALE, EfficientViT, TimmStudent
from teachers import Segmenter

NAMES = ["roof", "road", "tree"]
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "num_heads": 2, "depth": 3}
BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "resnet": partial(TimmStudent, "test_resnet", out_indices=[1, 2, 3, 4]),
    "vit": partial(TimmStudent, "vit_tiny_patch16_224", options=VIT | {"dynamic_img_size": True}),
    "lale": partial(LALE, "S1"),
}
HEADS: dict[str, Callable[..., nn.Module]] = {
    "lale": partial(LALEDecoder, channels=16),
    "seg": partial(SegHead, width=16),
}


class Scenes(pl.LightningDataModule):
    class_names = NAMES

    def train_dataloader(self) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(0)
        batches = [
            {"image": torch.rand(4, 3, 32, 32, generator=generator), "label": torch.randint(0, 3, (4, 32, 32))}
            for _ in range(3)
        ]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def fitted(folder: Path, backbone: str = "resnet", head: str = "lale", **arguments: Any) -> SegmentationModule:
    """A module after three steps, and its last.ckpt in the folder."""
    torch.manual_seed(0)
    module = SegmentationModule(BACKBONES[backbone](), HEADS[head])
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **arguments,
    )
    trainer.fit(module, datamodule=Scenes())
    trainer.save_checkpoint(folder / "last.ckpt")
    return module.eval()


@pytest.mark.parametrize(("backbone", "head"), [("resnet", "lale"), ("vit", "seg"), ("lale", "seg")])
def test_gives_the_logits_of_the_module(backbone: str, head: str, tmp_path: Path) -> None:
    module = fitted(tmp_path, backbone, head)
    teacher = Segmenter(BACKBONES[backbone], HEADS[head], str(tmp_path / "last.ckpt"))
    assert teacher.class_names == NAMES
    assert (teacher.mean, teacher.std) == (module.student.mean, module.student.std)
    images = torch.rand(2, 3, 64, 96)
    features = teacher(images)
    with torch.no_grad():
        torch.testing.assert_close(features["logits"], module(images))
        torch.testing.assert_close(features["map"], module.features(images)[-1])
    assert 96 // features["logits"].shape[-1] == teacher.reduction["logits"] == module.head.stride
    assert 96 // features["map"].shape[-1] == teacher.reduction["map"]
    whole = (50 + -50 % teacher.multiple, 71 + -71 % teacher.multiple)
    padded = torch.tensor(teacher.mean).view(1, 3, 1, 1).repeat(2, 1, *whole)  # the mean becomes zeros
    padded[..., :50, :71] = images[..., :50, :71]
    odd = teacher(images[..., :50, :71])["logits"]
    stride = teacher.reduction["logits"]
    assert odd.shape[-2:] == (-(-50 // stride), -(-71 // stride))
    torch.testing.assert_close(odd, teacher(padded)["logits"][..., : odd.shape[-2], : odd.shape[-1]])


def test_teaches_with_the_averaged_weights(tmp_path: Path) -> None:
    averaged = fitted(tmp_path, callbacks=[Keep(tmp_path / "last.ckpt"), EMA()])  # in place when training has ended
    content = torch.load(tmp_path / "during.ckpt", weights_only=True)
    assert "current_model_state" in content
    teacher = Segmenter(BACKBONES["resnet"], HEADS["lale"], str(tmp_path / "during.ckpt"))
    for name, tensor in teacher.encoder["student"].named_parameters():
        assert torch.equal(tensor, averaged.student.get_parameter(name)), name
    raw = {key: value for key, value in content["current_model_state"].items() if key.endswith("conv1.0.weight")}
    assert raw
    assert not any(torch.equal(value, content["state_dict"][key]) for key, value in raw.items())


class Keep(pl.Callback):
    """Saves what a run folder saves, before the average is put in the place of the weights."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name("during.ckpt")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def test_a_decoder_must_say_its_stride(tmp_path: Path) -> None:
    class Flat(DecoderBase):
        pass

    torch.save({"state_dict": {}, "class_names": NAMES, "global_step": 1}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"Flat has no stride, which distill\.contracts\.DecoderBase declares"):
        Segmenter(BACKBONES["lale"], lambda info, names: Flat(), str(tmp_path / "last.ckpt"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> dict[str, Any]:
    """What a run saves."""
    torch.manual_seed(0)
    module = SegmentationModule(BACKBONES["resnet"](), HEADS["lale"])
    module.build(NAMES)
    return {"state_dict": module.state_dict(), "class_names": NAMES, "global_step": 3}


def refused(path: Path, content: Any, backbone: str = "resnet", head: Any = HEADS["lale"]) -> str:
    """The error of a teacher from this content."""
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UserError) as caught:
        Segmenter(BACKBONES[backbone], head, str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refuses_what_is_no_segmentation_run(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert "does not exist" in refused(tmp_path / "nothing.ckpt", None)
    assert "is no training checkpoint" in refused(path, checkpoint["state_dict"])
    assert "names no classes" in refused(path, {key: checkpoint[key] for key in ("state_dict", "global_step")})
    assert "pickled Python objects" in refused(path, checkpoint | {"hook": Path("x")})
    detector = {f"head.rpn.{key}": value for key, value in HEADS["lale"](Info, NAMES).state_dict().items()}
    students = {key: value for key, value in checkpoint["state_dict"].items() if key.startswith("student.")}
    message = refused(path, checkpoint | {"state_dict": students | detector})
    assert "does not fit LALEDecoder" in message
    assert "gives no logits of pixels" in refused(path, checkpoint, head=DenseMasks)


class Info:
    """A `feature_info`."""

    @staticmethod
    def channels() -> list[int]:
        return [8]

    @staticmethod
    def reduction() -> list[int]:
        return [4]


def test_refuses_other_students_and_decoders_than_trained(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    message = refused(path, checkpoint, backbone="lale")
    assert message.startswith("model.teacher.backbone: ")
    assert message.endswith("model.init_args.student in the run's recipe.yaml says which it was")
    for other in (HEADS["seg"], partial(LALEDecoder, channels=8)):
        message = refused(path, checkpoint, head=other)
        assert message.startswith("model.teacher.head: ")
        assert "model.init_args.head in the run's recipe.yaml" in message


def test_is_named_after_its_parts(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "last.ckpt")
    teacher = Segmenter(BACKBONES["resnet"], HEADS["lale"], str(tmp_path / "last.ckpt"))
    assert teacher.name == "TimmStudent test_resnet under LALEDecoder"
    module = SegmentationModule(EfficientViT("b0"), SegHead)
    module.build(NAMES[:2])
    torch.save({"state_dict": module.state_dict(), "class_names": NAMES[:2], "global_step": 0}, tmp_path / "b0.ckpt")
    other = Segmenter(partial(EfficientViT, "b0"), SegHead, str(tmp_path / "b0.ckpt"))
    assert other.name == "EfficientViT b0 under SegHead"
    assert other.channels["logits"] == 2
    assert other.digest != teacher.digest
