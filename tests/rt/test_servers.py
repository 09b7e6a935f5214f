"""The servers that other tests build on: what PortAudio plays through them is what went in."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from jack_server import JackServer, missing_for_jack, wait_until
from jack_tap import JackTap
from pulse_server import PulseServer, missing_for_pulse

pytestmark = pytest.mark.realtime

needs_jack = pytest.mark.skipif(bool(missing_for_jack()), reason=missing_for_jack() or "-")
needs_pulse = pytest.mark.skipif(bool(missing_for_pulse()), reason=missing_for_pulse() or "-")

RATE_HZ, PERIOD = 44_100, 256

COPY = """
import json, sys
import numpy as np, sounddevice as sd
from stemrack.rt.atomics import carray, cfunc, types

@cfunc(types.int32(types.CPointer(types.float32), types.CPointer(types.float32), types.ulong,
                   types.voidptr, types.ulong, types.CPointer(types.int64)), error_model="numpy")
def copy(heard, played, n, time, flags, base):
    words = carray(base, (4,))
    x, y = carray(heard, (np.int64(n), words[0])), carray(played, (np.int64(n), words[1]))
    for i in range(np.int64(n)):
        for c in range(words[1]):
            y[i, c] = x[i, c % words[0]]
    words[2] += 1
    words[3] += 1 if flags else 0
    return np.int32(0)

i, o, n_out = sys.argv[1], sys.argv[2], int(sys.argv[3])
names = [d["name"] for d in sd.query_devices()]
words = np.array([2, n_out, 0, 0])
stream = sd._StreamBase(
    kind="duplex", samplerate=int(sys.argv[4]), blocksize=0, device=(names.index(i), names.index(o)),
    channels=(2, n_out), dtype="float32", latency="low",
    callback=sd._ffi.cast("PaStreamCallback*", copy.address),
    userdata=sd._ffi.cast("void*", words.ctypes.data),
    clip_off=True, dither_off=True, extra_settings=None,
    prime_output_buffers_using_stream_callback=None, never_drop_input=None)
stream.start()
print("started", flush=True)
sys.stdin.read()
stream.stop()
stream.close()
print(json.dumps({"callbacks": int(words[2]), "flagged": int(words[3])}), flush=True)
"""

LIST = "import json, sounddevice as sd; print(json.dumps([(d['name'], d['max_input_channels']," + (
    " d['max_output_channels']) for d in sd.query_devices()]))"
)


def devices_seen(server):
    command = [sys.executable, "-c", LIST]
    return json.loads(subprocess.check_output(command, env=os.environ | server.environment, timeout=30))


@contextmanager
def copying(server, device_in="system", device_out="system", n_outputs=8):
    """A process that plays what it hears; yields a dict that holds its counters afterwards."""
    command = [sys.executable, "-c", COPY, device_in, device_out, str(n_outputs), str(RATE_HZ)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=os.environ | server.environment, **pipes)
    counters = {}
    try:
        assert process.stdout.readline() == "started\n"
        yield counters
        counters |= json.loads(process.communicate("", timeout=10)[0])
    finally:
        process.kill()
        process.communicate()


def noise(n, n_channels=2, seed=5):
    return (0.25 * np.random.default_rng(seed).standard_normal((n_channels, n))).astype(np.float32)


def undisturbed(tap, attempts=30):
    """What a tap records in its first run in which JACK itself loses no period to a busy machine."""
    for _ in range(attempts):
        tap.run()
        y = tap.wait()
        if (tap.n_xruns, tap.gaps) == (0, []):
            return y
    pytest.fail(f"JACK lost periods in each of {attempts} takes: the machine is too busy for this test")


def delay_of(x, y):
    """Samples by which y lags x, by their correlation."""
    size = 1 << (x.size + y.size).bit_length()
    c = np.fft.irfft(np.conj(np.fft.rfft(x, size)) * np.fft.rfft(y, size), size)
    return int(np.argmax(c[: y.size]))


def leftovers(server):
    """Files of a server in shared memory; JACK's table of servers is one if it names it."""
    named = [p.name for p in Path("/dev/shm").iterdir() if server.name in p.name]
    table = Path("/dev/shm/jack-shm-registry")
    return named + [table.name] * (table.exists() and f":{server.name}:".encode() in table.read_bytes())


@pytest.fixture(scope="module")
def jack():
    with JackServer(period=PERIOD) as server:
        yield server


@needs_jack
def test_jack_shows_portaudio_one_device_named_system(jack):
    assert devices_seen(jack) == [["system", 2, 8]]


