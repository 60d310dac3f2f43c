"""Confusion matrices of few and of very many classes."""

import numpy as np
import pytest

from distill.report.class_tables import matrix_figure


@pytest.mark.parametrize(("classes", "numbers"), [(3, 3), (1203, 0)])
def test_a_matrix_of_any_number_of_classes_can_be_drawn(classes: int, numbers: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    figure = matrix_figure(np.eye(classes, dtype=np.int64), names, names, lambda count, share: f"{count}", "pixels")
    assert len(figure.axes[0].texts) == numbers
    assert max(figure.get_size_inches()) < 65  # inches; 16 bits count the dots of a picture
