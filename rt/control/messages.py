"""Every message of protocol `stemrack.v1`, with its fields, and the codes of errors and of closings.

This file is the protocol: `docs/protocol.md` and its schemas are generated from it (`make docs`). A message
is an object whose `type` names it. A client sends the messages of `CLIENT_MESSAGES`, a server those of
`SERVER_MESSAGES`. Unknown fields in a client's message are an error, so that a typing error is told; clients
must ignore fields that they do not know.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, field

from .infos import EffectInfo, ParameterInfo, Typed, Value

VERSIONS = (1, 1)
"""Oldest and newest version of the protocol that this code speaks."""

HIGHEST_ID = 2**53
Id = Annotated[int, Meta(ge=0, le=HIGHEST_ID, description="Chosen by the client; its reply carries it.")]
Path = Annotated[str, Meta(max_length=128, description="Name of a parameter, as stem/vocals/gain_db.")]
RampMs = Annotated[
    float, Meta(description="Length of the ramp in ms, 0 to 60000; none: the parameter's own.")
]
SceneName = Annotated[str, Meta(min_length=1, max_length=64, description="Name of a scene.")]
Rate = Annotated[float, Meta(ge=0, le=60, description="Frames a second; 0: none.")]


class ErrorCode(IntEnum):
    """What is wrong with a message: hundreds say whose matter it is, as in `docs/protocol.md`."""

    MALFORMED = 100
    """Not JSON (or MessagePack), or no object with a `type`."""
    UNKNOWN_TYPE = 101
    """There is no message of that `type` from this side."""
    WRONG_FIELD = 102
    """A field is missing, unknown, of the wrong type or out of its limits; `path` names it."""
    WRONG_ENCODING = 103
    """A text frame where MessagePack was agreed, or a binary one where JSON was."""
    NOT_IDENTIFIED = 200
    """Something else came before `identify`."""
    WRONG_TOKEN = 201
    """The token is nobody's; the connection is closed."""
    NO_COMMON_VERSION = 202
    """The versions of both sides do not meet; the connection is closed."""
    NOT_ALLOWED = 203
    """The role of this client may not do that."""
    ALREADY_IDENTIFIED = 204
    """`identify` came a second time."""
    UNKNOWN_PATH = 300
    """There is no parameter of that path."""
    WRONG_TYPE = 301
    """The parameter holds another type of value."""
    OUT_OF_RANGE = 302
    """The value is outside the parameter's range, or none of its choices."""
    READ_ONLY = 303
    """The node tells that parameter; nobody sets it. Or the scene is a preset, which stays as it is."""
    NO_RAMP = 304
    """A ramp was asked for where values change at once."""
    UNKNOWN_SCENE = 305
    """There is no scene of that name."""
    TOO_MANY_SCENES = 306
    """No more scenes are kept: delete one first."""
    NOT_NOW = 400
    """The node cannot do that in its present state."""
    FAILED = 401
    """The node tried, and says why it did not work."""
    TOO_MANY_REQUESTS = 500
    """The request came too soon and was not carried out."""


class CloseCode(IntEnum):
    """Why a server closed a connection, beside the codes of RFC 6455."""

    NOT_IDENTIFIED_IN_TIME = 4001
    """`identify` did not come in time."""
    TOO_MANY_ERRORS = 4002
    """Too many bad frames came in a row."""
    NO_COMMON_VERSION = 4003
    """The versions of both sides do not meet; do not try again."""
    WRONG_TOKEN = 4004
    """The token is nobody's; do not try again with it."""
    TOO_SLOW = 4005
    """The client did not read for so long that changes of state would have been lost."""
    TOO_MANY_CLIENTS = 4006
    """The node serves no more clients; try again later."""
    TOO_MANY_REQUESTS = 4008
    """The client went on although its requests were refused."""
    STOPPING = 4010
    """The node stops; a client may try again later."""


NO_RETRY = (CloseCode.NO_COMMON_VERSION, CloseCode.WRONG_TOKEN)
"""After these a client must not try again by itself."""


class Message(Typed, tag_field="type"):
    """Base of all messages."""