@needs_jack
def test_tap_records_what_it_feeds_itself_in_the_same_period(jack):
    x = noise(RATE_HZ // 2)
    with JackTap(jack, x, 2, 1.0) as tap:
        tap.connect_to_itself()
        y = undisturbed(tap)
        assert (tap.n_lost, tap.gaps) == (0, [])
    assert y.shape == (2, RATE_HZ)
    assert np.array_equal(y[:, : x.shape[1]], x)
    assert not y[:, x.shape[1] :].any()


@needs_jack
@pytest.mark.parametrize("synchronous", [False, True])
def test_portaudio_over_jack_gives_back_every_bit(synchronous):
    x = noise(RATE_HZ // 2)
    server = JackServer(period=PERIOD, synchronous=synchronous)
    with server, copying(server) as counters, JackTap(server, x, 8, 0.7) as tap:
        assert tap.connect().startswith("PortAudio")
        y = undisturbed(tap)
    delay = delay_of(x[0], y[0])
    assert delay == PERIOD
    for channel in range(8):
        assert np.array_equal(y[channel, delay : delay + x.shape[1]], x[channel % 2]), channel
    assert not y[:, :delay].any()
    assert counters["callbacks"] >= 0.7 * RATE_HZ / PERIOD


@needs_jack
def test_tap_says_which_ports_there_are_when_no_client_fits(jack):
    with JackTap(jack, noise(64), 1, 0.1) as tap, pytest.raises(RuntimeError, match=r"nobody.*system:capt"):
        tap.connect("nobody", timeout_s=0.2)


@needs_jack
def test_a_killed_jack_server_comes_back_under_its_name_and_leaves_nothing():
    x = noise(4096)
    with JackServer(period=PERIOD) as server:
        with JackTap(server, x, 1, 0.1) as orphan:
            server.kill()
            assert leftovers(server)
            orphan.run()
            with pytest.raises(RuntimeError, match="stood still at sample"):
                orphan.wait(timeout_s=0.3)
        server.restart()
        with copying(server, n_outputs=2), JackTap(server, x, 2, 0.3) as tap:
            tap.connect()
            y = undisturbed(tap)
        server.kill()
    delay = delay_of(x[0], y[0])
    assert np.array_equal(y[:, delay : delay + x.shape[1]], x)
    assert not leftovers(server)


@needs_jack
def test_a_jack_server_that_cannot_come_up_says_what_it_said():
    server = JackServer(period=-1)
    with pytest.raises(RuntimeError, match=r"(?s)did not come up; it said:.*jackdmp"), server:
        pass
    assert not leftovers(server)


@pytest.fixture(scope="module")
def pulse():
    with PulseServer({"stemrack_a": RATE_HZ, "stemrack_b": RATE_HZ}) as server:
        yield server


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("pulse") / "noise.wav"
    quiet = np.zeros((2, RATE_HZ // 2), np.float32)  # the first samples of a stream may get lost
    soundfile.write(path, np.hstack([quiet, noise(RATE_HZ)]).T, RATE_HZ, subtype="FLOAT")
    return path


@needs_pulse
def test_portaudio_sees_each_pulse_sink_and_what_it_plays(pulse):
    names = [name for name, _, _ in devices_seen(pulse)]
    assert names == ["stemrack_a", "stemrack_a_monitor", "stemrack_b", "stemrack_b_monitor"]


@needs_pulse
def test_a_pulse_sink_plays_every_bit_to_its_recording(pulse, wav):
    with pulse.record("stemrack_a") as recording:
        assert pulse.play(wav, "stemrack_a").wait(10) == 0
        y = heard_in(recording)
    delay = delay_of(noise(RATE_HZ)[0], y[0])
    assert np.array_equal(y[:, delay : delay + RATE_HZ], noise(RATE_HZ))


@needs_pulse
def test_portaudio_carries_sound_from_one_pulse_sink_to_another(pulse, wav):
    copies = copying(pulse, "stemrack_a_monitor", "stemrack_b", n_outputs=2)
    with copies as counters, pulse.record("stemrack_b") as recording:
        assert pulse.play(wav, "stemrack_a").wait(10) == 0
        y = heard_in(recording)
    # Two sinks, two clocks: a busy machine makes the stream between slip, but its pieces stay whole.
    pieces = noise(RATE_HZ)[0].reshape(30, -1)
    delays = [delay_of(piece, y[0]) for piece in pieces]
    whole = [np.array_equal(p, y[0, d : d + p.size]) for p, d in zip(pieces, delays, strict=True)]
    assert sum(whole) >= 15
    assert counters["callbacks"] > 0


@needs_pulse
def test_a_killed_pulse_server_comes_back(wav):
    with PulseServer({"stemrack_c": 48_000}) as server:
        server.restart()
        names = [name for name, _, _ in devices_seen(server)]
    assert names == ["stemrack_c", "stemrack_c_monitor"]


def heard_in(recording):
    """What is recorded once the second of noise and some silence after it are there."""

    def over():
        loud = np.flatnonzero(recording.samples[0])
        return loud.size and recording.samples.shape[1] > loud[-1] + 4096

    assert wait_until(over, 5, step_s=0.1)
    return recording.samples
