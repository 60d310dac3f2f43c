"""Tests that share something dear run in one worker."""

import os

import pytest


@pytest.mark.xdist_group("a group")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_groups_are_found(request: pytest.FixtureRequest) -> None:
    """pytest-xdist reads groups from the ends of node ids; where it cannot write them there, it says nothing."""
    assert request.node.nodeid.endswith("@a group")
