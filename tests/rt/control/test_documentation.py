"""The documents in docs/ are what the code generates, and what they promise holds for real messages."""

import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
from control_frames import CLIENT_TYPES, SERVER_TYPES, client_messages, server_messages
from control_node import plain_table
from hypothesis import given, settings

from stemrack.models.stems import STEMS
from stemrack.rt.control import documentation, schema
from stemrack.rt.control.codec import JSON, Codec
from stemrack.rt.control.examples import FROM_CLIENT, FROM_SERVER
from stemrack.rt.control.messages import CloseCode, ErrorCode, Event, Ping, Set

DOCS = Path(__file__).resolve().parents[3] / "docs"
SCHEMA = schema.json_schema()
ASYNCAPI = schema.asyncapi()
PAGE = documentation.protocol_page()
TEXT = Codec(JSON)
ANY = jsonschema.Draft202012Validator(SCHEMA)


def validator(name):
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


def references(content):
    """Return every $ref in a document."""
    if isinstance(content, dict):
        found = [content["$ref"]] if isinstance(content.get("$ref"), str) else []
        return found + [r for value in content.values() for r in references(value)]
    return [r for value in content for r in references(value)] if isinstance(content, list) else []


def resolved(document, reference):
    at = document
    for part in reference.removeprefix("#/").split("/"):
        at = at[part]
    return at


# -- drift ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["protocol.md", "protocol.schema.json", "asyncapi.json"])
def test_the_documents_are_what_the_code_generates(name):
    kept = (DOCS / name).read_text(encoding="utf-8")
    assert kept == documentation.documents()[name], "run `make docs`"


def test_the_command_writes_them(tmp_path):
    assert documentation.main([str(tmp_path / "docs")]) == 0
    assert sorted(p.name for p in (tmp_path / "docs").iterdir()) == sorted(documentation.documents())


def test_the_command_asks_for_a_folder(capsys):
    assert documentation.main([]) == 2
    assert "usage: python -m stemrack.rt.control.documentation FOLDER" in capsys.readouterr().err


# -- the schema ----------------------------------------------------------------------------------------------


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for reference in references(SCHEMA):
        assert resolved(SCHEMA, reference)["description"]


@pytest.mark.parametrize("side", [FROM_CLIENT, FROM_SERVER], ids=["client", "server"])
def test_there_is_an_example_of_each_message(side):
    assert tuple(type(m) for m in side) in (CLIENT_TYPES, SERVER_TYPES)


@pytest.mark.parametrize("message", FROM_CLIENT + FROM_SERVER, ids=lambda m: type(m).__name__)
def test_examples_fulfil_the_schema(message):
    content = json.loads(TEXT.encode(message))
    ANY.validate(content)
    validator(type(message).__name__).validate(content)
    other = "ServerMessage" if message in FROM_CLIENT else "ClientMessage"
    assert not validator(other).is_valid(content)


@settings(max_examples=200)
@given(client_messages)
def test_every_message_of_a_client_fulfils_the_schema(message):
    validator("ClientMessage").validate(json.loads(TEXT.encode(message)))


@settings(max_examples=200)
@given(server_messages)
def test_every_message_of_a_server_fulfils_the_schema(message):
    validator("ServerMessage").validate(json.loads(TEXT.encode(message)))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "nope"},
        {"type": "ping"},
        {"type": "ping", "id": -1},
        {"type": "ping", "id": 1, "x": 1},
        {"type": "set", "path": "a", "value": []},
        {"type": "batch", "id": 1, "requests": []},
        {"type": "batch", "id": 1, "requests": [{"type": "ping", "id": 1}]},
        {"type": "subscribe", "id": 1, "subscribe": {"meters_hz": 61}},
        {"type": "store_scene", "id": 1, "name": "x" * 65},
        {"type": "identify", "versions": [1]},
    ],
)
def test_the_schema_refuses_what_the_codec_refuses(content):
    assert not ANY.is_valid(content)


def test_fields_carry_what_stands_below_them():
    fields = SCHEMA["$defs"]["Event"]["properties"]
    assert fields["time_s"]["description"] == "UNIX time."
    assert SCHEMA["$defs"]["Delta"]["properties"]["ramp_ms"]["description"].startswith("Of the sound")
    assert SCHEMA["$defs"]["Set"]["properties"]["path"]["maxLength"] == 128
    assert schema.tag_of(Event) == "event"


# -- AsyncAPI ------------------------------------------------------------------------------------------------


