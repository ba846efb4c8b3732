"""`soma rho`: density matrices by compare-and-set."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from agents.settings import load
from stores.errors import StoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agents.rho.matrices import Held, Matrices, Proposal

T = TypeVar("T")
SUFFIXES = (".npy", ".rho", ".json")
IDEMPOTENCY_MAX = 200  # characters, as the HTTP API has it

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_tenant = click.option("--tenant", default="default", show_default=True)


@click.group()
def rho() -> None:
    """Commit density matrices by compare-and-set, and read them.

    PostgreSQL keeps them, Redis answers reads. A matrix is taken if it is float64, square,
    symmetric, positive semidefinite and of trace 1; each commit is told on rho.status.

    Files: .npy (NumPy's), .rho (an envelope, as the HTTP API has it in octets) or .json (rows).
    """


@rho.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@_json
def check(files: tuple[str, ...], as_json: bool) -> None:
    """Say whether FILES are density matrices, without a server. Fails unless all are.

    \b
    Example:
      soma rho check left.npy right.rho
    """
    from agents.rho import law

    most, bad = load().rho.dimension_max, 0
    shown: list[dict[str, Any]] = []
    for name in files:
        found = law.check(_matrix(Path(name)), most)
        wrong = isinstance(found, law.InvariantViolation)
        bad += wrong
        if isinstance(found, law.InvariantViolation):
            said: dict[str, Any] = {
                "result": found.name,
                "which": found.which,
                "detail": found.detail,
            }
        else:
            said = {"result": "OK", "trace_error": found.trace_error, "lowest": found.lowest}
        shown.append({"file": name, **said})
        if not as_json:
            click.echo(
                f"{name}: refused ({said['which']}), {said['detail']}" if wrong
                else f"{name}: taken, trace error {said['trace_error']:.2g}"
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"files": shown}))
    if bad:
        raise click.exceptions.Exit(1)


@rho.command()
@click.argument("commits", metavar="KEY=FILE@VERSION[:CRC]...", nargs=-1, required=True)
@_tenant
@click.option(
    "--idempotency-key",
    help="Makes a repetition safe: the same commit is answered as the first time.",
)
@_json
def commit(
    commits: tuple[str, ...], tenant: str, idempotency_key: str | None, as_json: bool
) -> None:
    """Commit the matrix in FILE as the next version of KEY, if KEY is at VERSION (0: not there).

    Several are committed all or none. Fails, and says why, where one can't be. With CRC, as `soma
    rho get` told it, VERSION must have that content still: a PostgreSQL that went back in time
    gives numbers again.

    \b
    Examples:
      soma rho commit left=left.npy@0 --tenant acme
      soma rho commit left=left.npy@1 right=right.rho@4 --tenant acme --idempotency-key move-17
      soma rho commit left=left.npy@2:1f0c93ab --tenant acme
    """
    from agents.rho import law, matrices

    if idempotency_key is not None and not 1 <= len(idempotency_key) <= IDEMPOTENCY_MAX:
        raise click.ClickException(f"An idempotency key has 1 to {IDEMPOTENCY_MAX} characters.")
    proposals = [_proposal(text) for text in commits]
    if len({one.key for one in proposals}) < len(proposals):
        raise click.ClickException("A key is there twice.")
    if len(proposals) > matrices.KEYS_MAX:
        raise click.ClickException(f"At most {matrices.KEYS_MAX} matrices are committed at once.")
    prepared = matrices.prepare(_named(tenant), proposals, load().rho.dimension_max)
    if isinstance(prepared, law.InvariantViolation):
        _refuse({"which": prepared.which, "key": prepared.key, "detail": prepared.detail},
                prepared.name, as_json)  # fmt: skip
    done = _asked(lambda one: one.commit(tenant, prepared, idempotency_key))
    match done:
        case law.VersionConflict(key, current, lost):
            more = {"lost": "what it expects isn't there: PostgreSQL went back, or it never was"}
            said = {"key": key, "current": current, **(more if lost else {})}
            _refuse(said, done.name, as_json)
        case law.IdempotencyMismatch():
            _refuse({"idempotency_key": idempotency_key}, done.name, as_json)
        case law.Unavailable(detail):
            raise click.ClickException(detail)
    said = {
        "result": done.ok.name, "tenant": tenant, "versions": done.ok.versions,
        "crcs": done.ok.crcs, "repeated": done.ok.repeated, "cached": done.cached,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(said))
        return
    for key, version in done.ok.versions.items():
        already = " already" if done.ok.repeated else ""
        click.echo(f"{key} is at version {version}{already}, CRC {done.ok.crcs[key]}")
    if not done.cached and not done.ok.repeated:
        click.echo("Redis doesn't have it: readers may see an older version for a while.", err=True)


@rho.command()
@click.argument("key")
@_tenant
@click.option("--min-version", type=click.IntRange(0), default=0, help="An older one won't do.")
@click.option("--out", type=click.Path(path_type=Path), help="A file for it: .npy, .rho or .json.")
@_json
def get(key: str, tenant: str, min_version: int, out: Path | None, as_json: bool) -> None:
    """Read the matrix KEY: its version, and with --out its numbers.

    \b
    Example:
      soma rho get left --tenant acme --out left.npy
    """
    from agents.rho import law
    from agents.rho.envelope import BadEnvelope
    from agents.rho.matrices import Behind

    if out is not None and out.suffix not in SUFFIXES:
        raise click.ClickException(f"--out: a name that ends in {', '.join(SUFFIXES)}")
    try:
        held = _asked(lambda one: one.read(_named(tenant), key, min_version))
    except BadEnvelope as error:
        raise click.ClickException(f"{key} is damaged in PostgreSQL: {error}") from error
    if isinstance(held, Behind):
        there = f"is at version {held.current}" if held.current else "isn't there"
        raise click.ClickException(f"{key} of {tenant} {there}")
    matrix = held.envelope.matrix
    if out is not None:
        _write(held, out)
    said = {
        "tenant": tenant, "key": key, "version": held.envelope.version, "crc": held.crc,
        "source": held.source, "dimension": matrix.shape[0], "trace_error": law.trace_error(matrix),
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(said if out else {**said, "matrix": matrix.tolist()}))
        return
    size = " × ".join(map(str, matrix.shape))
    at = f"version {said['version']}, CRC {held.crc}"
    click.echo(f"{key}: {at}, {size}, from {held.source}")


def _proposal(text: str) -> "Proposal":
    """KEY=FILE@VERSION[:CRC]."""
    import re

    from agents.rho.matrices import EXPECTED_MAX, KEY, Proposal

    key, _, rest = text.partition("=")
    name, _, at = rest.rpartition("@")
    version, colon, crc = at.partition(":")
    fits = re.match(KEY, key) and name and version.isdecimal() and int(version) <= EXPECTED_MAX
    if not fits or (colon and not re.fullmatch(r"[0-9a-f]{8}", crc)):
        raise click.ClickException(
            f"{text[:80]!r}: give KEY=FILE@VERSION or KEY=FILE@VERSION:CRC, as left=left.npy@3"
        )
    return Proposal(key, int(version), _matrix(Path(name)), crc or None)


def _matrix(path: Path) -> "NDArray[np.float64]":
    """The matrix in a file; ClickException if there is none."""
    import numpy as np

    from agents.rho.envelope import BadEnvelope, unpack

    try:
        if path.suffix == ".rho":
            return unpack(path.read_bytes()).matrix
        if path.suffix == ".json":
            given = np.array(json.loads(path.read_text("utf-8")))
            return given.astype(np.float64) if given.dtype == np.int64 else given
        found: NDArray[np.float64] = np.load(path, allow_pickle=False)
    except (BadEnvelope, ValueError, EOFError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise click.ClickException(f"{path}: {why}") from error
    return found


def _write(held: "Held", out: Path) -> None:
    import numpy as np

    if out.suffix == ".rho":
        out.write_bytes(held.data)
    elif out.suffix == ".json":
        out.write_text(json.dumps(held.envelope.matrix.tolist()), "utf-8")
    else:
        np.save(out, held.envelope.matrix)


def _named(tenant: str) -> str:
    from stores.outbox_checks import TENANT

    if not TENANT.fullmatch(tenant):
        raise click.ClickException(f"The tenant {tenant[:60]!r} isn't 1-128 of [A-Za-z0-9._-].")
    return tenant


def _refuse(said: dict[str, Any], result: str, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"result": result, **said}))
        sys.exit(1)
    told = ", ".join(f"{name} {value}" for name, value in said.items())
    raise click.ClickException(f"{result}: {told}; nothing was committed")


def _asked(ask: "Callable[[Matrices], Awaitable[T]]") -> T:
    """What the stores answer; ClickException where they don't."""
    from agents.rho.matrices import opened

    async def asked() -> T:
        async with opened(load(), "soma rho") as one:
            return await ask(one)

    try:
        return asyncio.run(asked())
    except (StoreError, ValueError) as error:
        raise click.ClickException(str(error)) from error