class FromClient(Message, forbid_unknown_fields=True):
    """Base of what a client sends."""


# -- both ways of saying what is wanted ---------------------------------------------------------------------


class Subscriptions(Typed, forbid_unknown_fields=True, kw_only=True):
    """What a client wants beside the state, which it always gets."""

    meters_hz: Rate = 0.0
    counters_hz: Rate = 0.0
    events: bool = False
    """Whether events are sent."""


class Resume(Typed, forbid_unknown_fields=True, kw_only=True):
    """Where a client was when its connection broke."""

    epoch: str
    """Of the server's snapshot or hello; another one means another life of the node."""
    revision: int
    """The last one that the client has followed."""


# -- from a client -------------------------------------------------------------------------------------------


class Identify(FromClient, tag="identify", kw_only=True):
    """The first message of a client, in answer to `hello`."""

    versions: tuple[int, int]
    """Oldest and newest version the client speaks; the newest common one is used."""
    client: Annotated[str, Meta(max_length=64)] = ""
    """Its name, shown to people."""
    token: Annotated[str, Meta(max_length=256)] = ""
    """One of the node's tokens; it gives the role."""
    subscribe: Subscriptions = Subscriptions()
    """What it wants beside the state."""
    resume: Resume | None = None
    """What it knows from an earlier connection."""


class Get(FromClient, tag="get", kw_only=True):
    """Asks for values; the reply carries them."""

    id: Id
    paths: tuple[Path, ...] = ()
    """Empty: all."""


class Set(FromClient, tag="set", kw_only=True):
    """Sets a parameter. The reply carries the value in force.

    `stem/S/chain` is a chain in one line, the names of its inserts from first to last; inserts that it still
    names keep their values. Those of new inserts can be set at once, in the same batch even.
    """

    id: Id = 0
    path: Path
    value: Value
    """Of the parameter's type and in its range, as `describe` tells them."""
    ramp_ms: RampMs | None = None


class Adjust(FromClient, tag="adjust", kw_only=True):
    """Moves a number by a difference; what would leave its range stops at the limit."""

    id: Id = 0
    path: Path
    by: float
    """The difference, in the parameter's unit."""
    ramp_ms: RampMs | None = None


class RecallScene(FromClient, tag="recall_scene", kw_only=True):
    """Sets faders and chains as they were when the scene was stored, or as a preset has them."""

    id: Id = 0
    name: SceneName
    fade_ms: RampMs = 0.0
    """Length of the faders' fade in ms, 0 to 60000; 0: each one's own ramp. Chains have their own fade."""
    stems: tuple[str, ...] = ()
    """Only these stems, and nothing of the master; empty: all that the scene holds."""


class Batch(FromClient, tag="batch", kw_only=True):
    """Several changes that happen in order and together, or, if one of them is wrong, not at all."""

    id: Id
    requests: Annotated[tuple[Set | Adjust | RecallScene, ...], Meta(min_length=1, max_length=256)]
    """In their order; their own ids do not matter."""


class StoreScene(FromClient, tag="store_scene", kw_only=True):
    """Keeps faders and chains under a name; an older scene of that name is replaced, but for a preset."""

    id: Id
    name: SceneName
    stems: tuple[str, ...] = ()
    """Only these stems, and nothing of the master; empty: all."""


class DeleteScene(FromClient, tag="delete_scene", kw_only=True):
    """Forgets a scene; a preset stays."""

    id: Id
    name: SceneName


class Subscribe(FromClient, tag="subscribe", kw_only=True):
    """Replaces the client's subscriptions."""

    id: Id
    subscribe: Subscriptions
    """All that it wants from now on."""


class Describe(FromClient, tag="describe", kw_only=True):
    """Asks for the table of parameters; the answer is `described`.

    The table follows the chains: ask again when a `stem/S/chain` has changed.
    """

    id: Id
    effects: bool = False
    """Whether the answer lists what can be put into a chain; that stays the same as long as the node runs."""


class Learn(FromClient, tag="learn", kw_only=True):
    """Binds the next MIDI control that is moved to a parameter; an empty path ends the waiting."""

    id: Id
    path: Path = ""


