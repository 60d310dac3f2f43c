"""The SAM teacher on a GPU."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from teachers import SAM
from teachers.sam_attention import appended, attend, flex_runs, materialised
from tests.teachers.test_sam_attention import tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", [(12, 14, 14), (12, 64, 64), (4, 40, 27)], ids=["windows", "native", "not square"])
def test_attention_equals_the_definition(grid: tuple[int, int, int], dtype: torch.dtype) -> None:
    arguments = [x.to("cuda") for x in tensors(*grid, channels=64, spread=0.2)]
    coarse = [x.to(dtype) for x in arguments[:3]] + arguments[3:]
    expected = materialised(*(x.double() for x in coarse))
    for function in (attend, appended):
        found = function(*coarse).double()
        assert (found - expected).norm() / expected.norm() < (1e-4 if dtype == torch.float32 else 0.02)


def test_flex_attention_compiles_here() -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("flex attention is used from compute capability 8.0 on")
    assert flex_runs()


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-3), ("bfloat16", 0.02)])
def test_features_are_those_of_the_processor(precision: str, bound: float) -> None:
    images = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    teacher = SAM(pretrained=False, blocks=[3], precision="float32")
    expected = teacher(images)
    torch.manual_seed(0)
    there = SAM(pretrained=False, blocks=[3], precision=precision).to("cuda")
    assert there.precision == precision
    for name, feature in there(images.cuda()).items():
        assert feature.dtype == torch.float32
        assert (feature.cpu() - expected[name]).norm() / expected[name].norm() < bound


def test_bfloat16_is_the_default_where_the_gpu_has_it() -> None:
    assert SAM(pretrained=False).to("cuda").precision == (
        "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    )
