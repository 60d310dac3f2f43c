from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from distill.targets.cache.folder import CacheFolder, StoredTarget
from distill.targets.cache.reader import MISSED
from distill.targets.cache.teacher import CachedTeacher
from distill.targets.live import LiveTargets, Passes
from tests.targets.cache.caching import info
from tests.targets.test_teacher_view import CASES, Places


@pytest.mark.parametrize(("side", "stride", "patch"), CASES)
def test_the_grid_is_known_without_the_teacher(side: int, stride: int, patch: int) -> None:
    targets = LiveTargets(Places(patch), "embedding", stride)
    for height, width in ((side, side), (side + 8, side - 24)):
        assert targets.grid(height, width) == targets(torch.rand(1, 3, height, width)).shape[-2:]


def test_a_target_has_a_name_and_channels() -> None:
    targets = LiveTargets(Places(16), "embedding", 16)
    assert (targets.name, targets.channels) == ("Places's embedding", 3)
    with pytest.raises(UserError, match=r"model\.target: .*embeding|did you mean embedding"):
        LiveTargets(Places(16), "embeding", 16)


class Seen(Places):
    """Has two features, and counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__(8)
        self.channels = {"embedding": 3, "bright": 3}
        self.reduction = dict.fromkeys(self.channels, 8)
        self.seen: list[int] = []

    def features(self, images: Tensor) -> dict[str, Tensor]:
        self.seen.append(len(images))
        return {"embedding": self.encoder(images), "bright": 1 + self.encoder(images)}


@pytest.fixture
def stood_in(tmp_path: Path) -> tuple[CachedTeacher, Seen]:
    """A stand-in that builds a teacher for missed views, and that teacher."""
    teacher = Seen()
    stored = dict.fromkeys(teacher.channels, StoredTarget((3, 2, 2), 8))
    known = {"class": "tests.Seen", "label": "Seen", "digest": teacher.digest, "precision": "float32"}
    CacheFolder(tmp_path).write(info(targets=stored, teacher=known))
    stand_in = CachedTeacher(str(tmp_path))
    stand_in.build_teacher = lambda: teacher
    return stand_in, teacher


def test_the_teacher_sees_missed_views_once_for_all_targets(stood_in: tuple[CachedTeacher, Seen]) -> None:
    stand_in, teacher = stood_in
    targets = [LiveTargets(stand_in, feature, 8) for feature in teacher.channels]
    images, zeros = torch.rand(3, 3, 16, 16), torch.zeros(3, 3, 2, 2)
    for missed, seen in (((False, True, True), [2]), ((False,) * 3, []), ((True,) * 3, [3])):
        teacher.seen.clear()
        passes: Passes = {}
        stored = {feature: {"values": zeros.clone()} for feature in teacher.channels}
        batch = {"image": images, "target": stored, MISSED: ["image.png" if one else "" for one in missed]}
        for target, bright in zip(targets, (0, 1), strict=True):
            expected = torch.stack(
                [
                    bright + teacher.encoder(x) if made else 0 * x[:, :2, :2]
                    for x, made in zip(images, missed, strict=True)
                ]
            )
            torch.testing.assert_close(target.of(batch, passes), expected)
        assert teacher.seen == seen
