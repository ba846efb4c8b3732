"""Kernels are compiled before the relays of these tests start."""

import pytest

from agents.outbox.warm import warm


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    warm()
