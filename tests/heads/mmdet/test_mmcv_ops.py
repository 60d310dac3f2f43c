import ast
import importlib.util
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import heads
from distill.errors import UserError
from heads.mmdet import mmcv_ops


@pytest.fixture
def ops():
    if mmcv_ops.ensure_mmcv_ops() == "compiled":
        pytest.skip("mmcv brings compiled operators, the stand-in is not in use")
    import mmcv.ops

    return mmcv.ops


def random_boxes(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 1 + torch.rand(n, 2, generator=generator) * 30], dim=1)
    return boxes, torch.rand(n, generator=generator)


def test_nms_equals_torchvision(ops):
    boxes, scores = random_boxes(203)
    kept = ops.nms(boxes, scores, 0.4)[1]
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.4))
    assert 0 < len(kept) < len(boxes)


def test_nms_offset_makes_far_edges_inclusive(ops):
    # As inclusive boxes they share 3 of 9 columns (overlap 1/3); as exclusive ones 2 of 8 (1/4).
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [3.0, 0.0, 8.0, 5.0]])
    scores = torch.tensor([0.9, 0.8])
    assert len(ops.nms(boxes, scores, 0.3, offset=1)[1]) == 1
    assert len(ops.nms(boxes, scores, 0.3, offset=0)[1]) == 2


def test_batched_nms_keeps_classes_apart(ops):
    boxes, scores = random_boxes(150, seed=1)
    classes = torch.arange(150) % 3
    dets, kept = ops.batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.5})
    assert torch.equal(kept, torchvision.ops.batched_nms(boxes, scores, classes, 0.5))
    assert torch.equal(dets[:, :4], boxes[kept])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_roi_align_computes_half_precision_in_float32(ops, precision):
    """mmcv rounds the regions to the precision of the features; nothing else is lost, forward or backward."""
    torch.manual_seed(0)
    features = torch.randn(1, 3, 16, 16, dtype=precision)
    rois = torch.tensor([[0, 1.5, 2.25, 11.0, 13.5]], dtype=precision)
    results = []
    for kind in (precision, torch.float32):
        own = features.detach().clone().to(kind).requires_grad_()
        pooled = ops.RoIAlign(7, 1.0, 0)(own, rois.to(kind))
        pooled.square().sum().backward()
        results.append((pooled.detach(), own.grad))
    (pooled, gradient), (exact, exact_gradient) = results
    assert pooled.dtype == gradient.dtype == precision
    assert torch.equal(pooled, exact.to(precision))
    torch.testing.assert_close(gradient.float(), exact_gradient, rtol=0.02, atol=0.02)


def test_operators_are_there_before_anything_that_needs_them():
    """In every module that imports MMDetection, mmcv or MMEngine as it is read, `ensure_mmcv_ops()` comes first.

    In `heads.mmdet.registered` the package itself calls it, before any of its modules is read.
    """
    package = Path(mmcv_ops.__file__).parent
    needing = set()
    for path in sorted(package.parent.rglob("*.py")):
        ensured = False
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            if {str(name).partition(".")[0] for name in names} & {"mmdet", "mmcv", "mmengine"}:
                needing.add(path)
                assert ensured or path.parent == package / "registered", f"{path.name}, line {node.lineno}"
            ensured |= isinstance(node, ast.Expr) and ast.unparse(node) == "ensure_mmcv_ops()"
    assert len(needing) >= 7


def soft_nms_reference(boxes, scores, threshold, sigma, min_score, method):
    """Soft-NMS over plain numbers, one box at a time."""

    def overlap(a, b):
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return width * height / (area - width * height)

    candidates = [(float(s), i) for i, s in enumerate(scores)]
    kept = []
    while candidates:
        best = max(candidates)
        candidates.remove(best)
        kept.append(best)
        rescored = []
        for score, i in candidates:
            iou = overlap(boxes[best[1]], boxes[i])
            if method == "gaussian":
                score *= np.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                score *= 1 - iou if method == "linear" else 0.0
            if score >= min_score:
                rescored.append((score, i))
        candidates = rescored
    return kept


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("n", [1, 57])
def test_soft_nms_equals_the_plain_loop(ops, method, n):
    boxes, scores = random_boxes(n, seed=2)
    dets, kept = ops.soft_nms(boxes, scores, iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method)
    expected = soft_nms_reference(boxes.double().numpy(), scores.double().numpy(), 0.3, 0.5, 0.05, method)
    assert kept.tolist() == [i for _, i in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([s for s, _ in expected], dtype=torch.float32))
    assert torch.equal(dets[:, :4], boxes[kept])


def test_soft_nms_by_hand(ops):
    # The second box covers the first by half, the third lies apart: 0.8 * (1 - 0.5) = 0.4 < 0.6.
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 20.0, 30.0, 30.0]])
    dets, kept = ops.soft_nms(boxes, torch.tensor([0.9, 0.8, 0.6]), iou_threshold=0.3, method="linear")
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.6, 0.4]))


