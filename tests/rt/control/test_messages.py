"""The message types themselves: what stands in the file is what the protocol promises."""

import ast
import inspect

import msgspec
import pytest
from control_frames import CLIENT_TYPES, SERVER_TYPES

from stemrack.rt.control import messages
from stemrack.rt.control.messages import (
    NO_RETRY,
    VERSIONS,
    Batch,
    CloseCode,
    ErrorCode,
    FromClient,
    Get,
    Message,
    ParameterInfo,
    RecallScene,
    Set,
    Step,
    Subscriptions,
)

TREE = ast.parse(inspect.getsource(messages))


def tag_of(cls):
    return cls.__struct_config__.tag


def test_each_message_has_a_tag_of_its_own():
    tags = [tag_of(cls) for cls in CLIENT_TYPES + SERVER_TYPES]
    assert len(set(tags)) == len(tags) == 23
    assert {cls.__struct_config__.tag_field for cls in CLIENT_TYPES + SERVER_TYPES} == {"type"}


def test_tags_are_the_names_of_the_classes():
    for cls in CLIENT_TYPES + SERVER_TYPES:
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).strip("_")
        assert tag_of(cls) == words


def test_every_message_class_is_sent_by_one_side():
    sent = {c for c in vars(messages).values() if isinstance(c, type) and issubclass(c, Message)}
    assert sent - {Message, FromClient} == {*CLIENT_TYPES, *SERVER_TYPES}
    assert not {*CLIENT_TYPES} & {*SERVER_TYPES}


@pytest.mark.parametrize("cls", CLIENT_TYPES)
def test_unknown_fields_of_a_client_are_errors(cls):
    assert issubclass(cls, FromClient)
    assert cls.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("cls", SERVER_TYPES)
def test_unknown_fields_of_a_server_are_for_newer_clients(cls):
    assert not cls.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("cls", CLIENT_TYPES)
def test_every_request_but_identify_has_an_id(cls):
    assert ("id" in cls.__struct_fields__) == (tag_of(cls) != "identify")


def test_messages_cannot_be_changed_once_made():
    with pytest.raises(AttributeError, match="immutable"):
        Get(id=1).id = 2


def test_fields_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        Get(1)


def test_defaults():
    assert Set(path="a", value=1.0) == Set(id=0, path="a", value=1.0, ramp_ms=None)
    assert RecallScene(name="a") == RecallScene(id=0, name="a", fade_ms=0.0, stems=())
    assert Subscriptions() == Subscriptions(meters_hz=0.0, counters_hz=0.0, events=False)
    assert ParameterInfo(path="a", kind="switch", doc="A.").role == "operator"


def test_a_batch_holds_steps():
    described = msgspec.inspect.type_info(Batch)
    (requests,) = [f for f in described.fields if f.name == "requests"]
    assert {t.cls for t in requests.type.item_type.types} == set(Step.__args__)


def test_codes_say_by_their_hundreds_whose_matter_it_is():
    hundreds = {}
    for code in ErrorCode:
        hundreds.setdefault(code // 100, []).append(code.name)
    assert hundreds[1] == ["MALFORMED", "UNKNOWN_TYPE", "WRONG_FIELD", "WRONG_ENCODING"]
    assert "WRONG_TOKEN" in hundreds[2]
    assert "OUT_OF_RANGE" in hundreds[3]
    assert hundreds[4] == ["NOT_NOW", "FAILED"]
    assert hundreds[5] == ["TOO_MANY_REQUESTS"]


def test_numbers_of_codes_stay_as_they_were_published():
    """Clients compare numbers: one that moves breaks them."""
    assert [c.value for c in ErrorCode] == [
        *(100, 101, 102, 103, 200, 201, 202, 203, 204),
        *(300, 301, 302, 303, 304, 305, 306, 400, 401, 500),
    ]
    assert [c.value for c in CloseCode] == [4001, 4002, 4003, 4004, 4005, 4006, 4008, 4010]


def test_close_codes_are_those_an_application_may_use():
    assert all(4000 <= code <= 4999 for code in CloseCode)  # RFC 6455, section 7.4.2
    assert set(NO_RETRY) == {CloseCode.NO_COMMON_VERSION, CloseCode.WRONG_TOKEN}


def test_versions_are_an_interval():
    assert 1 <= VERSIONS[0] <= VERSIONS[1]


@pytest.mark.parametrize(
    "node", [n for n in TREE.body if isinstance(n, ast.ClassDef)], ids=lambda node: node.name
)
def test_every_class_says_what_it_is(node):
    assert ast.get_docstring(node).endswith(".")
