"""A folder of Rego files, compiled by regopy (rego-cpp) and asked in this process.

regopy 1.5 compiles what OPA refuses: an unknown function or contradicting rules show when a query
is run, a builtin that it lacks is undefined in silence, and some queries end the process. So a
policy is tried out before it is used (`probe`), in a process of its own: a query can't be
interrupted.

This module imports nothing heavy: `python -m agents.policy.rego` is that process, which reads the
modules as JSON.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.policy import ENTRY
from agents.policy.apart import Bundle, Interpreter, LogLevel, RegoError, enter

PACKAGE = ENTRY.replace("/", ".")
UNDEFINED = object()  # what a query gives where nothing is defined
MIB = 1 << 20
SOURCE_BYTES_MAX = MIB  # of a folder
SHOWN = 200  # characters of a sample
NEWLINE = "\n"
DECISION_S_MAX = 0.25  # of CPU time that a sample decision may take
COMPILE_S_MAX = 5.0  # of CPU time, with the start of the process
PROBE_S_MAX = 30.0  # for all of the probe, by the clock

# What isn't a function of the input: OPA's own list (`opa capabilities`, "nondeterministic").
IMPURE = frozenset(
    {
        "http.send", "io.jwt.decode_verify", "io.jwt.encode_sign", "io.jwt.encode_sign_raw",
        "json.match_schema", "json.verify_schema", "net.lookup_ip_addr", "opa.runtime",
        "rand.intn", "time.now_ns", "uuid.rfc4122",
    }
)  # fmt: skip

_ERROR = re.compile(r"\(error (?:\d+:(?P<file>[^|\n]+)\|(?P<at>\d+)\|\d+)?\s*\(errormsg \d+:")
_TEXT = re.compile(r"\(errormsg (\d+):")

_TOKEN = re.compile(r'\["(?P<field>\w+)"\]|"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')
_CALL = re.compile(r"(?<![\w.])([A-Za-z_]\w*(?:\s*\.\s*\w+)*)\(")
_DEFINED = re.compile(r"(?m)^[ \t]*(?:default[ \t]+)?([A-Za-z_]\w*)\(")
_IMPORTED = re.compile(r"(?m)^[ \t]*import[ \t]+(?:\S+[ \t]+as[ \t]+|(?:\w+\.)*)(\w+)[ \t]*$")
_WITH = re.compile(r"\bwith\s+(?:input|data|\w+\.)")
_WORDS = frozenset(
    {"if", "in", "not", "some", "every", "else", "contains", "with", "as", "default", "set"}
)


class PolicyError(Exception):
    """A policy that can't be used; the text names the file and, where known, the line."""


def sources(folder: Path) -> dict[str, str]:
    """Name -> text of the folder's .rego files, tests (`*_test.rego`) and hidden ones left out.

    Raises PolicyError for a folder that isn't there, has none, or holds data files, which would be
    passed over in silence.
    """
    if not folder.is_dir():
        raise PolicyError(f"{folder} is no folder")
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or not path.is_file():
            continue
        if path.suffix in (".json", ".yaml", ".yml"):
            raise PolicyError(f"{name}: data files aren't read; write the data as a Rego rule")
        if path.suffix == ".rego" and not path.stem.endswith("_test"):
            found[name] = _text(path, name)
    if not found:
        raise PolicyError(f"{folder} holds no .rego file besides tests")
    if sum(map(len, found.values())) > SOURCE_BYTES_MAX:
        raise PolicyError(f"{folder}: more than {SOURCE_BYTES_MAX // MIB} MiB of Rego")
    return found