def test_soft_nms_of_nothing(ops):
    dets, kept = ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_equals_torchvision_forward_and_backward(ops, aligned, sampling_ratio):
    torch.manual_seed(3)
    ours = torch.randn(2, 3, 19, 23, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    boxes, _ = random_boxes(11, seed=3)
    rois = torch.cat([(torch.arange(11) % 2)[:, None].float(), boxes], dim=1)
    got = ops.roi_align(ours, rois, (5, 7), 0.4, sampling_ratio, "avg", aligned)
    expected = torchvision.ops.roi_align(theirs, rois, (5, 7), 0.4, sampling_ratio, aligned)
    weight = torch.randn_like(expected)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.equal(got, expected)
    assert torch.equal(ours.grad, theirs.grad)
    assert ours.grad.abs().sum() > 0


def test_max_pooling_says_what_it_needs(ops):
    with pytest.raises(UserError, match="needs compiled mmcv"):
        ops.roi_align(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5), 2, 1.0, 0, "max", True)


def test_other_operators_import_but_do_not_run(ops):
    from mmcv.ops import sigmoid_focal_loss

    with pytest.raises(UserError, match="'sigmoid_focal_loss_forward' needs compiled mmcv"):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), 2.0, 0.25)


def test_compiled_operators_are_never_replaced(monkeypatch, tmp_path):
    (tmp_path / "_ext.py").write_text("compiled = True\n")
    spec = importlib.util.spec_from_file_location("mmcv._ext", tmp_path / "_ext.py")
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr("mmcv.__path__", [str(tmp_path)])
    importlib.invalidate_caches()
    assert mmcv_ops.ensure_mmcv_ops() == "compiled"
    assert sys.modules["mmcv._ext"].compiled
    sys.modules.pop("mmcv._ext")


def test_broken_compiled_operators_are_reported(monkeypatch, tmp_path):
    (tmp_path / "_ext.py").write_text("raise ImportError('undefined symbol: _ZN2at4_ops')\n")
    spec = importlib.util.spec_from_file_location("mmcv._ext", tmp_path / "_ext.py")
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr("mmcv.__path__", [str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(UserError, match="undefined symbol"):
        mmcv_ops.ensure_mmcv_ops()
    name, active, why = mmcv_ops.explain_mmcv_ops()[-1]
    assert (name, active) == ("operators", False)
    assert "undefined symbol" in why


def test_explanation_names_the_stack_and_the_operators():
    rows = mmcv_ops.explain_mmcv_ops()
    assert [name.split()[0] for name, _, _ in rows[:3]] == ["mmdet", "mmengine", "mmcv"]
    assert rows[0][0] == "mmdet 3.3.0"
    assert all(active for _, active, _ in rows)
    expected = {"compiled": "compiled operators", "torchvision stand-in": "operators from torchvision"}
    assert rows[-1][0] == expected[mmcv_ops.ensure_mmcv_ops()]


def test_explanation_of_a_missing_package(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(mmcv_ops, "version", absent)
    name, active, how = mmcv_ops.explain_mmcv_ops()[0]
    assert (name, active) == ("mmdet", False)
    assert how.startswith("pip install")


@pytest.mark.parametrize("head", [heads.MaskRCNN, heads.CascadeMaskRCNN, heads.RSPrompter])
def test_a_head_without_mmdetection_names_the_extra(monkeypatch, head):
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setitem(sys.modules, "mmengine", None)
    needs = (
        rf"^heads\.{head.__name__} needs MMDetection \(mmengine not installed\): pip install 'distill-rs\[mmdet\]', "
        r"or --model\.head heads\.DenseMasks, which needs none$"
    )
    with pytest.raises(UserError, match=needs):
        head(feature_info=None, class_names=["ship"])


def test_importing_heads_imports_no_framework():
    code = "import sys, heads; print(sorted({'torch', 'mmdet', 'mmcv', 'mmengine'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def half_written(tmp_path):
    """The environment of a process that finds yapf's cached grammar cut off, as one does while another writes it."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import yapf"], env=environment, check=True)
    caches = list(tmp_path.rglob("*.pickle"))
    if not caches:
        pytest.skip("yapf keeps its cache elsewhere on this platform")
    for cache in caches:
        cache.with_suffix(".whole").write_bytes(cache.read_bytes())
        os.truncate(cache, 0 if "Pattern" in cache.name else 100)
    return environment


def test_a_grammar_is_read_until_it_is_whole(half_written):
    """One that stays damaged is one line; one that another process is writing is read again."""
    code = (
        "import os, pathlib\n"
        "from heads.mmdet import mmcv_ops\n"
        "from distill.errors import UserError\n"
        "def written(seconds):\n"
        "    for whole in pathlib.Path(os.environ['XDG_CACHE_HOME']).rglob('*.whole'):\n"
        "        whole.replace(whole.with_suffix('.pickle'))\n"
        "for mmcv_ops.time.sleep in (lambda seconds: None, written):\n"
        "    try:\n"
        "        mmcv_ops.ensure_mmcv_ops()\n"
        "        import mmengine.config\n"
        "        print('imported')\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=half_written,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    damaged, written = done.stdout.splitlines()
    assert "cached grammar is damaged; delete" in damaged
    assert written == "imported"
