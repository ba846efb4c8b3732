"""Rows of a CSV file or of JSON lines, one at a time.

A row that can't be read is yielded with what is wrong with it, and reading goes on behind it:
whoever wants to stops there.
"""

import csv
from collections.abc import Iterator
from typing import Any

from agents.tools.source import BadLineError, Row, Source
from topics import strictjson

COLUMNS_MAX = 4_096  # that become domains, each of its own


def csv_rows(source: Source, delimiter: str = ",") -> Iterator[Row[list[str]]]:
    """Rows of CSV (RFC 4180), the header among them; empty lines are left out, but counted."""
    spaced = delimiter == " "  # then several are one
    reader = csv.reader(source, delimiter=delimiter, strict=True, skipinitialspace=spaced)
    while True:
        source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if source.waiting or ("unexpected end" in str(error) and source.wait()):
                return
            yield Row(source.row, [], f"not CSV: {error}")
        except BadLineError as error:
            yield Row(source.row, [], str(error))
        else:
            if cells and not (len(cells) == 1 and cells[0].isspace()):
                yield Row(source.row, cells)
            else:
                source.blank += 1


def json_rows(source: Source) -> Iterator[Row[dict[str, Any]]]:
    """Objects of JSON lines; empty lines are left out, but counted."""
    while True:
        source.begin()
        line = source.row
        try:
            text = next(source)
            if not text.strip():
                source.blank += 1
                continue
            data = strictjson.parse(text)
        except StopIteration:
            return
        except (BadLineError, strictjson.NotJsonError) as error:
            yield Row(line, {}, str(error))
        else:
            if isinstance(data, dict):
                yield Row(line, data)
            else:
                yield Row(line, {}, f"a JSON object is wanted, not a {type(data).__name__}")
