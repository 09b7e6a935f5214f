"""A JACK client that feeds another client's inputs and records its outputs, to the sample."""

import ctypes
import multiprocessing
import os
import re
import signal
import threading
from ctypes.util import find_library

import numpy as np
from jack_server import wait_until

ARMED, POSITION, N_FEED, N_RECORD, N_FEED_CHANNELS, N_RECORD_CHANNELS = range(6)
FEED_ADDRESS, RECORD_ADDRESS, CLIENT, NEXT_FRAME = range(6, 10)
N_XRUNS, N_LOST, N_CALLBACKS, N_GAPS = range(10, 14)
OUT_PORTS, IN_PORTS, GAPS = 16, 48, 80
MOST_GAPS, N_TAP_WORDS = 64, 256


class JackTap:
    """A client in a process of its own that feeds ports of another client and records its outputs.

    Sample k of the feed goes out in the same period in which sample k is recorded. Both directions run on
    one native callback, so no Python can disturb them. A path from tap to tap is a loop in JACK's graph and
    costs one period; what the other client adds comes on top.
    Shape: feed (channel, sample), recorded (channel, sample).
    """

    def __init__(self, server, feed, n_record_channels, seconds, name="tap"):
        feed = np.atleast_2d(np.asarray(feed, np.float32))
        n_record = round(seconds * server.rate_hz)
        context = multiprocessing.get_context("spawn")
        words = context.RawArray(ctypes.c_int64, N_TAP_WORDS)
        fed = context.RawArray(ctypes.c_float, max(1, feed.size))
        record = context.RawArray(ctypes.c_float, n_record_channels * n_record)
        self._words = np.frombuffer(words, np.int64)
        self._words[[N_FEED, N_RECORD]] = feed.shape[1], n_record
        self._words[[N_FEED_CHANNELS, N_RECORD_CHANNELS]] = feed.shape[0], n_record_channels
        np.frombuffer(fed, np.float32)[: feed.size] = feed.ravel()
        self._record = np.frombuffer(record, np.float32).reshape(n_record_channels, n_record)
        self._rate_hz = server.rate_hz
        self._pipe, theirs = context.Pipe()
        given = server.name, name, words, fed, record, theirs
        self._process = context.Process(target=_tap_main, args=given, daemon=True)
        self._process.start()
        theirs.close()
        self.name = self._answer(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self, client_part="PortAudio", timeout_s=10):
        """Take the place of the device at the client whose name has this part, and return its name.

        Waits until its stream has started, that is until all its ports are connected to something.
        """
        self._pipe.send((client_part, timeout_s))
        return self._answer(timeout_s + 5)

    def connect_to_itself(self):
        """Connect own outputs to own inputs."""
        self._pipe.send((None, 0))
        return self._answer(5)

    def run(self):
        """Begin to feed and to record, both at sample 0; once all is recorded, begin again."""
        if self._words[ARMED] and not self._full():
            raise RuntimeError(f"the tap is at sample {self.position} of {self._words[N_RECORD]}; wait first")
        self._words[ARMED] = 0
        self._record[:] = 0.0
        self._words[[POSITION, N_XRUNS, N_LOST, N_GAPS]] = 0
        self._words[ARMED] = 1

    def wait(self, timeout_s=None):
        """Return what was recorded, once all of it is there."""
        n_left = int(self._words[N_RECORD] - self.position)
        limit_s = n_left / self._rate_hz + 5 if timeout_s is None else timeout_s
        wait_until(lambda: self._full() or not self._process.is_alive(), limit_s)
        if not self._full():
            raise RuntimeError(f"the tap stood still at sample {self.position} of {self._words[N_RECORD]}")
        return self.recorded

    def _full(self):
        return self.position >= self._words[N_RECORD]

    @property
    def position(self):
        """Samples fed and recorded so far."""
        return int(self._words[POSITION])

    @property
    def recorded(self):
        """A copy of what is recorded so far."""
        return self._record[:, : min(self.position, self._record.shape[1])].copy()

    @property
    def n_xruns(self):
        """Xruns that JACK reported to this client since `run`."""
        return int(self._words[N_XRUNS])

    @property
    def gaps(self):
        """(position, samples lost there) where JACK's clock went on without calling this client."""
        pairs = self._words[GAPS : GAPS + 2 * min(MOST_GAPS, self._words[N_GAPS])]
        return [(int(a), int(b)) for a, b in pairs.reshape(-1, 2)]

    @property
    def n_lost(self):
        """Samples in all gaps together."""
        return int(self._words[N_LOST])

    def close(self):
        """End the client; a dead server does not stop this."""
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self, timeout_s):
        if not self._pipe.poll(timeout_s):
            raise RuntimeError(f"the tap did not answer in {timeout_s} s")
        try:
            good, text = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the tap's process is gone") from None
        if not good:
            raise RuntimeError(text)
        return text


