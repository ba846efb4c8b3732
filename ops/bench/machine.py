"""What machine a figure comes from."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(load_before: float) -> str:
    """One line: processor, cores, memory, system, Python, time; load average before and after."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{_cpu_name()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release().partition('-')[0]}, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average (1 min) "
        f"{load_before:.1f} before and {os.getloadavg()[0]:.1f} after the run"
    )
