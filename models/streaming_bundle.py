"""Third-party streaming networks: what a bundle's manifest says, where bundles lie, how they are imported.

A bundle is an ONNX file with explicit state and a manifest, `NAME.bundle.toml` or `NAME.bundle.json`, in
the same folder (`docs/bundle-template.toml` explains every key). The file steps by one hop:

    (mixture, state, ...) -> (stems, next state, ...)
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError, SpecError, WeightsError
from .stems import MODEL_RATE_HZ, STEMS

if TYPE_CHECKING:
    from .bundle_check import BundleReport

ENDINGS = (".bundle.toml", ".bundle.json")
PREFIX = "bundle:"
"""What a profile's name begins with that means an installed bundle."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LARGEST_HOP = 1 << 16
LARGEST_LATENCY = 60 * MODEL_RATE_HZ
LARGEST_STATE = 1 << 28
"""Values in a state."""
_REQUIRED = ("name", "file", "sha256", "hop", "latency_samples", "licence", "url")
_OPTIONAL = ("window_samples", "rate_hz", "input", "output", "stems", "residual", "states")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleState:
    """One state of a graph: the input that takes it, the output that gives the next one."""

    input: str
    output: str
    shape: tuple[int, ...]
    initial: float | str = 0.0
    """A value for all of it, or the name of a .npy file beside the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleManifest:
    """What is known of a bundle before its graph is opened.  Stands for a `profiles.Profile` in the host.

    Raises: SpecError for values that cannot work.
    """

    name: str
    file: str
    """The ONNX file, relative to the manifest's folder."""
    sha256: str
    hop: int
    latency_samples: int
    window_samples: int
    """What must have gone in, from a sample on, before its answer is out: latency and hop at least. At the
    end of a stream silence is fed until the window of the last sample is full."""
    licence: str
    url: str
    rate_hz: int = MODEL_RATE_HZ
    input: str = "audio_chunk"
    output: str = "separated_chunk"
    stems: tuple[str, ...] = ("drums", "bass", "vocals", "other")
    """What the output holds, in its order; stems that it lacks are silent, or the residual."""
    residual: str | None = None
    """The stem that is computed as the mixture minus the others, whatever the graph says of it."""
    states: tuple[BundleState, ...] = ()
    """Empty: every input but the mixture, with its output `next_<input>`, zero at the start."""
    folder: Path = Path()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise SpecError(f"name '{self.name}': use small letters, digits, dot, dash and underscore")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise SpecError("sha256 must be the 64 small hexadecimal digits that `sha256sum` prints")
        if self.rate_hz != MODEL_RATE_HZ:
            raise SpecError(f"rate_hz is {self.rate_hz}: only networks for {MODEL_RATE_HZ} Hz can run")
        if not 1 <= self.hop <= LARGEST_HOP:
            raise SpecError(f"hop must be 1 to {LARGEST_HOP} samples, got {self.hop}")
        if not 0 <= self.latency_samples <= LARGEST_LATENCY:
            raise SpecError(f"latency_samples must be 0 to {LARGEST_LATENCY}, got {self.latency_samples}")
        least = self.latency_samples + self.hop
        if not least <= self.window_samples <= 2 * LARGEST_LATENCY:
            raise SpecError(
                f"window_samples is {self.window_samples}: the sound of a window comes out after latency and "
                f"hop, so it is {least} at least"
            )
        strange = [stem for stem in self.stems if stem not in STEMS]
        if strange or not self.stems or len(set(self.stems)) < len(self.stems):
            raise SpecError(f"stems must name some of {', '.join(STEMS)}, each once, got {list(self.stems)}")
        if self.residual is not None and (self.residual not in STEMS or self.stems == (self.residual,)):
            raise SpecError(f"residual must name one of {', '.join(STEMS)} beside others in stems")
        for file in (self.file, *(s.initial for s in self.states if isinstance(s.initial, str))):
            _check_inside(file)

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return self.folder / self.file

    @property
    def window_latency_ms(self) -> float:
        """Length of the window: the figure to compare with other profiles'."""
        return 1000.0 * self.window_samples / MODEL_RATE_HZ