def _text(path: Path, name: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{name}: can't be read as UTF-8 text: {error}") from error
    if not text.strip():
        raise PolicyError(f"{name}:1: the file is empty")
    return text


class Rego:
    """Modules with one entry point. Threads may share it, and don't wait for one another.

    Each query has an interpreter for itself, for one of them serves one thread at a time. regopy
    lets go of Python's lock meanwhile. Interpreters share nothing that changes: rego-cpp counts
    its references atomically, and what it has in common is made when its library is loaded.
    """

    def __init__(self, modules: Mapping[str, str], entry: str = ENTRY) -> None:
        """Raises PolicyError for what regopy sees to be wrong, naming file and line."""
        self.modules = dict(modules)
        self.entry = entry
        # A list's pop and append are whole for threads. Never more than have asked at a time.
        self._idle = [self._compiled()]

    def _compiled(self) -> tuple[Interpreter, Bundle]:
        """One more interpreter: 10 ms and, from the second on, 0.1 MB for the shipped policy."""
        enter()
        interpreter = Interpreter()
        interpreter.log_level = LogLevel.NONE  # it would print to standard output
        for name, text in self.modules.items():
            if "\0" in text:
                raise PolicyError(f"{name}: holds a zero byte")
            self._guard(lambda n=name, t=text: interpreter.add_module(n, t))
        return interpreter, self._guard(lambda: interpreter.build(None, [self.entry]))

    def query(self, document: Mapping[str, Any]) -> object:
        """What the entry point is for this input: JSON data, or UNDEFINED.

        Numbers of the input keep six decimals: regopy writes them so. Raises PolicyError.
        """
        enter()
        try:
            taken = self._idle.pop()
        except IndexError:
            taken = self._compiled()
        try:
            return self._ask(*taken, document)
        finally:
            self._idle.append(taken)

    def _ask(self, interpreter: Interpreter, bundle: Bundle, document: Mapping[str, Any]) -> object:
        interpreter.set_input(dict(document))
        output = self._guard(lambda: interpreter.query_bundle_entrypoint(bundle, self.entry))
        if not output.results:
            raise PolicyError(explain(str(output), self.modules))
        found = output.results[0].expressions
        return found[0] if found else UNDEFINED

    def has(self, builtin: str) -> bool:
        """Whether regopy knows this builtin function."""
        enter()
        return bool(self._idle[0][0].is_builtin(builtin))

    def _guard(self, call: Any) -> Any:
        try:
            return call()
        except RegoError as error:
            raise PolicyError(explain(str(error), self.modules)) from error
        except json.JSONDecodeError as error:  # an error as text, where a result should be
            raise PolicyError(explain(error.doc, self.modules)) from error


def explain(text: str, modules: Mapping[str, str]) -> str:
    """An error of rego-cpp in words: 'integrator.rego:3: this is unclosed'."""
    words = _TEXT.search(text)
    if words is None:
        return "rules contradict each other, or a function gets a wrong number of arguments"
    message = " ".join(
        text[words.end() :].encode()[: int(words[1])].decode(errors="replace").split()
    )
    where = _ERROR.search(text)
    if where is not None and where["file"] in modules:
        line = modules[where["file"]].encode()[: int(where["at"])].count(b"\n") + 1
        return f"{where['file']}:{line}: {message}"
    # Errors of a query carry no place: look for the name that they end with.
    name = re.search(r": (?:\S*\.)?(\w+)$", message)
    return f"{_place(name[1], modules)}{message}" if name else message


def _place(word: str, modules: Mapping[str, str]) -> str:
    """'file:line: ' of a word's first use; empty if it isn't there."""
    for name, text in modules.items():
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(rf"\b{re.escape(word)}\b", line.partition("#")[0]):
                return f"{name}:{number}: "
    return ""


def check_calls(rego: Rego) -> None:
    """Refuse what a fold may not call, and what regopy would leave undefined without a word.

    By the text: a Rego function is always called by its name.
    """
    code = {name: _code(text) for name, text in rego.modules.items()}
    own = {word for text in code.values() for word in _DEFINED.findall(text)}
    for name, text in code.items():
        imported = set(_IMPORTED.findall(text)) | {"data", "input"}
        if found := _WITH.search(text):
            line = text.count(NEWLINE, 0, found.start()) + 1
            raise PolicyError(f"{name}:{line}: `with` crashes the embedded Rego: pass arguments")
        for call in _CALL.finditer(text):
            place = f"{name}:{text.count(NEWLINE, 0, call.start()) + 1}"
            called = re.sub(r"\s", "", call[1])
            first = called.partition(".")[0]
            if called in own or called in _WORDS or first in imported:
                continue
            if called in IMPURE:
                raise PolicyError(
                    f"{place}: {called} is no function of the input: a rebuild would decide "
                    "otherwise. A policy that needs it belongs into an OPA (SOMA_OPA_URL)"
                )
            if not rego.has(called):
                raise PolicyError(f"{place}: the embedded Rego has no function {called}")


def _code(text: str) -> str:
    """Rego without its comments and strings; a["b"] becomes a.b. Lines stay where they are."""

    def blank(token: re.Match[str]) -> str:
        if token["field"]:
            return f".{token['field']}"
        return '""' + NEWLINE * token[0].count(NEWLINE)

    return _TOKEN.sub(blank, text)


def samples() -> list[dict[str, Any]]:
    """Inputs that a policy is tried out with: few and many domains, a clear and a close leader."""
    found = []
    for names in (("state",), ("state", "agent", "action"), tuple(f"d{k}" for k in range(16))):
        for tenant, shares in (("probe", [1.0] * len(names)), ("t.1", range(1, len(names) + 1))):
            weights = {n: round(s / sum(shares), 6) for n, s in zip(names, shares, strict=True)}
            candidate = {"leader": names[-1], "weights": weights}
            found.append({"tenant": tenant, "candidate": candidate})
    return found


def probe(
    modules: Mapping[str, str], within_s: float = PROBE_S_MAX
) -> list[tuple[dict[str, Any], object]]:
    """Compile modules and ask them the samples, in a child; returns (input, result) of each.

    Raises PolicyError: they don't compile, can't be evaluated, are no pure function, or take longer
    than COMPILE_S_MAX, or DECISION_S_MAX for a decision. Longer ones couldn't be cut short once the
    worker runs. TimeoutError where the child wasn't done `within_s`, by the clock.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).resolve().parents[2],
            input=json.dumps(dict(modules)),
            capture_output=True,
            text=True,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it couldn't be tried out within {within_s:g} s") from None
    if done.returncode == -signal.SIGPROF:
        if not done.stdout:
            raise PolicyError(f"compiling it takes longer than {COMPILE_S_MAX:g} s")
        raise PolicyError(
            f"a decision takes longer than {DECISION_S_MAX * 1000:g} ms "
            f"(on the sample {done.stdout.splitlines()[-1][:SHOWN]})"
        )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise PolicyError(f"the embedded Rego crashes on it ({name})")
    if done.returncode != 0:
        raise PolicyError(
            (done.stderr.strip() or "the child that tries it out died").splitlines()[-1]
        )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        (asked, told[0] if told else UNDEFINED)
        for asked, told in zip(lines[::2], lines[1::2], strict=True)
    ]


def _child(modules: Mapping[str, str]) -> None:
    """Print each sample and its result, in turn; the timer's signal ends the process."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, COMPILE_S_MAX)
    rego = Rego(modules)
    check_calls(rego)
    for document in samples():
        print(json.dumps(document), flush=True)
        signal.setitimer(signal.ITIMER_PROF, DECISION_S_MAX)
        found = rego.query(document)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        print(json.dumps([] if found is UNDEFINED else [found]), flush=True)


if __name__ == "__main__":
    try:
        _child(json.load(sys.stdin))
    except PolicyError as error:
        sys.exit(str(error))
