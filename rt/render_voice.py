"""What `stemrack render` says of each file, as text or as JSON lines, and its exit code."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from .errors import InputError
from .offline import FileReport

EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, EXIT_NO_INPUT = 0, 1, 2, 3


class Voice:
    """Says what became of each file, as text or as JSON lines, and knows the exit code."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        # the bar catches sys.stdout and moves it to stderr, which a pipe behind stdout must not notice
        self._stdout = sys.stdout
        self._n_rendered = 0
        self._failures: list[BaseException] = []

    def tell(self, source: Path, result: FileReport | Exception) -> None:
        """Say what became of one file."""
        if isinstance(result, FileReport):
            self.rendered(result)
        else:
            self.failed(source, result)

    def rendered(self, report: FileReport) -> None:
        """Say what one file gave."""
        self._n_rendered += 1
        self._say(json.dumps(_as_event(report)) if self._as_json else _as_line(report))

    def failed(self, source: Path, error: BaseException) -> None:
        """Say why one file gave nothing."""
        self._failures.append(error)
        text = str(error) or type(error).__name__
        if str(source) not in text:
            text = f"{source}: {text}"
        print(f"stemrack: {text}", file=sys.stderr, flush=True)
        if self._as_json:
            event = {"event": "failed", "source": str(source), "kind": type(error).__name__, "error": text}
            self._say(json.dumps(event))

    def close(self, taken_s: float) -> int:
        """Say how the job went and return its exit code."""
        n_failed = len(self._failures)
        code = EXIT_OK
        if n_failed:
            unread = not self._n_rendered and all(isinstance(e, InputError) for e in self._failures)
            code = EXIT_NO_INPUT if unread else EXIT_PARTIAL
        if self._as_json:
            event = {"event": "job", "rendered": self._n_rendered, "failed": n_failed}
            self._say(json.dumps({**event, "taken_s": round(taken_s, 3), "exit_code": code}))
        elif n_failed + self._n_rendered > 1:
            self._say(f"{self._n_rendered} rendered, {n_failed} failed, {taken_s:.1f} s")
        return code

    def _say(self, line: str) -> None:
        print(line, file=sys.stdout if self._stdout.isatty() else self._stdout, flush=True)


def _as_line(report: FileReport) -> str:
    peaks = ", ".join(f"{name} {level:.1f}" for name, level in report.peaks_db.items())
    parts = [
        f"{report.source}: {report.audio_s:.1f} s in {report.taken_s:.1f} s",
        f"({report.times_real_time:.1f} x real time), peaks {peaks} dBFS",
    ]
    turned_down = {name: gain for name, gain in report.gains_db.items() if gain < 0.0}
    if len(set(turned_down.values())) == 1 and len(turned_down) == len(report.gains_db):
        parts.append(f"; all stems turned down by {-min(turned_down.values()):.2f} dB to fit full scale")
    elif turned_down:
        listed = ", ".join(f"{name} {-gain:.2f}" for name, gain in turned_down.items())
        parts.append(f"; turned down by dB: {listed} (they no longer sum to the mixture)")
    if report.n_saturated:
        parts.append(f"; {report.n_saturated} samples saturated, use --clip-mode attenuate or --float32")
    parts.append(f"-> {_folder(report)}")
    return "\n".join([" ".join(parts).replace(" ;", ";"), *(f"  warning: {w}" for w in report.warnings)])


def _folder(report: FileReport) -> Path:
    parents = {target.parent for target in report.targets.values()}
    return parents.pop() if len(parents) == 1 else next(iter(report.targets.values()))


def _as_event(report: FileReport) -> dict[str, object]:
    return {
        "event": "rendered",
        "source": str(report.source),
        "stems": {name: str(target) for name, target in report.targets.items()},
        "rate_hz": report.rate_hz,
        "n_channels": report.n_channels,
        "n_samples": report.n_samples,
        "audio_s": round(report.audio_s, 3),
        "taken_s": round(report.taken_s, 3),
        "times_real_time": round(report.times_real_time, 2),
        "peaks_db": {k: _finite(v) for k, v in report.peaks_db.items()},
        "gains_db": {k: _finite(v) for k, v in report.gains_db.items()},
        "n_saturated": report.n_saturated,
        "warnings": list(report.warnings),
    }


def _finite(level_db: float) -> float | None:
    """Return the level for JSON, which has no infinity: null is silence."""
    return round(level_db, 3) if math.isfinite(level_db) else None
