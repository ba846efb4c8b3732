"""A stranger's JMESPath expression, asked of records within bounds of what it may cost.

A short expression may double a list at each of its steps, or map a map: of an expression the words
are bounded, and of its evaluation the steps and the values that it makes, by what it is asked of.
"""

from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import (
    ArityError,
    JMESPathError,
    LexerError,
    ParseError,
    UnknownFunctionError,
)
from jmespath.lexer import Lexer
from jmespath.visitor import TreeInterpreter

from agents.replay.words import line_of

PREDICATE_MAX = 1_000  # characters
WORDS_MAX = 200  # of the language: each takes three calls at most, of the 1,000 that Python nests
STEPS_MAX = 10_000  # beside those for each byte of a record: some ms
STEPS_PER_BYTE = 8
CHARS_PER_STEP = 16  # of a text that an expression makes
# Nodes that make values of others; the rest hands on what is there.
MAKING = frozenset(
    ("multi_select_list", "multi_select_dict", "flatten", "function_expression")
)  # fmt: skip
WRONG = (UnknownFunctionError, ArityError, ParseError, LexerError)  # whatever it is asked of


class PredicateError(ValueError):
    """What is wrong with an expression, or with what it was asked of."""


class Predicate:
    """An expression that reads well. For several threads."""

    def __init__(self, text: str) -> None:
        """PredicateError."""
        if len(text) > PREDICATE_MAX:
            raise PredicateError(f"{len(text)} characters, at most {PREDICATE_MAX}")
        try:
            words = sum(1 for _ in Lexer().tokenize(text)) - 1  # the end is one
            if words > WORDS_MAX:
                raise PredicateError(f"{words} words, at most {WORDS_MAX}")
            self._tree = jmespath.compile(text).parsed
        except PredicateError:
            raise
        except Exception as error:  # whatever a text can make of its parser
            raise PredicateError(line_of(error)) from error

    def holds(self, record: Any, size: int) -> bool:
        """Whether it is true of a record of so many bytes. PredicateError."""
        try:
            return self._asked(record, size) is True
        except PredicateError:
            raise
        except Exception as error:  # whatever an expression can make of a record
            raise PredicateError(line_of(error)) from error

    def wrong(self) -> str | None:
        """Why it can't be asked of any record, as far as one without fields tells."""
        try:
            self._asked({}, 0)
        except WRONG as error:
            return line_of(error)
        except JMESPathError:
            return None  # of a field that isn't there, which a record may have
        except Exception as error:  # as of a record
            return line_of(error)
        return None

    def _asked(self, record: Any, size: int) -> Any:
        return _Bounded(STEPS_MAX + STEPS_PER_BYTE * size).visit(self._tree, record)


class _Bounded(TreeInterpreter):  # type: ignore[misc]
    """Counts what it does, and ends where that is too much."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = self._most = steps

    def visit(self, node: dict[str, Any], *args: Any, **more: Any) -> Any:
        """One node; its like of JMESPath's own, in as few calls."""
        self._left -= 1
        kind = node["type"]
        found = getattr(self, f"visit_{kind}")(node, *args, **more)
        if kind in MAKING:
            self._weigh(found)
        elif self._left < 0:
            self._end()
        return found

    def visit_function_expression(self, node: dict[str, Any], value: Any) -> Any:
        """As JMESPath's own; what `join` makes is known before it is made."""
        given = [self.visit(child, value) for child in node["children"]]
        if node["value"] == "join" and [type(one) for one in given] == [str, list]:
            self._left -= len(given[0]) * len(given[1]) // CHARS_PER_STEP
            if self._left < 0:
                self._end()
        return self._functions.call_function(node["value"], given)

    def _weigh(self, value: Any) -> None:
        """Count the values in a value, each as often as it stands there."""
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                self._left -= len(one) // CHARS_PER_STEP
            elif isinstance(one, list | dict):
                self._left -= len(one)
            if self._left < 0:
                self._end()
            if isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                waiting += one.values()

    def _end(self) -> None:
        raise PredicateError(f"it takes more than {self._most:,} steps")


@lru_cache(maxsize=64)
def predicate_of(text: str) -> Predicate | None:
    """An expression, ready to be asked; None for an empty one. PredicateError."""
    return Predicate(text) if text else None
