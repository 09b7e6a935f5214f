"""Writes the protocol's documents from its types: `python -m stemrack.rt.control.documentation docs`."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from ...models.stems import STEMS
from ..chains import MAX_INSERTS
from .board import FRAME_CHANGES, HISTORY
from .chain_table import insert_parameters
from .codec import JSON, MAX_CLIENT_FRAME_BYTES, MSGPACK, Codec
from .examples import EPOCH, FROM_CLIENT, FROM_SERVER, HELLO, SNAPSHOT, TOKEN, VOCALS
from .messages import (
    NO_RETRY,
    VERSIONS,
    CloseCode,
    Delta,
    Deltas,
    EffectInfo,
    ErrorCode,
    Identify,
    Message,
    ParameterInfo,
    Reply,
    Resume,
    Set,
    Subscriptions,
    Welcome,
)
from .protocol import (
    DESCRIBE_PRICE,
    EFFECTS_PRICE,
    ERRORS_IN_A_ROW,
    IDENTIFY_LIMIT_S,
    REFUSALS_IN_A_ROW,
    REQUESTS_BURST,
    REQUESTS_PER_S,
    WAITING_EVENTS,
    WAITING_REPLIES,
)
from .scenes import MAX_SCENES
from .schema import asyncapi, codes, docs_of_fields, json_schema, tag_of
from .server import MAX_CLIENTS, MAX_STRANGERS, PACK_S, SEND_LIMIT_S
from .table import SILENT_DB, Parameter, mixer_parameters, node_parameters

PARTS = (Subscriptions, Resume, Delta, ParameterInfo, EffectInfo)
_PLAIN = {
    types.BoolType: "true or false",
    types.IntType: "whole number",
    types.FloatType: "number",
    types.StrType: "text",
    types.NoneType: "null",
}
_TEXT = Codec(JSON)


def documents() -> dict[str, str]:
    """Return the text of each document by file name."""
    return {
        "protocol.md": protocol_page(),
        "protocol.schema.json": _json(json_schema()),
        "asyncapi.json": _json(asyncapi()),
    }


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def protocol_page() -> str:
    """Return the page that people read, as Markdown."""
    parts = [
        _introduction(),
        _walk_through(),
        RULES,
        "## Messages from a client",
        *map(_message, FROM_CLIENT),
        "## Messages from a server",
        *map(_message, FROM_SERVER),
        "## Objects within messages",
        *(_section(kind.__name__, kind) for kind in PARTS),
        _parameters(),
        _codes(),
        _limits(),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction() -> str:
    return f"""# Protocol `{JSON}`

<!-- Generated from rt/control/messages.py by `make docs`: change that file, not this one. -->

A node is controlled by websocket, at `ws://localhost:8137/` unless it was told otherwise (`wss` where it has
a certificate). A client asks for one of two subprotocols: `{JSON}` sends each message as one JSON text
frame, `{MSGPACK}` sends the same messages as MessagePack in binary frames. A message is an object whose
`type` names it. Machines read [protocol.schema.json](protocol.schema.json) (JSON Schema) and
[asyncapi.json](asyncapi.json) (AsyncAPI 3.0) instead of this page."""


def _walk_through() -> str:
    newest = VERSIONS[1]
    first = [
        ("node", HELLO),
        ("client", Identify(versions=VERSIONS, client="phone", token=TOKEN)),
        ("node", Welcome(version=newest, client_id="c7", role="operator", revision=42, resumed=False)),
        ("node", SNAPSHOT),
        ("client", Set(id=1, path=VOCALS, value=-6.0)),
        ("node", Deltas(changes=(Delta(revision=43, origin="c7", values={VOCALS: -6.0}),))),
        ("node", Reply(id=1, revision=43, values={VOCALS: -6.0})),
    ]
    again = [
        ("node", HELLO),
        ("client", Identify(versions=VERSIONS, token=TOKEN, resume=Resume(epoch=EPOCH, revision=43))),
        ("node", Welcome(version=newest, client_id="c9", role="operator", revision=44, resumed=True)),
        ("node", Deltas(changes=(Delta(revision=44, origin="c8", values={VOCALS: -9.0}),))),
    ]
    return f"""## A conversation

The node speaks first. The client identifies itself, hears who it is, and gets the whole state (shortened
here). It moves a fader: everybody hears of the change, then the client gets its reply.

{_lines(first)}

The connection breaks, somebody else moves the fader, and the client comes back. It says up to where it
knows the state, and gets only what it missed; if that is too long ago, or the node was started anew (another
`epoch`), it gets a snapshot.

