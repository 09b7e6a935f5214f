"""Frames and messages: both encodings carry every message, and whatever else comes is a ProtocolError."""

import json
import math

import msgspec
import pytest
from control_frames import CLIENT_TYPES, SERVER_TYPES, client_messages, instances_of, server_messages
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.rt.control.codec import (
    JSON,
    LONGEST_TEXT,
    MAX_CLIENT_FRAME_BYTES,
    MSGPACK,
    SUBPROTOCOLS,
    Codec,
    ProtocolError,
)
from stemrack.rt.control.messages import (
    HIGHEST_ID,
    Adjust,
    Batch,
    Counters,
    ErrorCode,
    Ping,
    RecallScene,
    Set,
    Subscribe,
    Subscriptions,
)
from stemrack.rt.control.protocol import error_of

TEXT, BINARY = Codec(JSON), Codec(MSGPACK)
CODECS = pytest.mark.parametrize("codec", [TEXT, BINARY], ids=SUBPROTOCOLS)


def pack(codec, content):
    """Return a frame of anything, message or not."""
    if codec is BINARY:
        return msgspec.msgpack.encode(content)
    return json.dumps(content)


def refused(codec, frame):
    with pytest.raises(ProtocolError) as caught:
        codec.decode_client(frame)
    return caught.value


# -- round trips ---------------------------------------------------------------------------------------------


@CODECS
@pytest.mark.parametrize("cls", CLIENT_TYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_each_client_message_comes_back(codec, cls, data):
    message = data.draw(instances_of(cls))
    back = codec.decode_client(codec.encode(message))
    assert back == message
    assert type(back) is cls


@CODECS
@pytest.mark.parametrize("cls", SERVER_TYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_each_server_message_comes_back(codec, cls, data):
    message = data.draw(instances_of(cls))
    back = codec.decode_server(codec.encode(message))
    assert back == message
    assert type(back) is cls


@given(client_messages)
def test_both_encodings_say_the_same(message):
    assert TEXT.decode_client(TEXT.encode(message)) == BINARY.decode_client(BINARY.encode(message))
    assert json.loads(TEXT.encode(message))["type"] == msgspec.msgpack.decode(BINARY.encode(message))["type"]


@CODECS
@given(data=st.data())
def test_messages_of_the_other_side_are_unknown(codec, data):
    frame = codec.encode(data.draw(server_messages))
    assert refused(codec, frame).code == ErrorCode.UNKNOWN_TYPE
    with pytest.raises(ProtocolError) as caught:
        codec.decode_server(codec.encode(data.draw(client_messages)))
    assert caught.value.code == ErrorCode.UNKNOWN_TYPE


@CODECS
def test_a_newer_server_may_say_more(codec):
    frame = pack(codec, {"type": "counters", "values": {"xruns": 1}, "since_s": 3.5})
    assert codec.decode_server(frame) == Counters(values={"xruns": 1})
    deltas = {"changes": [{"revision": 1, "origin": "c1", "values": {}, "why": "x"}], "n": 1}
    assert codec.decode_server(pack(codec, {"type": "deltas", **deltas})).changes[0].revision == 1


@CODECS
def test_whole_numbers_are_numbers(codec):
    message = codec.decode_client(pack(codec, {"type": "set", "path": "a", "value": -6}))
    assert message == Set(path="a", value=-6.0)
    assert isinstance(message.value, float)
    assert codec.decode_client(pack(codec, {"type": "set", "path": "a", "value": True})).value is True


def test_the_types_of_frames():
    assert TEXT.encode(Ping(id=3)) == '{"type":"ping","id":3}'
    assert BINARY.encode(Ping(id=3)) == b"\x82\xa4type\xa4ping\xa2id\x03"
    assert TEXT.encode(Set(id=1, path="a", value="ä")) == '{"type":"set","id":1,"path":"a","value":"ä"}'


def test_the_longest_batch_fits_into_a_frame():
    step = Set(
        id=HIGHEST_ID, path="stem/vocals/gain_db", value=-119.99999999999999, ramp_ms=12345.678901234567
    )
    batch = Batch(id=HIGHEST_ID, requests=(step,) * 256)
    assert len(TEXT.encode(batch).encode()) < 40_000 < MAX_CLIENT_FRAME_BYTES
    assert len(BINARY.encode(batch)) < 40_000


def test_a_subprotocol_that_is_not_known():
    with pytest.raises(
        ValueError, match=r"subprotocol 'mqtt' is none of stemrack\.v1, stemrack\.v1\.msgpack"
    ):
        Codec("mqtt")


# -- what is no message --------------------------------------------------------------------------------------


def test_the_wrong_kind_of_frame():
    problem = refused(TEXT, b'{"type":"ping","id":1}')
    assert problem.code == ErrorCode.WRONG_ENCODING
    assert str(problem) == "103 wrong_encoding: send text frames: 'stemrack.v1' was agreed"
    problem = refused(BINARY, '{"type":"ping","id":1}')
    assert problem.message == "send binary frames: 'stemrack.v1.msgpack' was agreed"


@pytest.mark.parametrize(
    "frame",
    ["", "{", "nonsense", '{"type":"ping","id":1', '{"type":"ping","id":1}x', '"\ud800"', '{"id":"\\ud800"}'],
)
def test_text_that_is_not_json(frame):
    problem = refused(TEXT, frame)
    assert problem.code == ErrorCode.MALFORMED
    assert problem.message.startswith("the frame cannot be read: ")
    assert problem.request_id is None


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x82\xa4type", b"\x81\xa4type\xa2\xff\xff", b"\xdd\xff\xff\xff\xff"]
)
def test_bytes_that_are_not_messagepack(frame):
    assert refused(BINARY, frame).code == ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"nope","id":1,',
        '{"type":"ping","id":"x","y":[1,',
        '{"type":"ping","id":1,"x":1e999}',
        '{"type":"ping","id":1,"x":' + "[" * 30_000 + "]" * 30_000 + "}",
        "[" * 30_000,
    ],
    ids=["truncated type", "truncated field", "huge number", "deep field", "deep"],
)
def test_frames_that_are_wrong_before_they_become_unreadable(frame):
    """The first wrong thing ends the typed decoding; what comes after it must raise nothing else."""
    assert refused(TEXT, frame).code == ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "frame",
    [
        b"\x83\xa4type\xa4ping\xa2id\x01\x81\x01\x01\x02",
        b"\x83\xa4type\xa4ping\xa2id\x01\xa1x\xc7\x0c\xff" + b"\xff" * 12,
    ],
    ids=["a map as a key", "a time that is none"],
)
def test_messagepack_that_no_value_can_hold(frame):
    assert refused(BINARY, frame).code == ErrorCode.MALFORMED