def _check_inside(file: str) -> None:
    """Refuse a path that could leave the manifest's folder on any system."""
    path = PureWindowsPath(file)  # knows drives, and both slashes
    if path.anchor or ".." in path.parts or not path.parts:
        raise SpecError(f"'{file}' must be the path of a file below the manifest's folder")


def parse_manifest(text: str, source: str, folder: Path = Path()) -> BundleManifest:
    """Return the manifest that a text describes: JSON if `source` ends in .json, else TOML.

    Raises: SpecError with source and key.
    """
    form = "JSON" if source.endswith(".json") else "TOML"
    try:
        data = json.loads(text) if form == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{source} is not {form}: {error}") from error
    if not isinstance(data, dict):
        raise SpecError(f"{source} must be a table of keys")
    unknown = sorted(set(data) - {*_REQUIRED, *_OPTIONAL})
    missing = [key for key in _REQUIRED if key not in data]
    if unknown or missing:
        raise SpecError(
            f"{source}: missing {missing}, unknown {unknown}; required are {', '.join(_REQUIRED)}, "
            f"possible {', '.join(_OPTIONAL)}"
        )
    try:
        return _manifest(data, folder)
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from error


def _manifest(data: Mapping[str, Any], folder: Path) -> BundleManifest:
    given: dict[str, Any] = {"folder": folder}
    for key in data.keys() - {"states", "stems"}:
        kind = int if key in ("hop", "latency_samples", "window_samples", "rate_hz") else str
        given[key] = _typed(data, key, kind)
    given.setdefault("window_samples", given["hop"] + given["latency_samples"])
    if "stems" in data:
        given["stems"] = tuple(_list(data, "stems", str))
    given["states"] = tuple(_state(table) for table in _list(data, "states", dict))
    names = [name for state in given["states"] for name in (state.input, state.output)]
    if len(set(names)) < len(names):
        raise SpecError("states: an input or an output is named twice")
    return BundleManifest(**given)


def _state(table: Mapping[str, Any]) -> BundleState:
    unknown = sorted(set(table) - {"input", "output", "shape", "initial"})
    if unknown or not {"input", "shape"} <= table.keys():
        raise SpecError(f"states: each has input, shape and, if need be, output and initial; see {unknown}")
    name = _typed(table, "input", str)
    shape = tuple(_list(table, "shape", int))
    if any(size < 1 for size in shape) or _product(shape) > LARGEST_STATE:
        raise SpecError(f"states: shape {list(shape)} of '{name}' has a size below 1, or is too large")
    initial = table.get("initial", 0.0)
    if isinstance(initial, bool) or not isinstance(initial, int | float | str):
        raise SpecError(f"states: initial of '{name}' is a number or the name of a .npy file")
    if not isinstance(initial, str):
        initial = float(initial)
        if not np.isfinite(np.float32(initial)):
            raise SpecError(f"states: initial of '{name}' is no finite number")
    output = _typed(table, "output", str) if "output" in table else f"next_{name}"
    return BundleState(input=name, output=output, shape=shape, initial=initial)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _typed(data: Mapping[str, Any], key: str, kind: type) -> Any:
    value = data[key]
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        raise SpecError(f"{key} must be {'a whole number' if kind is int else 'a text'}, got {value!r}")
    return value


