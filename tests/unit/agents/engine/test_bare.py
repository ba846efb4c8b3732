"""How a worker ends: by the status that is due, and without taking the interpreter apart."""

import subprocess
import sys
from pathlib import Path

import pytest

# A service runs as a worker's app does; beside it a thread that would outlive the interpreter,
# and something that Python would run while it ends.
CODE = """
import asyncio, atexit, os, signal, threading
import faust, mode
from agents.engine.bare import Worker

class Runs(mode.Service):
    @mode.Service.task
    async def work(self):
        await self.sleep(0.1)
        {end}

    async def on_stop(self):
        print("it let go")

class Alone(Worker):
    def on_init_dependencies(self):
        return [Runs()]  # no app, which would want a broker

atexit.register(print, "taken apart")
threading.Thread(target=threading.Event().wait, daemon=True).start()
app = faust.App("ends", broker="kafka://127.0.0.1:1", store="memory://")
worker = Alone(app, loglevel="INFO", redirect_stdouts=False)
worker.execute_from_commandline()
"""
ENDS = {
    "os.kill(os.getpid(), signal.SIGTERM)": 0,
    "os.kill(os.getpid(), signal.SIGINT)": 0,
    "raise ValueError('it broke')": 1,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_worker_leaves_when_all_has_let_go(end: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(end=end)],
        cwd=Path(__file__).parents[4], env={"HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == ENDS[end], done.stderr
    assert "it let go" in done.stdout
    assert "taken apart" not in done.stdout
    assert ("it broke" in done.stderr) == ("it broke" in end)
