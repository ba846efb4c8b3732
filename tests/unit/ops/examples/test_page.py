"""The page says what the example does, and its own code works."""

import re
from pathlib import Path

import numpy as np

import ops.examples
from ops.examples.install import install
from tests.unit.ops.examples.counting.samples import records

FOLDER = Path(ops.examples.__file__).parent
BLOCKS = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)


def test_the_law_is_the_example_s() -> None:
    assert BLOCKS[0] in (FOLDER / "counting.py").read_text()


def test_the_driver_does_what_the_page_says() -> None:
    install()
    from ops.examples.counting import PROCESSOR

    observation = records(np.random.default_rng(1), 1)[0]
    exec(BLOCKS[1], {"PROCESSOR": PROCESSOR, "observation": observation})
