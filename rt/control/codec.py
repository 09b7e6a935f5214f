"""Frames from messages and messages from frames: JSON as text, MessagePack as binary."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import msgspec

from .messages import HIGHEST_ID, ClientMessage, ErrorCode, Message, ServerMessage

JSON = "stemrack.v1"
MSGPACK = "stemrack.v1.msgpack"
SUBPROTOCOLS = (JSON, MSGPACK)
"""Websocket subprotocols; one must be asked for, the server takes the first of the client's that it knows."""

MAX_CLIENT_FRAME_BYTES = 65_536
"""A client's frame may not be longer: a batch of 256 requests is below 40 kB."""
LONGEST_TEXT = 300
"""Characters of an error's text: a frame of 64 kB must not come back as 64 kB."""

Frame = str | bytes
M = TypeVar("M")


class ProtocolError(Exception):
    """A frame that is no message, or a request that cannot be: code, the field or parameter, a text."""

    def __init__(self, code: ErrorCode, message: str, path: str = "", request_id: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.path, self.request_id = code, message, path, request_id

    def __str__(self) -> str:
        where = f" (at {self.path})" if self.path else ""
        return f"{self.code.value} {self.code.name.lower()}: {self.message}{where}"


class Codec:
    """Encodes and decodes the messages of one subprotocol.  Raises: ValueError for one that is not known.

    >>> codec = Codec(JSON)
    >>> codec.decode_client('{"type": "ping", "id": 3}')
    Ping(id=3)
    """

    def __init__(self, subprotocol: str) -> None:
        if subprotocol not in SUBPROTOCOLS:
            raise ValueError(f"subprotocol '{subprotocol}' is none of {', '.join(SUBPROTOCOLS)}")
        self.subprotocol = subprotocol
        self._is_text = subprotocol == JSON
        module: Any = msgspec.json if self._is_text else msgspec.msgpack
        self._encoder = module.Encoder()
        self._client, self._server = module.Decoder(ClientMessage), module.Decoder(ServerMessage)
        self._raw = module.Decoder()

    def encode(self, message: Message) -> Frame:
        """Return the frame of a message: str for JSON, bytes for MessagePack."""
        data = self._encoder.encode(message)
        return data.decode() if self._is_text else data

    def decode_client(self, frame: Frame) -> ClientMessage:
        """Return the message in a client's frame.  Raises: ProtocolError, with the request's id if any."""
        return self._decode(self._client, frame)

    def decode_server(self, frame: Frame) -> ServerMessage:
        """Return the message in a server's frame.  Raises: ProtocolError."""
        return self._decode(self._server, frame)

    def _decode(self, decoder: Any, frame: Frame) -> Any:
        if isinstance(frame, str) != self._is_text:
            expected = "text" if self._is_text else "binary"
            said = f"send {expected} frames: '{self.subprotocol}' was agreed"
            raise ProtocolError(ErrorCode.WRONG_ENCODING, said)
        try:
            message = decoder.decode(frame)
        except msgspec.ValidationError as error:
            raise self._explained(frame, str(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _unreadable(error) from None
        _check_numbers(message)
        return message

    def _explained(self, frame: Frame, said: str) -> ProtocolError:
        """Return the error for a frame that can be read but is no message."""
        text, _, at = said.partition(" - at ")
        path = re.sub(r"^\$\.?", "", at.strip("` "))
        try:
            raw = self._raw.decode(frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:  # past what was found wrong
            return _unreadable(error)
        request_id = _id_of(raw)
        if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
            said = 'a message is an object with a type, as {"type": "ping", "id": 1}'
            return ProtocolError(ErrorCode.MALFORMED, said, request_id=request_id)
        if path == "type":
            said = f"there is no message '{raw['type'][:32]}' from this side"
            return ProtocolError(ErrorCode.UNKNOWN_TYPE, said, "type", request_id)
        if match := re.search(r"field `([^`]*)`", text):
            path = f"{path}.{match[1]}" if path else match[1]
        return ProtocolError(ErrorCode.WRONG_FIELD, text[:LONGEST_TEXT], path[:128], request_id)


def _unreadable(error: Exception) -> ProtocolError:
    return ProtocolError(ErrorCode.MALFORMED, f"the frame cannot be read: {error}"[:LONGEST_TEXT])


def _id_of(raw: Any) -> int | None:
    """Return the id of a request that is wrong elsewhere; None if that is no id either."""
    number = raw.get("id") if isinstance(raw, dict) else None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= HIGHEST_ID:
        return None
    return number


def _check_numbers(message: Any, request_id: int | None = None, within: str = "") -> None:
    """Refuse NaN and infinity, which MessagePack can carry and JSON cannot."""
    if request_id is None:
        request_id = getattr(message, "id", None)
    for at in ("value", "by", "ramp_ms", "fade_ms"):
        value = getattr(message, at, None)
        if isinstance(value, float) and not math.isfinite(value):
            said = "a number must be finite; silence is -120 dB"
            raise ProtocolError(ErrorCode.WRONG_FIELD, said, within + at, request_id)
    for index, step in enumerate(getattr(message, "requests", ())):
        _check_numbers(step, request_id, f"requests[{index}].")
