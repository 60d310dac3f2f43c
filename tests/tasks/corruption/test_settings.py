import pytest

from distill.errors import UserError
from distill.tasks.corruption import CorruptionSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 1.2}, "fraction"),
        ({"noise": 0.6, "mask": 0.6}, "disjoint"),
        ({"sigma": -1.0}, "negative"),
        ({"sigma": (1.0, 0.5)}, "smaller number first"),
        ({"noise_scale": "tokne"}, "did you mean token"),
        ({"mask_shape": "blok"}, "did you mean block"),
        ({"guide": "hihg"}, "did you mean high"),
        ({"control": "adaptiv"}, "did you mean adaptive"),
        ({"control": "plateau", "start": 1.0, "end": 0.5}, "start must not be larger"),
        ({"start": -0.1}, "fraction"),
        ({"steps": 0}, "at least 1 step"),
        ({"block_area": (0.2, 0.1)}, "smaller first"),
        ({"block_area": (0.5, 1.5)}, "at most 1"),
        ({"block_aspect": (0.0, 1.0)}, "above 0"),
        ({"gap": (1.2, 1.1)}, "smaller first"),
        ({"level": "pixel"}, "valid names are token, image"),
        ({"goal": 1.0}, "goal"),
    ],
)
def test_bad_settings_name_the_key(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        CorruptionSettings(**settings)
    assert "model.corruption." in str(caught.value)
    assert "\n" not in str(caught.value)
