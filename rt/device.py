"""Audio devices by name, and streams whose callback is native; sounddevice's one home.

PortAudio can hang, and freezes its list of devices when it is first used: only the audio process and
short-lived children import this.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .errors import DeviceError


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ALSA and JACK print about devices that are not there off the terminal."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _quiet():
    import sounddevice

Kind = Literal["input", "output"]
KINDS: tuple[Kind, ...] = ("input", "output")

COMMON_RATES_HZ = (44_100, 48_000, 88_200, 96_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A device as PortAudio describes it; its latencies are reported, not measured."""

    index: int
    name: str
    host_api: str
    n_inputs: int
    n_outputs: int
    rate_hz: float
    low_latency_ms: tuple[float, float]
    """Input, output."""
    high_latency_ms: tuple[float, float]

    def has(self, kind: Kind) -> bool:
        """Return whether it has channels of this kind."""
        return (self.n_inputs if kind == "input" else self.n_outputs) > 0


def list_devices() -> list[DeviceInfo]:
    """Return the devices that were there when PortAudio last looked, each with a name of its own."""
    apis = [api["name"] for api in sounddevice.query_hostapis()]
    found = [
        DeviceInfo(
            index=index,
            name=d["name"],
            host_api=apis[d["hostapi"]],
            n_inputs=d["max_input_channels"],
            n_outputs=d["max_output_channels"],
            rate_hz=d["default_samplerate"],
            low_latency_ms=(1e3 * d["default_low_input_latency"], 1e3 * d["default_low_output_latency"]),
            high_latency_ms=(1e3 * d["default_high_input_latency"], 1e3 * d["default_high_output_latency"]),
        )
        for index, d in enumerate(sounddevice.query_devices())
    ]
    return with_own_names(found)


def with_own_names(devices: Sequence[DeviceInfo]) -> list[DeviceInfo]:
    """Return the devices with names that no other of the same kind has: devices are found again by name.

    Where several share one, the host API is added, and a number where that is not enough.
    """
    named = list(devices)
    for add in (lambda d, nth: f"{d.name}, {d.host_api}", lambda d, nth: f"{d.name} #{nth}"):
        counts = Counter((d.name, kind) for d in named for kind in KINDS if d.has(kind))
        seen: Counter[str] = Counter()
        for place, d in enumerate(named):
            if any(counts[d.name, kind] > 1 for kind in KINDS if d.has(kind)):
                seen[d.name] += 1
                named[place] = replace(d, name=add(d, seen[d.name]))
    return named


def default_index(kind: Kind) -> int:
    """Return the index of the system's default device; -1 if there is none."""
    return int(sounddevice.default.device[0 if kind == "input" else 1])


def refresh() -> None:
    """Have PortAudio look for devices again.  No stream may be open."""
    try:
        with _quiet():
            sounddevice._terminate()
            sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise DeviceError("PortAudio", f"does not start ({error})") from error


def find_device(wanted: str | int, kind: Kind) -> DeviceInfo:
    """Return a device by index, by name, by a part of its name that no other has, or the `default`.

    A number is a name only where no device has that index.

    Raises: DeviceError with the names there are.
    """
    return choose(list_devices(), wanted, kind, default_index(kind))


