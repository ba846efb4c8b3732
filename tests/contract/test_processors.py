"""What every processor must keep, whatever its law. A new one is found and tested by itself."""

import pytest

from agents.contract import Contract
from tests.contract.harness import PROCESSORS, subject_of

SUBJECTS = [subject_of(processor) for processor in PROCESSORS]


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda one: one.processor.name)
class TestProcessors(Contract):
    """The suite that packages of other people run too."""