{_lines(again)}"""


def _lines(said: Iterable[tuple[str, Message]]) -> str:
    lines = "\n".join(f"{who + ':':7} {_TEXT.encode(message)}" for who, message in said)
    return f"```text\n{lines}\n```"


RULES = f"""## Rules

- **State and revisions.** The state is one object of values by path. Every change of it has the next
  `revision` and reaches every client, in order and without a gap, with the `origin` that made it. Changes
  of about {PACK_S * 1000:g} ms travel in one `deltas` frame. State is never dropped: who cannot take it is
  cut off (close code {int(CloseCode.TOO_SLOW)}) and may come back with `resume`.
- **Replies.** Each request is answered once, with its `id`, by `reply`, `described` or `error`; the deltas
  that a reply speaks of come before it. A change of device, profile or recording is answered when it is
  done, so later requests may be answered earlier.
- **Values in force.** A reply carries the values in force, which may differ from what was asked for (`adjust`
  stops at the limits).
- **Ramps.** `ramp_ms` is how long the sound takes to get there; the state has the new value at once. A new
  request for the same fader ends its ramp; other faders' ramps go on.
- **Chains.** `stem/S/chain` names the effects before a fader, first to last: `highpass_filter reverb`;
  a second one of a kind has a number, `reverb-2`. A chain takes {MAX_INSERTS} effects. To set it is to add,
  remove and reorder: what it still names keeps its values. What an insert has is there, in the same delta,
  at `stem/S/fx/INSERT/PARAMETER`, and may be set, adjusted, batched and bound like a fader; when an insert
  goes, its paths go (null in a delta). Ask `describe` again when a chain changed; its `effects` are what a
  chain can hold. The sound follows with a cross-fade of the node's own. An insert that fails is bypassed by
  the node, which tells it as a change with origin `node` and as an event.
- **Scenes** hold the faders and the chains. Those that `presets` lists too came with the node: they are
  recalled like any other, and never stored over or deleted.
- **Silence.** A gain of {SILENT_DB:g} dB is silence. No number is NaN or infinite.
- **Faders.** Keep one `set` in flight and the newest value after it: what comes faster than
  {REQUESTS_PER_S:g} requests a second is refused.
- **Unknown fields.** In a client's message they are an error, so that a slip of the pen is told; clients
  ignore fields that they do not know.
- **Roles.** A *viewer* reads, an *operator* moves faders, records, stores scenes and binds MIDI controls, an
  *admin* changes devices and profile as well. The token says which.
- **Trying again.** Wait a little longer each time; after {" and ".join(str(int(c)) for c in NO_RETRY)} do
  not try again, they do not pass by themselves."""


def _message(example: Message) -> str:
    kind = type(example)
    return f"{_section(f'`{tag_of(kind)}`', kind)}\n\n```json\n{_TEXT.encode(example)}\n```"


def _section(title: str, kind: type) -> str:
    described = types.type_info(kind)
    assert isinstance(described, types.StructType)
    docs = docs_of_fields(kind.__name__)
    rows = []
    for field in described.fields:
        said = docs.get(field.name) or _meta_of(field.type)
        rows.append((f"`{field.name}`", _type_text(field.type), _default_of(field), said))
    table = _table(("Field", "Type", "Default", "Meaning"), rows)
    return f"### {title}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n\n{table}"


def _default_of(field: types.Field) -> str:
    if field.required:
        return "needed"
    if field.default is None:
        return "none"
    return f"`{json.dumps(msgspec.to_builtins(_made_default(field)))}`"


def _made_default(field: types.Field) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _meta_of(kind: types.Type) -> str:
    """Return what an annotation says of a field, also where the field may be left out."""
    if isinstance(kind, types.UnionType):
        return " ".join(t for t in map(_meta_of, kind.types) if t)
    if isinstance(kind, types.Metadata):
        return (kind.extra_json_schema or {}).get("description", "")
    return ""


def _type_text(kind: types.Type) -> str:
    """Return a type and its limits in words."""
    if isinstance(kind, types.Metadata):
        return _type_text(kind.type)
    if isinstance(kind, types.StructType):
        return (
            f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})" if kind.cls in PARTS else _tag_link(kind)
        )
    if isinstance(kind, types.UnionType):
        is_value = len(kind.types) > 2 and any(isinstance(t, types.BoolType) for t in kind.types)
        told = [t for t in kind.types if is_value or not isinstance(t, types.NoneType)]
        return " or ".join(map(_type_text, told))
    if isinstance(kind, types.VarTupleType):
        inner = f"list of {_type_text(kind.item_type)}"
        return inner + _limits_text(kind.min_length, kind.max_length, " items")
    if isinstance(kind, types.TupleType):
        return f"list of {len(kind.item_types)}: {', '.join(_type_text(t) for t in kind.item_types)}"
    if isinstance(kind, types.DictType):
        return f"object of {_type_text(kind.value_type)} by name"
    if isinstance(kind, types.StrType):
        return "text" + _limits_text(kind.min_length, kind.max_length, " characters")
    text = _PLAIN[type(kind)]
    return (
        text + _limits_text(kind.ge, kind.le) if isinstance(kind, types.IntType | types.FloatType) else text
    )


def _tag_link(kind: types.StructType) -> str:
    tag = tag_of(kind.cls)
    return f"[{tag}](#{tag})"


def _limits_text(lowest: float | None, highest: float | None, unit: str = "") -> str:
    if lowest is None and highest is None:
        return ""
    if lowest is None:
        return f", at most {highest}{unit}"
    return f", {lowest} to {highest}{unit}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines)


def _parameters() -> str:
    insert = insert_parameters("stem/<stem>/fx/<insert>")
    rows = [_parameter_row(p) for p in mixer_parameters(("<stem>",)) + insert + node_parameters()]
    head = ("Path", "Kind", "Range", "Default", "Ramp", "Set by", "Meaning")
    return f"""## Parameters