def choose(devices: Sequence[DeviceInfo], wanted: str | int, kind: Kind, default: int) -> DeviceInfo:
    """Return the device of a list that is wanted; see `find_device`."""
    able = [d for d in devices if d.has(kind)]
    if wanted == "default":
        wanted = default if default >= 0 else next((d.index for d in able), "default")
    text = str(wanted)
    index = int(text) if text.isdecimal() else -1
    numbered = next((d for d in devices if d.index == index), None)
    if numbered is not None:
        if not numbered.has(kind):
            raise DeviceError(text, f"is '{numbered.name}' and has no {kind}s; see `stemrack devices`")
        return numbered
    exact = [d for d in able if d.name == text]
    parts = [d for d in able if text.strip() and text.lower() in d.name.lower()]
    for found in (exact, parts):
        if len(found) == 1:
            return found[0]
    names = ", ".join(f"{d.index} '{d.name}'" for d in (parts or able)) or "none at all"
    if parts:
        raise DeviceError(text, f"means more than one {kind}: {names}; give its number or its whole name")
    raise DeviceError(text, f"is not among the {kind}s: {names}; see `stemrack devices`")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A stream to open: devices by index (None: without), channels, rate, block (0: any), latency wished."""

    input: int | None
    output: int | None
    rate_hz: int
    block_samples: int
    n_inputs: int
    n_outputs: int
    latency: Literal["low", "high"] | float = "low"


class Stream:
    """An open stream with a native callback.  Thread: one.

    Raises: DeviceError.  Call nothing here once callbacks have ceased: PortAudio can hang for ever.
    """

    def __init__(self, spec: StreamSpec, callback_address: int, userdata_address: int) -> None:
        ffi = sounddevice._ffi
        kind = "duplex" if spec.input is not None and spec.output is not None else "input"
        kind = "output" if spec.input is None else kind
        pairs = (spec.input, spec.output), (spec.n_inputs, spec.n_outputs)
        pick = {"duplex": slice(0, 2), "input": 0, "output": 1}[kind]
        self._spec = spec
        try:
            with _quiet():
                self._stream: Any = sounddevice._StreamBase(
                    kind=kind,
                    samplerate=spec.rate_hz,
                    blocksize=spec.block_samples,
                    device=pairs[0][pick],
                    channels=pairs[1][pick],
                    dtype="float32",
                    latency=spec.latency,
                    callback=ffi.cast("PaStreamCallback*", callback_address),
                    userdata=ffi.cast("void*", userdata_address),
                    clip_off=True,  # the callback keeps its own ceiling
                    dither_off=True,
                    extra_settings=None,
                    prime_output_buffers_using_stream_callback=None,
                    never_drop_input=None,
                )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(_name(spec), f"does not open ({error}); {_remedy(spec)}") from error

    def start(self) -> None:
        """Begin to call back."""
        self._tell("start")

    def stop(self) -> None:
        """Play what is buffered, then call back no more."""
        self._tell("stop")

    def close(self) -> None:
        """Give the device back."""
        self._tell("close")

    def _tell(self, what: Literal["start", "stop", "close"]) -> None:
        try:
            getattr(self._stream, what)()
        except sounddevice.PortAudioError as error:
            reason = f"does not {what} ({error}): is it in use elsewhere, or gone?"
            raise DeviceError(_name(self._spec), reason) from error

    @property
    def reported_latency_ms(self) -> Any:
        """PortAudio's own figure or pair of figures; not to be trusted."""
        latency = self._stream.latency
        return [1e3 * v for v in latency] if isinstance(latency, tuple) else 1e3 * latency


def open_stream(spec: StreamSpec, callback_address: int, userdata_address: int) -> Stream:
    """Return a stream that is open but not started.  Raises: DeviceError."""
    return Stream(spec, callback_address, userdata_address)


def _name(spec: StreamSpec) -> str:
    index = spec.output if spec.output is not None else spec.input
    try:
        return str(sounddevice.query_devices(index)["name"])
    except (sounddevice.PortAudioError, ValueError):
        return str(index)


def _remedy(spec: StreamSpec) -> str:
    taken = rates_taken(spec)
    if spec.rate_hz in taken:
        return f"{spec.rate_hz} Hz it takes: is it in use, or the block or latency not to its liking?"
    rates = ", ".join(map(str, taken))
    return f"it takes {rates} Hz" if rates else "it takes no common rate with these channels: ask for fewer"


def rates_taken(spec: StreamSpec) -> list[int]:
    """Return those of COMMON_RATES_HZ, and of the rate wished, that the devices say they take."""
    taken = []
    for rate_hz in sorted({*COMMON_RATES_HZ, spec.rate_hz}):
        try:
            if spec.output is not None:
                sounddevice.check_output_settings(spec.output, spec.n_outputs, "float32", samplerate=rate_hz)
            if spec.input is not None:
                sounddevice.check_input_settings(spec.input, spec.n_inputs, "float32", samplerate=rate_hz)
        except (sounddevice.PortAudioError, ValueError):
            continue
        taken.append(rate_hz)
    return taken


def print_devices() -> None:
    """Print all devices as JSON: what `ask_devices` reads."""
    found = {kind: default_index(kind) for kind in ("input", "output")}
    print(json.dumps({"devices": [asdict(d) for d in list_devices()], "default": found}))


if __name__ == "__main__":
    print_devices()
