"""Rings and slots against plain models, in one process and between two of which one is killed."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.rt.atomics import add, load, store
from stemrack.rt.block import (
    NODE_HEARTBEAT_NS,
    POSITION,
    SUB_BLOCK_SAMPLES,
    Block,
    Geometry,
    make_block,
)
from stemrack.rt.ring import has_slot, put_slot, read_slots, take, write_ring

CAPACITY = 2048


def numbered(start, n):
    """Samples that tell their position: exact in float32 for the lengths used here."""
    return np.stack([np.arange(start, start + n), -np.arange(start, start + n)]).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, SUB_BLOCK_SAMPLES), st.integers(1, 700), st.integers(-900, 3000))))
def test_ring_against_a_list(steps):
    words, ring, model = (
        np.zeros(256, np.int64),
        np.zeros((2, CAPACITY), np.float32),
        np.zeros((2, 0), np.float32),
    )
    for n_written, n_read, back in steps:
        at = model.shape[1]
        x = numbered(at, n_written)
        write_ring(ring, at, x, n_written)
        store(words, POSITION, at + n_written)
        model = np.concatenate([model, x], axis=1)
        start = at + n_written - back
        out = np.full((2, n_read), np.nan, np.float32)
        there = start >= 0 and start + n_read <= model.shape[1]
        safe = start >= model.shape[1] + SUB_BLOCK_SAMPLES - CAPACITY
        assert take(words, POSITION, ring, start, out) == (there and safe)
        if there and safe:
            assert np.array_equal(out, model[:, start : start + n_read])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=40), st.integers(0, 700), st.integers(1, 300), st.integers(0, 3))
def test_slots_against_a_dictionary(hops, position, n, origin_hops):
    hop, n_slots = 32, 8
    stamps, slots = np.full(n_slots, -1), np.zeros((n_slots, 4, 2, hop), np.float32)
    model = {}
    for h in hops:
        data = np.full((4, 2, hop), h + 1, np.float32) + np.arange(hop, dtype=np.float32) / 64
        put_slot(stamps, slots, h * hop, data)
        model = {k: v for k, v in model.items() if k % n_slots != h % n_slots} | {h: data}
    out = np.full((4, 2, n), np.nan, np.float32)
    origin = origin_hops * hop
    assert read_slots(stamps, slots, origin, position, out, n) == 0
    for i in range(n):
        y = position + i
        data = model.get(y // hop) if y >= origin else None
        assert has_slot(stamps, hop, y) == (y // hop in model)
        assert np.array_equal(out[:, :, i], np.zeros((4, 2)) if data is None else data[:, :, y % hop])


def test_what_is_not_finite_is_counted_and_silent():
    stamps, slots = np.full(2, -1), np.zeros((2, 4, 2, 16), np.float32)
    data = np.ones((4, 2, 16), np.float32)
    data[1, 0, 3:5] = np.nan, -np.inf
    put_slot(stamps, slots, 16, data)
    out = np.empty((4, 2, 16), np.float32)
    assert read_slots(stamps, slots, 0, 16, out, 16) == 2
    assert out.sum() == 4 * 2 * 16 - 2


def test_additions_of_two_threads_are_exact():
    from threading import Thread

    from stemrack.models.jit import njit

    @njit(cache=False)
    def many(words):
        for _ in range(1_000_000):
            add(words, 5, 1)

    words = np.zeros(8, np.int64)
    many(words)
    threads = [Thread(target=many, args=(words,)) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert words[5] == 3_000_000


HOP = 64
GEOMETRY = Geometry(hop=HOP, n_slots=8, ring_samples=CAPACITY)
PROGRESS = POSITION


def write_for_ever(raw, start):
    """A writer of ring and slots whose data tell their position; ends only by being killed."""
    block = Block(raw, GEOMETRY)
    at = start
    data = np.empty((4, 2, HOP), np.float32)
    while True:
        x = numbered(at % (1 << 22), HOP)
        write_ring(block.ring, at, x, HOP)
        store(block.words, POSITION, at + HOP)
        data[:] = (at // HOP) % 1000
        put_slot(block.stamps, block.slots, at, data)
        at += HOP


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_no_torn_hop_is_ever_taken_though_writers_are_killed_at_random():
    context = multiprocessing.get_context("spawn")
    block = make_block(GEOMETRY, context)
    chance = random.Random(4)
    out, stems = np.empty((2, HOP), np.float32), np.empty((4, 2, HOP), np.float32)
    n_taken = n_refused = n_slots = 0
    for _ in range(6):
        start = -(-load(block.words, POSITION) // HOP) * HOP
        child = context.Process(target=write_for_ever, args=(block.raw, start), daemon=True)
        child.start()
        stop = time.monotonic() + 60.0
        while load(block.words, POSITION) < start + 100 * HOP and time.monotonic() < stop:
            time.sleep(0.001)
        stop = time.monotonic() + chance.uniform(0.1, 0.4)
        while time.monotonic() < stop:
            newest = load(block.words, POSITION) // HOP * HOP
            position = newest - HOP * chance.randrange(1, 40)
            if position < 0:
                continue
            if take(block.words, POSITION, block.ring, position, out):
                assert np.array_equal(out, numbered(position % (1 << 22), HOP))
                n_taken += 1
            else:
                n_refused += 1
            first = newest - HOP * chance.randrange(1, 4)
            if has_slot(block.stamps, HOP, first):
                read_slots(block.stamps, block.slots, 0, first, stems, HOP)
                if has_slot(
                    block.stamps, HOP, first
                ):  # a writer that never waits may have come round meanwhile
                    assert np.all(stems == (first // HOP) % 1000)
                    n_slots += 1
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        position = load(block.words, POSITION)
        for slot, stamp in enumerate(
            block.stamps.tolist()
        ):  # what the dead writer left is whole or not there
            if stamp >= 0:
                assert np.all(block.slots[slot] == (stamp // HOP) % 1000)
                assert stamp <= position
    assert n_taken > 100
    assert n_refused > 10
    assert n_slots > 100
    assert block.words[NODE_HEARTBEAT_NS] == 0