class Unlearn(FromClient, tag="unlearn", kw_only=True):
    """Takes a parameter's MIDI controls away."""

    id: Id
    path: Path


class Ping(FromClient, tag="ping", kw_only=True):
    """Asks whether the node lives; browsers cannot send a websocket's own pings."""

    id: Id


# -- from the server -----------------------------------------------------------------------------------------


class Hello(Message, tag="hello", kw_only=True):
    """The first message of a server."""

    server: str
    """Name and version."""
    versions: tuple[int, int]
    """Oldest and newest version the server speaks."""
    epoch: str
    """Of this life of the node."""
    token: bool
    """Whether `identify` needs one."""


class Welcome(Message, tag="welcome", kw_only=True):
    """The answer to `identify`. A snapshot or the missed deltas follow."""

    version: int
    """The one that is used."""
    client_id: str
    """Origin of this client's changes."""
    role: str
    """viewer, operator or admin."""
    revision: int
    """Of the state now; who has followed so far is up to date."""
    resumed: bool
    """Whether only the missed deltas follow; else a snapshot does."""


class Snapshot(Message, tag="snapshot", kw_only=True):
    """The whole state at a revision."""

    epoch: str
    """Of this life of the node: to be given with `resume`."""
    revision: int
    """Of the state that is told."""
    values: dict[str, Value]
    """All values by path."""


class Delta(Typed, kw_only=True):
    """One change of the state: what belongs to one revision belongs together."""

    revision: int
    """One more than that of the change before."""
    origin: str
    """client_id of whoever changed it; midi, node or config else."""
    values: dict[str, Value]
    """New values; none: the parameter is gone."""
    ramp_ms: float | None = None
    """Of the sound, where it is not the parameters' own; the state has the new value at once."""


class Deltas(Message, tag="deltas", kw_only=True):
    """Changes in order, without a gap; several may be packed into one frame."""

    changes: tuple[Delta, ...]
    """The oldest first."""


class Reply(Message, tag="reply", kw_only=True):
    """A request was carried out."""

    id: int
    """Of the request."""
    revision: int
    """Of the state after it."""
    values: dict[str, Value] = field(default_factory=dict)
    """The values in force of what was asked about."""


class Error(Message, tag="error", kw_only=True):
    """A request was not carried out, or a frame was no message."""

    id: int | None = None
    """Of the request, where it could be read."""
    code: int
    """One of the error codes."""
    name: str
    """The name of the code."""
    path: str = ""
    """The field or parameter that is wrong."""
    message: str
    """For people: what is wrong and what to do."""


class Described(Message, tag="described", kw_only=True):
    """The table of parameters."""

    id: int
    """Of the request."""
    parameters: tuple[ParameterInfo, ...]
    """All of them, those of the inserts that are in the chains now among them."""
    effects: tuple[EffectInfo, ...] = ()
    """What can be put into a chain, if `describe` asked for it."""


class Meters(Message, tag="meters", kw_only=True):
    """Levels since this client's last frame. May be dropped; the next one then covers the longer time."""

    position: int
    """Output samples since the node began."""
    levels: dict[str, tuple[float, float, float, float]]
    """Of `input`, `main`, each stem and `cue`: peak left and right, RMS left and right, dB of full scale."""


class Counters(Message, tag="counters", kw_only=True):
    """Everything that is counted, since the node began."""

    values: dict[str, int]
    """Numbers by name."""


class Event(Message, tag="event", kw_only=True):
    """Something happened: xrun, late-hop, fallback, clip, worker-died, device-lost, insert-bypassed ..."""

    kind: str
    """What happened."""
    time_s: float
    """UNIX time."""
    facts: dict[str, Value]
    """Numbers and texts by name, different for each kind."""


ClientMessage = (
    Identify | Get | Set | Adjust | Batch | StoreScene | RecallScene | DeleteScene | Subscribe | Describe
    | Learn | Unlearn | Ping
)  # fmt: skip
ServerMessage = (
    Hello | Welcome | Snapshot | Deltas | Reply | Error | Described | Meters | Counters | Event
)  # fmt: skip
Step = Set | Adjust | RecallScene
"""What may stand in a batch."""
