import asyncio

import pytest

from stemrack.clients import streams
from stemrack.clients.errors import Refused
from stemrack.clients.streams import Stream, newest_events, newest_meters, whole_frames, whole_state
from stemrack.rt.control.messages import Counters, Delta, Deltas, Event, Meters, Snapshot

NOW = Snapshot(epoch="e1", revision=9, values={"a": 9.0})


def delta(revision):
    return Delta(revision=revision, origin="c1", values={"a": float(revision)})


def frame(position, **levels):
    return Meters(position=position, levels=levels)


def items(stream):
    """Return all that a stream gives once it has ended."""

    async def read():
        return [item async for item in stream]

    stream.end(None)
    return asyncio.run(read())


def test_changes_come_one_by_one_beside_snapshots():
    stream = Stream(whole_state(lambda: NOW))
    for message in (Deltas(changes=(delta(1), delta(2))), Counters(values={}), NOW, Deltas(changes=())):
        stream.put(message)
    assert items(stream) == [delta(1), delta(2), NOW]


@pytest.mark.parametrize("keeping", [whole_state, whole_frames])
def test_more_than_the_limit_becomes_one_snapshot(keeping, monkeypatch):
    monkeypatch.setattr(streams, "WAITING_CHANGES", 3)
    stream = Stream(keeping(lambda: NOW))
    for n in range(1, 4):
        stream.put(Deltas(changes=(delta(n),)))
    assert len(stream._waiting) == 3
    stream.put(Deltas(changes=(delta(4),)))
    assert items(stream) == [NOW]


def test_meters_that_wait_are_joined_by_the_highest_of_each():
    stream = Stream(newest_meters)
    stream.put(frame(1, main=(-3.0, -9.0, -12.0, -12.0)))
    stream.put(NOW)
    stream.put(frame(2, main=(-6.0, -6.0, -9.0, -15.0), cue=(-1.0, -1.0, -1.0, -1.0)))
    expected = frame(2, main=(-3.0, -6.0, -9.0, -12.0), cue=(-1.0, -1.0, -1.0, -1.0))
    assert items(stream) == [expected]


def test_of_events_the_newest_are_kept(monkeypatch):
    monkeypatch.setattr(streams, "WAITING_EVENTS", 2)
    stream = Stream(newest_events)
    for n in range(3):
        stream.put(Event(kind="xrun", time_s=float(n), facts={}))
        stream.put(NOW)
    assert [e.time_s for e in items(stream)] == [1.0, 2.0]


def test_what_waits_is_read_before_the_trouble_is_told():
    async def read():
        stream = Stream(newest_events)
        stream.put(Event(kind="xrun", time_s=0.0, facts={}))
        stream.end(Refused(4004, "wrong token"))
        assert (await anext(stream)).kind == "xrun"
        for _ in range(2):
            with pytest.raises(Refused, match=r"wrong token \(code 4004\)"):
                await anext(stream)

    asyncio.run(read())


def test_a_reader_waits_until_there_is_something_for_it():
    async def read():
        stream = Stream(newest_events)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        stream.put(NOW)
        await asyncio.sleep(0)
        assert not waiting.done()
        stream.put(Event(kind="clip", time_s=0.0, facts={}))
        assert (await waiting).kind == "clip"

    asyncio.run(read())
