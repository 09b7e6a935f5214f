"""What the message types promise, for machines: JSON Schema and AsyncAPI; and the docs of their fields."""

from __future__ import annotations

import ast
import inspect
from enum import IntEnum
from functools import cache
from typing import Any

import msgspec

from . import infos, messages
from .codec import JSON, MAX_CLIENT_FRAME_BYTES, MSGPACK, SUBPROTOCOLS
from .examples import FROM_CLIENT, FROM_SERVER
from .messages import NO_RETRY, VERSIONS, ClientMessage, CloseCode, ErrorCode, Message, ServerMessage

CLIENT_TYPES: tuple[type[Message], ...] = ClientMessage.__args__
SERVER_TYPES: tuple[type[Message], ...] = ServerMessage.__args__
Json = dict[str, Any]


@cache
def docs_of_fields(name: str) -> dict[str, str]:
    """Return what stands below each field (or member) of a class of `messages` or `infos`.

    >>> docs_of_fields("Counters")
    {'values': 'Numbers by name.'}
    """
    (found,) = [
        node
        for module in (messages, infos)
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    docs = {}
    for line, below in zip(found.body, found.body[1:], strict=False):
        target = line.target if isinstance(line, ast.AnnAssign) else None
        target = line.targets[0] if isinstance(line, ast.Assign) else target
        if isinstance(target, ast.Name) and isinstance(below, ast.Expr):
            docs[target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return docs


def tag_of(kind: type[msgspec.Struct]) -> str:
    """Return what the `type` of a message says.

    >>> tag_of(messages.RecallScene)
    'recall_scene'
    """
    return str(kind.__struct_config__.tag)


def codes(kind: type[IntEnum]) -> list[Json]:
    """Return number, name and meaning of codes."""
    docs = docs_of_fields(kind.__name__)
    return [{"code": c.value, "name": c.name.lower(), "meaning": docs.get(c.name, "")} for c in kind]


def schemas(ref_template: str) -> Json:
    """Return the JSON Schema of each type by name, with the docs of their fields."""
    _, found = msgspec.json.schema_components([ClientMessage, ServerMessage], ref_template=ref_template)
    for name, schema in found.items():
        docs = docs_of_fields(name)
        for at, field in schema["properties"].items():
            if at in docs:
                field["description"] = docs[at]
    return found


def json_schema() -> Json:
    """Return one JSON Schema (2020-12) that every frame fulfils, and each side's in its `$defs`."""
    template = "#/$defs/{name}"
    sides = {
        "ClientMessage": ("What a client sends.", CLIENT_TYPES),
        "ServerMessage": ("What a server sends.", SERVER_TYPES),
    }
    unions = {
        name: {"description": said, "oneOf": [{"$ref": template.format(name=k.__name__)} for k in kinds]}
        for name, (said, kinds) in sides.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Messages of {JSON}",
        "oneOf": [{"$ref": template.format(name=name)} for name in unions],
        "$defs": unions | schemas(template),
    }


def asyncapi() -> Json:
    """Return the AsyncAPI 3.0 document, from the view of the server: it receives what clients send."""
    examples = {type(m): msgspec.to_builtins(m) for m in (*FROM_CLIENT, *FROM_SERVER)}
    names = {kind: tag_of(kind) for kind in CLIENT_TYPES + SERVER_TYPES}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stemrack control",
            "version": str(VERSIONS[1]),
            "description": f"Remote control of a stemrack node by websocket: `{JSON}` with JSON text frames, "
            f"`{MSGPACK}` with the same messages as MessagePack in binary frames.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "node": {
                "host": "localhost:8137",
                "protocol": "ws",
                "description": "A node, as it listens by default; wss where it has a certificate.",
            }
        },
        "channels": {"control": _channel(names)},
        "operations": {
            "fromClient": _operation("receive", "What clients send.", CLIENT_TYPES),
            "toClient": _operation("send", "What the node sends.", SERVER_TYPES),
        },
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "title": kind.__name__,
                    "summary": inspect.cleandoc(kind.__doc__ or ""),
                    "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
                    "examples": [{"payload": examples[kind]}],
                }
                for kind, name in names.items()
            },
            "schemas": schemas("#/components/schemas/{name}"),
        },
        "x-error-codes": codes(ErrorCode),
        "x-close-codes": [
            row | {"mayTryAgain": row["code"] not in {int(c) for c in NO_RETRY}} for row in codes(CloseCode)
        ],
        "x-largest-client-frame-bytes": MAX_CLIENT_FRAME_BYTES,
    }


def _channel(names: dict[type[Message], str]) -> Json:
    wanted = {"type": "string", "enum": list(SUBPROTOCOLS), "description": "The encoding of the frames."}
    return {
        "address": "/",
        "description": "One connection. The server speaks first, with hello.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names.values()},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {"Sec-WebSocket-Protocol": wanted},
                    "required": ["Sec-WebSocket-Protocol"],
                },
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operation(action: str, summary: str, kinds: tuple[type[Message], ...]) -> Json:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/control"},
        "messages": [{"$ref": f"#/channels/control/messages/{tag_of(kind)}"} for kind in kinds],
    }