def _list(data: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values = data.get(key, [])
    if not isinstance(values, list) or not all(type(v) is kind for v in values):
        words = {int: "whole numbers", str: "texts", dict: "tables"}
        raise SpecError(f"{key} must be a list of {words[kind]}")
    return values


def read_manifest(path: Path) -> BundleManifest:
    """Return the manifest of a file.  Raises: SpecError, also when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read as a bundle's manifest: {error}") from error
    return parse_manifest(text, str(path), path.parent)


def is_bundle(profile: str) -> bool:
    """Return whether a profile's name or path means a bundle."""
    return profile.startswith(PREFIX) or profile.endswith(ENDINGS)


def find_bundle(name_or_path: str, home: Path | None = None) -> Path:
    """Return the manifest's file of `bundle:NAME` in a folder of bundles, or of a path.

    Raises: SpecError when there is none.
    """
    if not name_or_path.startswith(PREFIX):
        path = Path(name_or_path)
        if not name_or_path.endswith(ENDINGS) or not path.is_file():
            raise SpecError(f"no bundle at {path}: name a file that ends in {' or '.join(ENDINGS)}")
        return path
    name = name_or_path.removeprefix(PREFIX)
    if home is None:
        raise SpecError(f"'{name_or_path}' needs the folder of installed bundles: name its manifest's file")
    path = home / name / f"{name}.bundle.json"
    if not NAME.fullmatch(name) or not path.is_file():
        there = ", ".join(installed_bundles(home)) or "none"
        raise SpecError(
            f"no bundle '{name}': installed: {there}; `stemrack models import FILE.bundle.toml` adds one"
        )
    return path


def installed_bundles(home: Path) -> list[str]:
    """Return the names of the bundles in a folder of bundles."""
    return sorted(
        path.parent.name for path in home.glob("*/*.bundle.json") if NAME.fullmatch(path.parent.name)
    )


def check_file(manifest: BundleManifest) -> None:
    """Hold the ONNX file to the manifest's sha256.  Raises: WeightsError."""
    real = manifest.path.resolve()
    if not real.is_relative_to(manifest.folder.resolve()):
        raise WeightsError(f"{manifest.path} is a link that leaves the manifest's folder: put the file there")
    try:
        with real.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{manifest.path}: cannot be read ({error.strerror}): fetch it from {manifest.url}"
        ) from error
    if found != manifest.sha256:
        raise WeightsError(
            f"{manifest.path} is not the file that the manifest describes: its sha256 is {found}; "
            f"fetch it anew from {manifest.url}"
        )


def initial_state(manifest: BundleManifest, state: BundleState) -> np.ndarray:
    """Return the first value of a state, float32.  Raises: SpecError for a .npy that does not fit."""
    if not isinstance(state.initial, str):
        return np.full(state.shape, state.initial, np.float32)
    path = (manifest.folder / state.initial).resolve()
    if not path.is_relative_to(manifest.folder.resolve()):
        raise SpecError(f"initial '{state.initial}' is a link that leaves the manifest's folder")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpecError(f"initial '{state.initial}' cannot be read as .npy: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.shape != state.shape:
        raise SpecError(f"initial '{state.initial}' must be float32 {list(state.shape)}")
    if not np.isfinite(array).all():
        raise SpecError(f"initial '{state.initial}' holds values that are not finite")
    return array


def import_bundle(manifest_path: Path, home: Path) -> BundleReport:
    """Check a bundle, install it as home/NAME and return what was found; an older one is replaced.

    home: folder of bundles.  The installed manifest is JSON and names every state.
    Raises: SpecError, WeightsError and StreamingError, each with what to do next; nothing is installed then.
    """
    from .bundle_check import check_bundle
    from .bundle_step import BundleStep

    manifest = read_manifest(manifest_path)
    step = BundleStep(manifest)
    report = check_bundle(step)
    folder = home / f".{manifest.name}.{secrets.token_hex(4)}.unfinished"
    old, target = folder.with_suffix(".old"), home / manifest.name
    try:
        folder.mkdir(parents=True)
        _write(replace(manifest, states=step.states), step, folder)
        check_file(replace(manifest, file=f"{manifest.name}.onnx", folder=folder))
        if target.exists():
            target.rename(old)
        folder.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise ModelError(f"{home}: the bundle cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return report


def _write(manifest: BundleManifest, step: Any, folder: Path) -> None:
    shutil.copyfile(manifest.path, folder / f"{manifest.name}.onnx")
    states = []
    for i, (state, value) in enumerate(zip(manifest.states, step.initial, strict=True)):
        initial = state.initial
        if isinstance(initial, str):
            initial = f"initial_{i}.npy"
            np.save(folder / initial, value)
        states.append(asdict(replace(state, initial=initial)))
    table = {**asdict(manifest), "file": f"{manifest.name}.onnx", "states": states}
    del table["folder"]
    if manifest.residual is None:
        del table["residual"]
    target = folder / f"{manifest.name}.bundle.json"
    target.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
