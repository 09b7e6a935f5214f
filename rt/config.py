"""`stemrack.toml`: every setting of a live node, read once, checked at the edge."""

from __future__ import annotations

import inspect
import json
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..models.stems import STEMS
from .block import BUSES
from .errors import ConfigError
from .params import Fader, MixerState
from .recording import RecordSettings

RATE_LIMITS_HZ = (8_000, 192_000)
BLOCK_LIMIT = 8_192
ALLOWANCE_LIMIT = 65_536
LATENCY_LIMITS_S = (0.0, 2.0)
DEVICE_NUMBER_LIMIT = 9_999
COMMAND_LINE = "command line"


def _limit(key: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:  # nor is NaN
        raise ConfigError(f"{key} = {value}: must be {lowest:g} to {highest:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """[engine]: what separates. allowance_samples: time the worker has, 0 for the least that is safe.

    threads: in all, of the networks. keep_awake: processors never sleep, for machines that wake them late.
    """

    profile: str = "live"
    runner: str = "auto"
    weights: str = ""
    threads: int = 2
    allowance_samples: int = 0
    realtime: bool = True
    keep_awake: bool = False

    def __post_init__(self) -> None:
        _limit("threads", self.threads, 1, 64)
        _limit("allowance_samples", self.allowance_samples, 0, ALLOWANCE_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """[device]: where sound comes from and goes to. input and output: name, number, `default` or `none`.

    file: a sound file in place of the input.  rate_hz, block_samples: 0 for the device's own.
    """

    input: str | int = "default"
    output: str | int = "default"
    file: str = ""
    rate_hz: int = 0
    block_samples: int = 0
    latency: str | float = "low"
    input_channels: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if self.rate_hz:
            _limit("rate_hz", self.rate_hz, *RATE_LIMITS_HZ)
        _limit("block_samples", self.block_samples, 0, BLOCK_LIMIT)
        _channels("input_channels", self.input_channels, least=1)
        for key in ("input", "output"):
            device = getattr(self, key)
            if isinstance(device, int):
                _limit(key, device, 0, DEVICE_NUMBER_LIMIT)
            elif not device.strip():
                raise ConfigError(f"{key} = {device!r}: must be a device's name or number, default or none")
        if not isinstance(self.latency, str):
            _limit("latency", self.latency, *LATENCY_LIMITS_S)
        elif self.latency not in ("low", "high"):
            raise ConfigError(f"latency = {self.latency!r}: must be 'low', 'high' or seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsConfig:
    """[outputs]: channels of the device, from 1, for each bus; [] leaves it out, one makes it mono."""

    main: tuple[int, ...] = (1, 2)
    drums: tuple[int, ...] = ()
    bass: tuple[int, ...] = ()
    other: tuple[int, ...] = ()
    vocals: tuple[int, ...] = ()
    cue: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for bus in BUSES:
            channels = getattr(self, bus)
            _channels(bus, channels, least=0)
            for channel in channels:
                if taken.setdefault(channel, bus) != bus:
                    owner = taken[channel]
                    said = f"channel {channel} is {owner}'s: choose others, or {owner} = []"
                    raise ConfigError(f"{bus} = {list(channels)}: {said}")
        if not taken:
            raise ConfigError("main = []: at least one bus must have channels")

    @property
    def bus_channels(self) -> dict[str, tuple[int, int]]:
        """Channels from 0, left and right, of the buses that are connected."""
        return {bus: _pair(getattr(self, bus)) for bus in BUSES if getattr(self, bus)}

    @property
    def n_channels(self) -> int:
        """Channels the device must have."""
        return max(max(getattr(self, bus), default=0) for bus in BUSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaderConfig:
    """[mixer.STEM]: where a fader stands. pan: -1 left, 0 both as they are, 1 right."""

    gain_db: float = 0.0
    mute: bool = False
    solo: bool = False
    pan: float = 0.0

    def __post_init__(self) -> None:
        _ = self.fader(0.0)

    def fader(self, ramp_ms: float) -> Fader:
        """Return the fader as the engine takes it.  Raises: ConfigError for a value out of its limits."""
        return Fader(gain_db=self.gain_db, mute=self.mute, solo=self.solo, pan=self.pan, ramp_ms=ramp_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerConfig:
    """[mixer]: where the faders stand at the beginning. ramp_ms: of moves that name no time."""

    ramp_ms: float = 10.0
    ceiling_db: float = 0.0
    true_peak: bool = False
    master_db: float = 0.0
    cue_db: float = 0.0
    drums: FaderConfig = FaderConfig()
    bass: FaderConfig = FaderConfig()
    other: FaderConfig = FaderConfig()
    vocals: FaderConfig = FaderConfig()

    def __post_init__(self) -> None:
        _ = self.state

    @property
    def state(self) -> MixerState:
        """The faders as the engine takes them.  Raises: ConfigError for a value out of its limits."""
        faders = {stem: getattr(self, stem).fader(self.ramp_ms) for stem in STEMS}
        return MixerState(
            **faders,
            master_db=self.master_db,
            cue_db=self.cue_db,
            ceiling_db=self.ceiling_db,
            master_ramp_ms=self.ramp_ms,
            cue_ramp_ms=self.ramp_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """[control]: the port that the browser mixer, scripts and monitoring use; port 0: none.

    names: further host names of this machine.  origins: other sites whose pages may steer it.
    inputs, outputs: devices that clients may choose.  token: whether clients need one; then everybody else is
    nobody, without it everybody is an admin.  announce: tell the local network (mDNS).
    """

    host: str = "127.0.0.1"
    port: int = 8137
    token: bool = True
    token_file: str = ""
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    announce: bool = False
    max_clients: int = 64

    def __post_init__(self) -> None:
        _limit("port", self.port, 0, 65_535)
        _limit("max_clients", self.max_clients, 1, 1_000)
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError("tls_certificate and tls_key: give both files, or none")
        if not self.token and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ConfigError(
                f"token = false: only with a loopback host, not {self.host}; anybody could steer"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MidiConfig:
    """[midi]: controllers. ports: patterns of names, as in a shell; api: auto, alsa, jack, core or winmm."""

    ports: tuple[str, ...] = ()
    mapping: str = ""
    api: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectsConfig:
    """[effects]: chains before the faders. preset: name or .toml of the one to begin with; '' for none.

    presets, impulses: folders with presets of your own, and with impulse responses for convolution.
    plugin_folders: where `stemrack plugins scan` looks; [] for where plugins are installed.
    allowance_samples: more time for the worker while there are effects, and more delay; 0 for none.
    """

    preset: str = ""
    presets: str = ""
    impulses: str = ""
    plugin_folders: tuple[str, ...] = ()
    allowance_samples: int = 512

    def __post_init__(self) -> None:
        _limit("allowance_samples", self.allowance_samples, 0, ALLOWANCE_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole stemrack.toml."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    mixer: MixerConfig = field(default_factory=MixerConfig)
    recording: RecordSettings = field(default_factory=RecordSettings)
    control: ControlConfig = field(default_factory=ControlConfig)
    midi: MidiConfig = field(default_factory=MidiConfig)
    effects: EffectsConfig = field(default_factory=EffectsConfig)


def _channels(key: str, channels: tuple[int, ...], *, least: int) -> None:
    if not least <= len(channels) <= 2 or any(not 1 <= c <= 256 for c in channels):
        raise ConfigError(f"{key} = {list(channels)}: must be one or two channels, counted from 1")


def _pair(channels: tuple[int, ...]) -> tuple[int, int]:
    return channels[0] - 1, channels[-1] - 1


def pair_of(channels: tuple[int, ...]) -> tuple[int, int]:
    """Return left and right, from 0, of one or two channels counted from 1.

    >>> pair_of((3, 4)), pair_of((2,))
    ((2, 3), (1, 1))
    """
    return _pair(channels)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "text"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of channels" if int in get_args(hint) else "a list of texts"
    return names.get(hint, str(hint))


def _value(value: Any, hint: Any, where: str) -> Any:
    """Return a TOML value as the type of its field."""
    if value == "-inf" and hint is float:
        return -math.inf
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        kind = get_args(hint)[0]
        if all(_fits(v, kind) for v in value):
            return tuple(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if get_origin(hint) is tuple or not _fits(value, hint):
        raise ConfigError(f"{where} = {value!r}: must be {_words(hint)}")
    return float(value) if hint is float and isinstance(value, int) else value


def _build(kind: Any, values: Mapping[str, Any], base: Any, source: str, table: str) -> Any:
    """Return `base`, of dataclass `kind`, with the values of a table; errors name source, table and key."""
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    changed: dict[str, Any] = {}
    for key, value in values.items():
        inner = f"{table}.{key}" if table else key
        if key not in known:
            what = f"[{table}] has no key" if table else "there is no table"
            raise ConfigError(f"{source}: {what} '{key}': it knows {', '.join(sorted(known))}")
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{source}: {inner} = {value!r}: must be a table, [{inner}]")
            changed[key] = _build(hints[key], value, getattr(base, key), source, inner)
        else:
            changed[key] = _value(value, hints[key], f"{source}: [{table}] {key}")
    try:
        return replace(base, **changed)
    except ConfigError as error:
        said = str(error)
        raise error if said.startswith(source) else ConfigError(f"{source}: [{table}] {said}") from error


def parse_config(text: str, source: str) -> Config:
    """Return the configuration that a TOML text describes.  Raises: ConfigError with source, key, limit."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    return _build(Config, values, Config(), source, "")


def load_config(path: Path) -> Config:
    """Return the configuration in a file.  Raises: ConfigError."""
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8: save it as that") from error


def with_overrides(config: Config, values: Mapping[str, Any], source: str = COMMAND_LINE) -> Config:
    """Return the configuration with some values changed; keys are `table.key`, None changes nothing.

    >>> with_overrides(Config(), {"device.rate_hz": 48_000}).device.rate_hz
    48000
    """
    tables: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None:
            *parents, key = name.split(".")
            table = tables
            for parent in parents:
                table = table.setdefault(parent, {})
            table[key] = value
    return _build(Config, tables, config, source, "")


def config_text(config: Config) -> str:
    """Return the TOML of a configuration, with every key, and comments; `parse_config` gives it back."""
    lines: list[str] = []
    _write_table(lines, config, "")
    return "\n".join(lines).lstrip() + "\n"


def _write_table(lines: list[str], values: Any, name: str) -> None:
    plain = [f for f in fields(values) if not is_dataclass(getattr(values, f.name))]
    if plain:
        said = (inspect.getdoc(type(values)) or "").splitlines()
        lines += ["", *(f"# {line}" for line in said if line), f"[{name}]"]
        lines += [f"{f.name} = {_toml(getattr(values, f.name))}" for f in plain]
    for f in fields(values):
        if is_dataclass(getattr(values, f.name)):
            _write_table(lines, getattr(values, f.name), f"{name}.{f.name}" if name else f.name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return '"-inf"' if value == -math.inf else repr(value)
    if isinstance(value, int):
        return str(value)
    # JSON's escapes are TOML's, but JSON lets DEL stand as it is
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
