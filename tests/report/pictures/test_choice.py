"""Which images are shown."""

from distill.report.pictures.choice import by_classes, spread


def test_images_that_show_new_classes_come_first() -> None:
    assert by_classes({0: set(), 1: {2}, 2: {2}, 3: {0, 2}, 4: {1}, 5: {1}}) == [1, 3, 4, 2]
    assert by_classes({7: set(), 8: {0}}) == [8, 7]
    assert by_classes({}) == []


def test_images_are_spread_over_a_split() -> None:
    assert spread(100) == [0, 33, 66, 99]
    assert [spread(count) for count in range(6)] == [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 3, 4]]