`<stem>` is one of {", ".join(STEMS)}, `<insert>` one that its chain names now. What can be chosen, each
node's own ramps, and the parameters of the effects in the chains are told by `describe`.

{_table(head, rows)}"""


def _parameter_row(parameter: Parameter) -> tuple[str, ...]:
    info = parameter.info
    ramp = "at once" if info.ramp_ms is None else f"{info.ramp_ms:g} ms"
    limits = f"{info.lowest:g} to {info.highest:g} {info.unit}" if info.highest is not None else info.unit
    return (
        f"`{info.path}`",
        info.kind,
        limits,
        f"`{json.dumps(info.default)}`",
        ramp if info.role else "",
        info.role or "the node",
        info.doc.replace("<", "`<").replace(">", ">`"),
    )


def _codes() -> str:
    errors = [(str(c["code"]), f"`{c['name']}`", c["meaning"]) for c in codes(ErrorCode)]
    closings = [(str(c["code"]), f"`{c['name']}`", c["meaning"]) for c in codes(CloseCode)]
    return f"""## Error codes

The hundreds say whose matter it is: 1 the frame, 2 who asks, 3 the request, 4 the node, 5 the rate.

{_table(("Code", "Name", "Meaning"), errors)}

## Close codes

Beside those of RFC 6455.

{_table(("Code", "Name", "Meaning"), closings)}"""


def _limits() -> str:
    rows = [
        ("Frame of a client", f"{MAX_CLIENT_FRAME_BYTES} bytes", "closed with 1009"),
        ("Time to identify", f"{IDENTIFY_LIMIT_S:g} s", _close(CloseCode.NOT_IDENTIFIED_IN_TIME)),
        (
            "Requests",
            f"{REQUESTS_PER_S:g} a second, {REQUESTS_BURST:g} at once; a batch counts as its requests, "
            f"`describe` as {DESCRIBE_PRICE}, with the effects as {EFFECTS_PRICE}",
            f"error {int(ErrorCode.TOO_MANY_REQUESTS)}; after {REFUSALS_IN_A_ROW} of them in a row "
            f"{_close(CloseCode.TOO_MANY_REQUESTS)}",
        ),
        ("Bad frames or requests in a row", str(ERRORS_IN_A_ROW), _close(CloseCode.TOO_MANY_ERRORS)),
        ("Answers that wait to be read", str(WAITING_REPLIES), _close(CloseCode.TOO_SLOW)),
        ("Time without reading anything", f"{SEND_LIMIT_S:g} s", _close(CloseCode.TOO_SLOW)),
        ("Changes that can be caught up with", str(HISTORY), "a snapshot follows `welcome`"),
        ("Changes in one frame", str(FRAME_CHANGES), "several frames"),
        ("Events that wait to be read", str(WAITING_EVENTS), "the oldest are dropped"),
        ("Clients", str(MAX_CLIENTS), _close(CloseCode.TOO_MANY_CLIENTS)),
        ("Connections that have not identified", str(MAX_STRANGERS), "the oldest is dropped"),
        ("Scenes", str(MAX_SCENES), f"error {int(ErrorCode.TOO_MANY_SCENES)}"),
    ]
    return f"## Limits\n\n{_table(('What', 'Limit', 'Beyond it'), rows)}"


def _close(code: CloseCode) -> str:
    return f"closed with {int(code)}"


def main(arguments: list[str]) -> int:
    """Return 0 after the documents were written into the folder that is named."""
    if len(arguments) != 1:
        print("usage: python -m stemrack.rt.control.documentation FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
