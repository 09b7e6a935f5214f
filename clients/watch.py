"""What `stemrack ctl watch` and `describe` print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import msgspec

from ..rt.control.messages import Delta, ErrorCode, ParameterInfo, Snapshot, Value
from .errors import RequestRefused
from .session import Session
from .words import shown

NOBODY = "-"
"""Origin of what was there before."""


async def watch(session: Session, patterns: tuple[str, ...], *, as_json: bool, count: int | None) -> None:
    """Print the values that match, then each change of them, a line each; `count` lines at most.

    After a restart of the node all matching values are printed again.
    """
    changes = session.changes()
    first = session.snapshot()
    n_left = count or 0
    for line in _lines(first, patterns, as_json):
        print(line, flush=True)
        if (n_left := n_left - 1) == 0:
            return
    async for change in changes:
        for line in _lines(change, patterns, as_json):
            print(line, flush=True)
            if (n_left := n_left - 1) == 0:
                return


def _lines(change: Delta | Snapshot, patterns: tuple[str, ...], as_json: bool) -> Iterator[str]:
    values = {p: v for p, v in change.values.items() if any(fnmatchcase(p, one) for one in patterns)}
    origin = change.origin if isinstance(change, Delta) else NOBODY
    if as_json and values:
        yield json.dumps({"revision": change.revision, "origin": origin, "values": values})
    elif not as_json:
        for path, value in values.items():
            yield f"{change.revision} {origin} {path} = {_said(value)}"


def _said(value: Value) -> str:
    return "(gone)" if value is None else shown(value)


def print_table(table: Mapping[str, ParameterInfo], paths: list[str], *, as_json: bool) -> None:
    """Print parameters, all or those named.  Raises: RequestRefused for one that is not there."""
    for path in paths:
        if path not in table:
            said = f"there is no parameter '{path}': leave it out to see all"
            raise RequestRefused(ErrorCode.UNKNOWN_PATH, "unknown_path", path, said)
    rows = [table[p] for p in paths] if paths else list(table.values())
    if as_json:
        print(msgspec.json.encode(rows).decode())
    else:
        print("".join(f"{_row_text(row)}\n" for row in rows), end="")


def _row_text(row: ParameterInfo) -> str:
    if row.kind == "number" and row.lowest is not None and row.highest is not None:
        range_said = f"{row.lowest:g} to {row.highest:g} {row.unit}".rstrip()
    elif row.kind == "choice":
        range_said = " | ".join(row.choices)
    else:
        range_said = {"switch": "on | off"}.get(row.kind, row.unit or row.kind)
    return f"{row.path}: {range_said}; {row.doc}"
