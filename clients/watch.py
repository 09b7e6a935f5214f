"""What `stemrack ctl watch`, `describe`, `chain` and `effects` print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import msgspec

from ..rt.control.messages import Delta, EffectInfo, ErrorCode, ParameterInfo, Snapshot, Value
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


def print_chains(
    table: Mapping[str, ParameterInfo], values: Mapping[str, Value], stem: str, *, as_json: bool
) -> None:
    """Print a stem's chain and all that its inserts have, or the chains of all.

    Raises: RequestRefused if there is no such stem.
    """
    stems = [path.split("/")[1] for path in table if path.endswith("/chain")]
    if stem and stem not in stems:
        said = f"there is no stem '{stem}', but {', '.join(stems)}"
        raise RequestRefused(ErrorCode.UNKNOWN_PATH, "unknown_path", f"stem/{stem}/chain", said)
    of_chains = [
        path
        for one in ([stem] if stem else stems)
        for path in table
        if path == f"stem/{one}/chain" or path.startswith(f"stem/{one}/fx/")
    ]
    rows = [table[path] for path in of_chains if path in values]
    if as_json:
        print(json.dumps({row.path: values[row.path] for row in rows}))
        return
    for row in rows:
        if row.kind == "text":
            print(f"{row.path} = {shown(values[row.path])}")
        else:
            now = shown(values[row.path], row.unit)
            print(f"  {row.path} = {now} ({_range_text(row)}); {row.doc}")


def print_effects(effects: Mapping[str, EffectInfo], keys: list[str], *, as_json: bool) -> None:
    """Print what can be put into a chain; those named with all they have.  Raises: RequestRefused."""
    for key in keys:
        if key not in effects:
            said = f"there is no effect '{key}': leave it out to see all"
            raise RequestRefused(ErrorCode.UNKNOWN_PATH, "unknown_path", key, said)
    rows = [effects[key] for key in keys or effects]
    if as_json:
        print(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        print(f"{row.key}: {row.doc}")
        for parameter in row.parameters if keys else ():
            default = shown(parameter.default, parameter.unit)
            print(f"  {parameter.path} = {default} ({_range_text(parameter)}); {parameter.doc}")


def _row_text(row: ParameterInfo) -> str:
    return f"{row.path}: {_range_text(row)}; {row.doc}"


def _range_text(row: ParameterInfo) -> str:
    if row.kind == "number" and row.lowest is not None and row.highest is not None:
        return f"{row.lowest:g} to {row.highest:g} {row.unit}".rstrip()
    if row.kind == "choice":
        return " | ".join(row.choices)
    return {"switch": "on | off"}.get(row.kind, row.unit or row.kind)