def test_asyncapi_has_both_directions():
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    sent = {name: operation["action"] for name, operation in ASYNCAPI["operations"].items()}
    assert sent == {"fromClient": "receive", "toClient": "send"}
    for name, kinds in (("fromClient", CLIENT_TYPES), ("toClient", SERVER_TYPES)):
        named = [r["$ref"].rpartition("/")[2] for r in ASYNCAPI["operations"][name]["messages"]]
        assert named == [schema.tag_of(kind) for kind in kinds]


def test_asyncapi_refers_to_what_is_there():
    for reference in references(ASYNCAPI):
        assert isinstance(resolved(ASYNCAPI, reference), dict)
    channel = ASYNCAPI["channels"]["control"]
    assert set(channel["messages"]) == set(ASYNCAPI["components"]["messages"])
    offered = channel["bindings"]["ws"]["headers"]["properties"]["Sec-WebSocket-Protocol"]["enum"]
    assert offered == ["stemrack.v1", "stemrack.v1.msgpack"]


def test_asyncapi_examples_are_messages():
    for name, message in ASYNCAPI["components"]["messages"].items():
        (example,) = message["examples"]
        ANY.validate(json.loads(json.dumps(example["payload"])))
        assert example["payload"]["type"] == name
        assert message["summary"].endswith(".")


def test_asyncapi_lists_the_codes():
    assert [c["code"] for c in ASYNCAPI["x-error-codes"]] == [int(c) for c in ErrorCode]
    retry = {c["name"]: c["mayTryAgain"] for c in ASYNCAPI["x-close-codes"]}
    assert len(retry) == len(CloseCode)
    assert [name for name, may in retry.items() if not may] == ["no_common_version", "wrong_token"]


# -- the page ------------------------------------------------------------------------------------------------


def test_every_message_has_a_section_with_its_example():
    for message in FROM_CLIENT + FROM_SERVER:
        section = PAGE.split(f"\n### `{schema.tag_of(type(message))}`\n")[1].split("\n### ")[0]
        (block,) = re.findall(r"```json\n(.*)\n```", section)
        assert msgspec.json.decode(block, type=type(message)) == message
        for name in type(message).__struct_fields__:
            assert f"| `{name}` |" in section


def test_the_conversation_consists_of_messages():
    lines = re.findall(r"^(node|client): +(\{.*\})$", PAGE, re.MULTILINE)
    assert len(lines) == 11
    for who, frame in lines:
        TEXT.decode_client(frame) if who == "client" else TEXT.decode_server(frame)


def test_every_field_has_a_meaning():
    for line in PAGE.splitlines():
        if line.startswith("| `") and not re.match(
            r"\| `(stem|master|cue|device|engine|scenes|midi|rec)", line
        ):
            assert not line.endswith("|  |"), line


def test_every_parameter_stands_in_the_table():
    for parameter in plain_table():
        path = re.sub("|".join(f"/{s}/" for s in STEMS), "/<stem>/", parameter.path)
        assert f"| `{path}` | {parameter.kind} |" in PAGE
    assert "| `stem/<stem>/gain_db` | number | -120 to 12 dB | `0.0` | 10 ms | operator |" in PAGE


def test_every_code_stands_in_the_tables():
    for code in (*ErrorCode, *CloseCode):
        (line,) = re.findall(rf"^\| {code.value} \| `{code.name.lower()}` \| (.*) \|$", PAGE, re.MULTILINE)
        assert line.endswith(".")


def test_links_within_the_page_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    links = re.findall(r"\]\(#([^)]*)\)", PAGE)
    assert links
    assert set(links) <= headings


def test_types_are_told_in_words():
    assert "| `value` | true or false or number or text or null | needed |" in PAGE
    assert "| `ramp_ms` | number | none | Length of the ramp in ms, 0 to 60000;" in PAGE
    assert "| `versions` | list of 2: whole number, whole number | needed |" in PAGE
    assert "[set](#set) or [adjust](#adjust) or [recall_scene](#recall_scene), 1 to 256 items" in PAGE
    assert "object of list of 4: number, number, number, number by name" in PAGE


def test_a_default_that_is_made_is_shown():
    assert "| `values` | object of true or false or number or text or null by name | `{}` |" in PAGE
    assert TEXT.encode(Set(path="a", value=None)) == '{"type":"set","path":"a","value":null}'
    assert TEXT.encode(Ping(id=0)) == '{"type":"ping","id":0}'
