"""The other one, with the same law."""

from tests.live.laws.law import processor

PROCESSOR = processor("well")
