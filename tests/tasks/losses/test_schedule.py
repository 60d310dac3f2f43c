import pytest

from distill.errors import UserError
from distill.tasks.losses.schedule import Schedule, require_weight, weight_at


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("constant", [1, 1, 1, 3, 3]), ("linear", [1, 1.5, 2, 3, 3]), ("cosine", [1, 1.292893, 2, 3, 3])],
)
def test_a_schedule_is_a_function_of_the_step(shape: str, expected: list[float]) -> None:
    schedule = Schedule(1.0, 3.0, 8, shape)
    assert [weight_at(schedule, step) for step in (0, 2, 4, 8, 100)] == pytest.approx(expected)
    assert weight_at(0.5, 7) == 0.5


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "key is -1.0"),
        (Schedule(1, -1, 4), "key goes from 1 to -1"),
        (Schedule(0, 1, 0), "key.steps is 0"),
        (Schedule(0, 1, 4, "cosin"), "key.shape 'cosin': did you mean cosine"),
    ],
)
def test_what_no_weight_can_be(weight: float | Schedule, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_weight("key", weight)
