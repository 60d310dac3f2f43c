"""Narrow variants for the whole suite, and the student of a case."""

import pytest

from distill.contracts import StudentBase
from tests.contract.cases import STUDENTS, Case, build_student, narrow


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)


@pytest.fixture(params=STUDENTS)
def student_case(request: pytest.FixtureRequest) -> Case:
    return STUDENTS[request.param]


@pytest.fixture
def student(student_case: Case) -> StudentBase:
    """In eval mode."""
    return build_student(student_case)
