"""Scanning for plugins: each is opened in a throw-away process with a time limit, and entered or refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chains import Insert
from .errors import ConfigError
from .plugin_registry import Plugin, Registry, Stamp, free_key, plugin_of, plugin_values, stamp_of

LIMIT_S = 20.0
PROBE = "stemrack.rt.plugin_probe"
END_S = 5.0
"""How long an editor that was asked to end may take to tell its state."""
SUFFIXES = {".vst3": "VST3", ".component": "Audio Unit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a throw-away process told. trouble: why it told no more; empty if all went well."""

    facts: dict[str, Any]
    trouble: str = ""


def usual_folders() -> list[Path]:
    """Return where plugins are installed on this system."""
    home = Path.home()
    if sys.platform == "darwin":
        roots = [home / "Library/Audio/Plug-Ins", Path("/Library/Audio/Plug-Ins")]
        return [root / kind for root in roots for kind in ("VST3", "Components")]
    if os.name == "nt":
        return [Path(os.environ.get("COMMONPROGRAMFILES", "C:/Program Files/Common Files")) / "VST3"]
    return [home / ".vst3", Path("/usr/local/lib/vst3"), Path("/usr/lib/vst3")]


def plugin_files(folders: Sequence[Path]) -> list[Path]:
    """Return the plugin files and bundles in folders and below, by real path; one may be given itself."""
    found: dict[Path, None] = {}
    for folder in folders:
        for path in _within(folder.expanduser()):
            found.setdefault(path.resolve(), None)
    return list(found)


def _within(path: Path) -> Iterator[Path]:
    if path.suffix.lower() in _suffixes():
        if path.exists():
            yield path
        return
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            if inner.suffix.lower() in _suffixes() or (inner.is_dir() and not inner.is_symlink()):
                yield from _within(inner)


def _suffixes() -> list[str]:
    return list(SUFFIXES) if sys.platform == "darwin" else [".vst3"]


def scan(
    before: Registry,
    folders: Sequence[Path],
    *,
    limit_s: float = LIMIT_S,
    again: bool = False,
    progress: Callable[[Path, int, int], None] = lambda path, done, total: None,
) -> Registry:
    """Return the registry with the plugins in folders; unchanged files are opened only `again`.

    Entries of other folders stay while their file is there. `progress` is told the file that comes next, how
    many are done, and how many there are.
    """
    files = plugin_files(folders)
    kept = [p for p in before.plugins if Path(p.path) not in files and Path(p.path).exists()]
    known: dict[Path, list[Plugin]] = {}
    for plugin in before.plugins:
        known.setdefault(Path(plugin.path), []).append(plugin)
    for done, path in enumerate(files):
        progress(path, done, len(files))
        present = known.get(path, [])
        stamp = stamp_of(path)
        if stamp is None:
            continue
        if present and not again and all(p.stamp == stamp for p in present):
            kept += present
        else:
            kept += _scanned(path, stamp, limit_s, present, kept + _later(known, files[done + 1 :]))
    return Registry(plugins=tuple(sorted(kept, key=lambda p: p.key.lower())))


def _later(known: dict[Path, list[Plugin]], files: Sequence[Path]) -> list[Plugin]:
    """Return entries whose files come later: they keep their keys."""
    return [plugin for path in files for plugin in known.get(path, [])]


def _scanned(
    path: Path, stamp: Stamp, limit_s: float, present: Sequence[Plugin], others: Sequence[Plugin]
) -> list[Plugin]:
    """Return the entries of one file. They keep the keys they had."""
    keys = {p.inner_name: p.key for p in present}
    taken = [p.key for p in others]

    def entry(inner_name: str, answer: Answer) -> Plugin:
        facts = dict(answer.facts.get("plugin", {}))
        name = facts.pop("name", "") or inner_name or path.stem
        inner_name = facts.pop("inner_name", inner_name)
        key = keys.get(inner_name) or free_key(name, taken)
        taken.append(key)
        refused = {"key": key, "name": name, "inner_name": inner_name, "path": path, "stamp": stamp}
        trouble = answer.trouble or ("" if "plugin" in answer.facts else "told nothing")
        if trouble:
            return Plugin(**{**refused, "path": str(path)}, refused=trouble)
        plain = plugin_values(Plugin(**{**refused, "path": str(path)}))
        try:
            return plugin_of(plain | facts)
        except ConfigError as error:
            return Plugin(**{**refused, "path": str(path)}, refused=str(error))

    first = asked({"do": "probe", "path": str(path), "name": ""}, limit_s)
    names = first.facts.get("names", [])
    if len(names) < 2:
        return [entry(names[0] if names else "", first)]
    return [entry(name, asked({"do": "probe", "path": str(path), "name": name}, limit_s)) for name in names]


def asked(request: dict[str, Any], limit_s: float) -> Answer:
    """Return what a throw-away process tells about a request; it is killed after `limit_s`."""
    with tempfile.TemporaryDirectory(prefix="stemrack-plugin-") as folder:
        report = Path(folder) / "report"
        process = _started(request, report, limit_s)
        try:
            process.wait(limit_s)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _killed(process)
        return _answer(report, process.returncode, limit_s if late else None)


def _started(request: dict[str, Any], report: Path, limit_s: float) -> subprocess.Popen[bytes]:
    whole = json.dumps({**request, "report": str(report), "limit_s": limit_s})
    nothing = subprocess.DEVNULL  # plugins write what they like
    return subprocess.Popen(
        [sys.executable, "-P", "-m", PROBE, whole],  # -P: nothing of the folder one stands in
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        start_new_session=True,
    )


def _killed(process: subprocess.Popen[bytes]) -> None:
    """End the process, with all that it started, and reap it."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.poll()
    else:
        process.kill()
    process.wait()


def _answer(report: Path, code: int, late_s: float | None) -> Answer:
    facts: dict[str, Any] = {}
    if report.exists():
        for line in report.read_text(encoding="utf-8").splitlines():
            facts |= json.loads(line)
    stage = facts.get("stage", "starting")
    if late_s is not None:
        return Answer(facts=facts, trouble=f"hangs: not done after {late_s:g} s, while {stage}")
    if code:
        return Answer(facts=facts, trouble=f"crashed ({_how(code)}) while {stage}")
    return Answer(facts=facts, trouble=str(facts.get("refused", "")))


def _how(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def edited(plugin: Plugin, before: Mapping[str, Any], limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Return a plugin as an insert of it holds it, state and values, when its window is closed.

    before: of an earlier time.  Raises: ConfigError where no window can be shown, or the plugin crashes.
    """
    values = {name: value for name, value in before.items() if name in plugin.effect.defaults}
    request = {"do": "edit", "path": plugin.path, "name": plugin.inner_name}
    request |= {"state": before.get("state", ""), "values": values}
    with tempfile.TemporaryDirectory(prefix="stemrack-plugin-") as folder:
        report = Path(folder) / "report"
        process = _started(request, report, limit_s)
        try:
            process.wait()
        except KeyboardInterrupt:  # the window is closed by it
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
        finally:
            _killed(process)
        answer = _answer(report, process.returncode, None)
    if answer.trouble or "state" not in answer.facts:
        raise ConfigError(f"{plugin.key}: {answer.trouble or 'told no state'}")
    now = Insert(
        name=plugin.key, effect=plugin.key, values=answer.facts["values"], state=answer.facts["state"]
    )
    return now.as_dict()