def _native_callbacks():
    """The callbacks, compiled; libjack's symbols must be in reach, so this is no work for an import."""
    from stemrack.rt.atomics import carray, cfunc, external, store, types, view_f32

    ctypes.CDLL(find_library("jack"), mode=ctypes.RTLD_GLOBAL)
    get_buffer = external("jack_port_get_buffer", types.CPointer(types.float32)(types.intp, types.uint32))
    last_frame = external("jack_last_frame_time", types.uint32(types.intp))
    options = {"error_model": "numpy", "cache": True}

    @cfunc(types.int32(types.uint32, types.CPointer(types.int64)), **options)
    def process(n_frames, state):
        w = carray(state, (N_TAP_WORDS,))
        n = np.int64(n_frames)
        w[N_CALLBACKS] += 1
        at = w[POSITION]
        running = w[ARMED] != 0 and at < w[N_RECORD]
        frame = np.int64(last_frame(w[CLIENT]))
        if running and at > 0 and frame != w[NEXT_FRAME]:
            lost = (frame - w[NEXT_FRAME]) & 0xFFFFFFFF
            w[N_LOST] += lost
            if w[N_GAPS] < MOST_GAPS:
                w[GAPS + 2 * w[N_GAPS]], w[GAPS + 2 * w[N_GAPS] + 1] = at, lost
            w[N_GAPS] += 1
        w[NEXT_FRAME] = (frame + n) & 0xFFFFFFFF
        feed = view_f32(w[FEED_ADDRESS], (w[N_FEED_CHANNELS], w[N_FEED]))
        record = view_f32(w[RECORD_ADDRESS], (w[N_RECORD_CHANNELS], w[N_RECORD]))
        n_fed = min(n, max(0, w[N_FEED] - at)) if running else 0
        for c in range(w[N_FEED_CHANNELS]):
            out = carray(get_buffer(w[OUT_PORTS + c], n_frames), (n,))
            for i in range(n_fed):
                out[i] = feed[c, at + i]
            for i in range(n_fed, n):
                out[i] = 0.0
        n_taken = min(n, w[N_RECORD] - at) if running else 0
        for c in range(w[N_RECORD_CHANNELS]):
            heard = carray(get_buffer(w[IN_PORTS + c], n_frames), (n,))
            for i in range(n_taken):
                record[c, at + i] = heard[i]
        if running:
            store(w, POSITION, at + n)
        return np.int32(0)

    @cfunc(types.int32(types.CPointer(types.int64)), **options)
    def xrun(state):
        carray(state, (N_TAP_WORDS,))[N_XRUNS] += 1
        return np.int32(0)

    return process, xrun


def _tap_main(server_name, name, words, fed, record, pipe):
    import jack

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ffi, lib = jack._ffi, jack._lib
    process, xrun = _native_callbacks()
    w = np.frombuffer(words, np.int64)
    try:
        client = jack.Client(name, no_start_server=True, servername=server_name)
    except jack.JackError as error:
        pipe.send((False, f"no client on {server_name}: {error}"))
        return
    outs = [client.outports.register(f"out_{c}") for c in range(w[N_FEED_CHANNELS])]
    ins = [client.inports.register(f"in_{c}") for c in range(w[N_RECORD_CHANNELS])]
    w[FEED_ADDRESS], w[RECORD_ADDRESS] = ctypes.addressof(fed), ctypes.addressof(record)
    w[CLIENT] = int(ffi.cast("intptr_t", client._ptr))
    for start, ports in ((OUT_PORTS, outs), (IN_PORTS, ins)):
        w[start : start + len(ports)] = [int(ffi.cast("intptr_t", p._ptr)) for p in ports]
    state = ffi.cast("void*", w.ctypes.data)
    lib.jack_set_process_callback(client._ptr, ffi.cast("JackProcessCallback", process.address), state)
    lib.jack_set_xrun_callback(client._ptr, ffi.cast("JackXRunCallback", xrun.address), state)
    client.activate()
    pipe.send((True, client.name))
    while True:
        try:
            part, timeout_s = pipe.recv()
        except EOFError:
            threading.Timer(1.0, os._exit, [0]).start()  # a client whose server has died may hang in close
            client.close()
            os._exit(0)
        try:
            pipe.send(_connect(client, outs, ins, part, timeout_s))
        except jack.JackError as error:
            pipe.send((False, f"cannot connect: {error}"))


def _connect(client, outs, ins, part, timeout_s):
    """Replace what feeds the client found; return (whether it worked, its name or what is wrong)."""
    if part is None:
        for out, own in zip(outs, ins, strict=False):
            client.connect(out, own)
        return True, client.name
    found = wait_until(lambda: _started(client, part), timeout_s)
    if len(found) != 1:
        there = sorted({p.name for p in client.get_ports()})
        return False, f"{len(found)} started clients have '{part}' in their name; ports: {', '.join(there)}"
    ((name, ports),) = found.items()
    theirs_in, theirs_out = [p for p in ports if p.is_input], [p for p in ports if p.is_output]
    for port in theirs_in:
        for source in client.get_all_connections(port):
            client.disconnect(source, port)
    for out, port in zip(outs, theirs_in, strict=False):
        client.connect(out, port)
    for own, port in zip(ins, theirs_out, strict=False):
        client.connect(port, own)
    return True, name


def _started(client, part):
    """Clients with this part in their name, all of whose ports are connected, with their ports in order."""
    clients = {}
    for port in client.get_ports(is_audio=True):
        name = port.name.split(":")[0]
        if part in name and name != client.name:
            clients.setdefault(name, []).append(port)
    ordered = {n: sorted(ports, key=_number) for n, ports in clients.items()}
    return {n: ports for n, ports in ordered.items() if all(map(client.get_all_connections, ports))}


def _number(port):
    return [int(digits) for digits in re.findall(r"\d+", port.shortname)]