@CODECS
@pytest.mark.parametrize("content", [[], 3, "ping", None, True, {}, {"id": 3}, {"type": 3}, {"type": None}])
def test_no_object_with_a_type(codec, content):
    problem = refused(codec, pack(codec, content))
    assert problem.code == ErrorCode.MALFORMED
    assert problem.message == 'a message is an object with a type, as {"type": "ping", "id": 1}'
    assert problem.request_id == (3 if content == {"id": 3} else None)


@CODECS
def test_an_unknown_type(codec):
    problem = refused(codec, pack(codec, {"type": "x" * 100, "id": 4}))
    assert (problem.code, problem.path, problem.request_id) == (ErrorCode.UNKNOWN_TYPE, "type", 4)
    assert problem.message == f"there is no message '{'x' * 32}' from this side"


STEP = {"type": "set", "path": "a", "value": 1}


@CODECS
@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"type": "ping"}, "id"),
        ({"type": "ping", "id": 1, "di": 2}, "di"),
        ({"type": "ping", "id": "1"}, "id"),
        ({"type": "ping", "id": 1.5}, "id"),
        ({"type": "ping", "id": -1}, "id"),
        ({"type": "ping", "id": HIGHEST_ID + 1}, "id"),
        ({"type": "set", "id": 1, "value": 1}, "path"),
        ({"type": "set", "id": 1, "path": "x" * 129, "value": 1}, "path"),
        ({"type": "set", "id": 1, "path": "a", "value": [1]}, "value"),
        ({"type": "set", "id": 1, "path": "a", "value": 1, "ramp_ms": "long"}, "ramp_ms"),
        ({"type": "get", "id": 1, "paths": ["a", 2]}, "paths[1]"),
        ({"type": "subscribe", "id": 1, "subscribe": {"meters_hz": 61}}, "subscribe.meters_hz"),
        ({"type": "subscribe", "id": 1, "subscribe": {"meter_hz": 6}}, "subscribe.meter_hz"),
        ({"type": "store_scene", "id": 1, "name": ""}, "name"),
        ({"type": "batch", "id": 1, "requests": []}, "requests"),
        ({"type": "batch", "id": 1, "requests": [STEP] * 257}, "requests"),
        ({"type": "batch", "id": 1, "requests": [STEP, STEP | {"vlaue": 1}]}, "requests[1].vlaue"),
        ({"type": "batch", "id": 1, "requests": [{"type": "ping", "id": 1}]}, "requests[0].type"),
        ({"type": "identify", "versions": [1]}, "versions"),
    ],
)
def test_a_wrong_field_is_named(codec, content, path):
    problem = refused(codec, pack(codec, content))
    assert (problem.code, problem.path) == (ErrorCode.WRONG_FIELD, path)
    if path != "id" and "id" in content:
        assert problem.request_id == 1


