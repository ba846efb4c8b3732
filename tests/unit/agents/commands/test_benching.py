"""What the verbs of `soma bench` make of the options that they share."""

import click
import pytest

from agents.commands.benching import numbers, parts


def test_parts_are_taken_in_their_order_and_all_by_default() -> None:
    known = ("chain", "segmentation", "latency")
    assert parts("latency, chain", known) == ("chain", "latency")
    assert parts("", known) == known
    with pytest.raises(click.BadParameter, match="no part chian; there are chain, segmentation"):
        parts("chian,latency", known)


def test_numbers_are_whole_and_good() -> None:
    assert numbers("4, 2,4", "--workers", "even numbers", lambda n: n % 2 == 0) == (4, 2, 4)
    for text in ("", "2,", "2,3", "-2", "two"):
        with pytest.raises(click.BadParameter, match="give even numbers, with commas between"):
            numbers(text, "--workers", "even numbers", lambda n: n % 2 == 0)
