"""regopy's library has a namespace of its own, and neither side loses the other's memory."""

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agents.policy import apart
from agents.policy.rego import Rego

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="dlmopen is glibc's")
# What asks the namespace's C library for classes of characters, numbers and texts.
WORDS = """package soma.policy.integrator
found := [
    lower(input.text), upper(input.text), trim_space(input.text),
    regex.match("[a-z]+[[:space:]]\\\\w*", input.text), sprintf("%d %v %.3f", [3, input.x, 2.5]),
    to_number("12.5"), json.unmarshal("[1, 2.5e3]"), format_int(255, 16),
]
"""
EXPECTED: list[Any] = [
    " some words ", " SOME WORDS ", "Some WORDS", True, "3 [1, 2.25] 2.500", 12.5, [1, 2500], "ff"
]  # fmt: skip
# NumPy's own C++, in a process that has asked a policy. (With regopy first: 8.5 kB a call.)
UNIQUE = """
from agents.policy.policies import Embedded
import psutil
import numpy as np
policy = Embedded({"p.rego": "package soma.policy.integrator\\nallow := true"})
policy.decide("t", "a", {"a": 0.5, "b": 0.5})
x = np.arange(5000) % 9
def used(n):
    for _ in range(n):
        np.unique(x)
    return psutil.Process().memory_info().rss
print(-used(300) + used(3000))
"""


@glibc
def test_its_library_is_apart() -> None:
    from regopy import rego_shared

    assert apart.LIBRARY is not None and rego_shared.rego is apart.LIBRARY


def test_threads_of_before_and_after_may_ask() -> None:
    def ask() -> object:
        policy = Rego({"p.rego": WORDS}, "soma/policy/integrator/found")
        return policy.query({"text": " Some WORDS ", "x": [1, 2.25]})

    with ThreadPoolExecutor(4) as pool:
        answers = [one.result() for one in [pool.submit(ask) for _ in range(16)]]
    assert [*answers, ask()] == [EXPECTED] * 17


def test_numpy_leaves_no_memory_behind_beside_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNIQUE], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) < 1_000_000
