"""One example of each message, as they follow each other in a short conversation."""

from __future__ import annotations

from dataclasses import replace

from .messages import (
    Adjust,
    Batch,
    Counters,
    DeleteScene,
    Delta,
    Deltas,
    Describe,
    Described,
    EffectInfo,
    Error,
    ErrorCode,
    Event,
    Get,
    Hello,
    Identify,
    Learn,
    Message,
    Meters,
    ParameterInfo,
    Ping,
    RecallScene,
    Reply,
    Resume,
    Set,
    Snapshot,
    StoreScene,
    Subscribe,
    Subscriptions,
    Unlearn,
    Welcome,
)
from .table import gain

VOCALS, EPOCH, TOKEN = "stem/vocals/gain_db", "5f0c9a3be1d24a76", "n6Yq2lE0w1cV7bXo3T9sKd4u8RzHfGmA"
_LEVELS = {"main": (-6.1, -5.8, -17.4, -17.2), "vocals": (-9.0, -9.0, -20.5, -20.5)}
_PARAMETER = replace(gain(VOCALS, "Fader of vocals; -120 is silence."), default=0.0)
_SIZE = ParameterInfo(
    path="room_size", kind="number", doc="How long it rings.", lowest=0.0, highest=1.0, default=0.5
)
_EFFECT = EffectInfo(key="reverb", title="Reverb", doc="A room.", parameters=(_SIZE,))

FROM_CLIENT: tuple[Message, ...] = (
    Identify(
        versions=(1, 1),
        client="phone",
        token=TOKEN,
        subscribe=Subscriptions(meters_hz=30.0, events=True),
        resume=Resume(epoch=EPOCH, revision=40),
    ),
    Get(id=1, paths=(VOCALS,)),
    Set(id=2, path=VOCALS, value=-6.0, ramp_ms=500.0),
    Adjust(id=3, path="master/gain_db", by=-1.5),
    Batch(
        id=4,
        requests=(
            Set(path="stem/vocals/chain", value="highpass_filter reverb"),
            Set(path="stem/vocals/fx/reverb/room_size", value=0.8),
            Set(path="stem/bass/gain_db", value=-3.0),
        ),
    ),
    StoreScene(id=5, name="chorus"),
    RecallScene(id=6, name="chorus", fade_ms=2000.0, stems=("vocals", "drums")),
    DeleteScene(id=7, name="chorus"),
    Subscribe(id=8, subscribe=Subscriptions(meters_hz=10.0, counters_hz=1.0, events=True)),
    Describe(id=9, effects=True),
    Learn(id=10, path=VOCALS),
    Unlearn(id=11, path=VOCALS),
    Ping(id=12),
)
"""One of each message that clients send, in the order of `messages.ClientMessage`."""

HELLO = Hello(server="stemrack 0.1.0", versions=(1, 1), epoch=EPOCH, token=True)
SNAPSHOT = Snapshot(epoch=EPOCH, revision=42, values={VOCALS: 0.0, "stem/vocals/mute": False, "scenes": ""})
FROM_SERVER: tuple[Message, ...] = (
    HELLO,
    Welcome(version=1, client_id="c7", role="operator", revision=42, resumed=True),
    SNAPSHOT,
    Deltas(
        changes=(
            Delta(revision=43, origin="c7", values={VOCALS: -6.0}, ramp_ms=500.0),
            Delta(revision=44, origin="midi", values={"stem/drums/mute": True}),
            Delta(revision=45, origin="node", values={"stem/vocals/fx/reverb/bypass": True}),
        )
    ),
    Reply(id=2, revision=43, values={VOCALS: -6.0}),
    Error(
        id=2,
        code=int(ErrorCode.OUT_OF_RANGE),
        name="out_of_range",
        path=VOCALS,
        message="13 dB: must be -120 to 12 dB",
    ),
    Described(id=9, parameters=(_PARAMETER.info,), effects=(_EFFECT,)),
    Meters(position=1_323_000, levels=_LEVELS),
    Counters(values={"xruns": 0, "late_hops": 2, "fallbacks": 0}),
    Event(kind="xrun", time_s=1_770_000_000.25, facts={"n": 1.0, "total": 3.0}),
)
"""One of each message that servers send, in the order of `messages.ServerMessage`."""