@CODECS
@pytest.mark.parametrize("number", [-1, HIGHEST_ID + 1, 2**63, True, 1.0, "1", None])
def test_what_is_no_id_is_not_answered_with(codec, number):
    assert refused(codec, pack(codec, {"type": "nope", "id": number})).request_id is None


def test_ids_beyond_every_number_of_a_machine():
    problem = refused(TEXT, json.dumps({"type": "nope", "id": 10**100}))
    assert problem.request_id is None
    assert TEXT.encode(error_of(problem)).startswith('{"type":"error","code":10')


@CODECS
@pytest.mark.parametrize("number", [0, HIGHEST_ID])
def test_every_id_is_answered_with(codec, number):
    assert refused(codec, pack(codec, {"type": "nope", "id": number})).request_id == number
    assert codec.decode_client(pack(codec, {"type": "ping", "id": number})).id == number


@CODECS
def test_errors_are_short_whatever_came(codec):
    problem = refused(codec, pack(codec, {"type": "ping", "id": 1, "x" * 60_000: 1}))
    assert len(problem.message) <= LONGEST_TEXT
    assert len(problem.path) == 128
    assert len(codec.encode(error_of(problem))) < 600


# -- numbers that JSON has not -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("message", "at"),
    [
        (lambda x: Set(id=7, path="a", value=x), "value"),
        (lambda x: Set(id=7, path="a", value=1.0, ramp_ms=x), "ramp_ms"),
        (lambda x: Adjust(id=7, path="a", by=x), "by"),
        (lambda x: RecallScene(id=7, name="a", fade_ms=x), "fade_ms"),
        (
            lambda x: Batch(id=7, requests=(Set(path="a", value=1.0), Set(path="a", value=x))),
            "requests[1].value",
        ),
        (lambda x: Subscribe(id=7, subscribe=Subscriptions(meters_hz=x)), "subscribe.meters_hz"),
        (lambda x: Subscribe(id=7, subscribe=Subscriptions(counters_hz=x)), "subscribe.counters_hz"),
    ],
)
def test_numbers_are_finite(message, at, number):
    problem = refused(BINARY, BINARY.encode(message(number)))
    assert (problem.code, problem.path, problem.request_id) == (ErrorCode.WRONG_FIELD, at, 7)


@pytest.mark.parametrize("written", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_too_large_to_be_held(written):
    assert refused(TEXT, f'{{"type":"set","id":1,"path":"a","value":{written}}}').code in (
        ErrorCode.WRONG_FIELD,
        ErrorCode.MALFORMED,
    )


@CODECS
@given(data=st.data())
def test_any_bytes_give_a_message_or_a_protocol_error(codec, data):
    frame = data.draw(st.binary(max_size=300) if codec is BINARY else st.text(max_size=300))
    for decode in (codec.decode_client, codec.decode_server):
        try:
            message = decode(frame)
        except ProtocolError as problem:
            assert problem.code in (ErrorCode.MALFORMED, ErrorCode.UNKNOWN_TYPE, ErrorCode.WRONG_FIELD)  # noqa: PT017
        else:
            assert decode(codec.encode(message)) == message
