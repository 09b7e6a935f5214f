"""`stemrack render`: many files, one after another or in several processes; one failure stops no other."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..models.errors import ModelError
from .disk import make_folders, remove_folders, remove_part
from .errors import ConfigError, HostError, InputError, OutputError
from .files import AudioSource
from .interrupt import interruptible
from .offline import FileReport, RenderSettings, render_file
from .pipeline import Separator
from .screen import Job, job_progress

EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, EXIT_NO_INPUT = 0, 1, 2, 3

POLL_S = 0.1
"""How often the bar asks the processes how far they are."""

FILE_FAILURES = (HostError, ModelError, OSError, MemoryError)
"""What ends one file; anything else is a mistake of ours and ends the job with its traceback."""

Load = Callable[[], Separator]
"""Makes the separator; picklable, as every process makes its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What `stemrack render` was asked for.

    Files go to out/NAME/TEMPLATE; the template knows {track} (the input's name without its suffix),
    {trackext} (the suffix without its dot), {stem} and {ext}.
    """

    inputs: tuple[Path, ...]
    out: Path = Path("separated")
    name: str = "live"
    template: str = "{track}/{stem}.{ext}"
    settings: RenderSettings = field(default_factory=RenderSettings)
    jobs: int = 1
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError(f"{self.jobs} jobs cannot work: give -j 1 or more")


@dataclass(frozen=True, slots=True)
class Task:
    """One input, where its stems go, and how long it is (None: the container does not tell)."""

    source: Path
    targets: dict[str, Path]
    seconds: float | None = None


def plan(options: RenderOptions) -> list[Task]:
    """Return one task for each different input.

    Raises: ConfigError for a template that cannot work or that sends two stems to one file.
    """
    tasks: list[Task] = []
    taken: dict[Path, Path] = {}
    base, _, selection = options.name.partition(":")
    folder = options.out / "-".join(filter(None, [Path(base).name.removesuffix(".toml"), selection]))
    for source in dict.fromkeys(options.inputs):
        targets = {stem: folder / _filled(options, source, stem) for stem in options.settings.names}
        for target in targets.values():
            if target in taken:
                both = f"stems of {taken[target]}" + (f" and {source}" if taken[target] != source else "")
                raise ConfigError(
                    f"{both} would all go to {target}: use {{track}}, {{trackext}} and {{stem}}"
                )
            taken[target] = source
        tasks.append(Task(source, targets))
    return tasks


def _filled(options: RenderOptions, source: Path, stem: str) -> str:
    values = {"track": source.stem, "trackext": source.suffix.removeprefix("."), "stem": stem}
    try:
        filled = options.template.format(**values, ext=options.settings.sink_format.container)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = "{track}, {trackext}, {stem} and {ext}"
        raise ConfigError(f"--filename '{options.template}' cannot work: it may hold {known}") from error
    if not filled or filled.endswith(("/", ".")) or Path(filled).is_absolute():
        raise ConfigError(f"--filename '{options.template}' gives '{filled}': give a file name below -o")
    return filled


def render(options: RenderOptions, load: Load) -> int:
    """Return the exit code after every input was rendered or reported.

    0 all were rendered, 1 some failed, 3 no input could be read. Results go to stdout (a line or a JSON
    object each), failures to stderr as well.
    Raises: ConfigError for options that cannot work; what `load` raises.
    """
    voice = _Voice(options.as_json)
    started = time.perf_counter()
    tasks = _readable(plan(options), voice)
    if tasks:
        total = sum(task.seconds or 0.0 for task in tasks)
        with job_progress("rendering", total) as bar:
            if options.jobs > 1 and len(tasks) > 1:
                _render_in_processes(tasks, options, load, voice, bar)
            else:
                _render_here(tasks, options, load, voice, bar)
    return voice.close(time.perf_counter() - started)


def replay_mix(options: RenderOptions, load: Load, log_path: Path) -> None:
    """Write, beside the first input's stems, the mix that was heard when the log was made.

    Raises: InputError for a log that is none or is of another rate; OutputError.
    """
    from .control_log import read_control_log  # the live engine, compiled: not for those who only render
    from .replay import replay

    log, task = read_control_log(log_path), plan(options)[0]
    suffix = options.settings.sink_format.container
    target = next(iter(task.targets.values())).parent / f"mix.{suffix}"
    with AudioSource(task.source) as source:
        seconds = source.seconds or 0.0
    with job_progress("replaying", seconds) as bar, interruptible() as check:

        def on_progress(audio_s: float) -> None:
            check()
            bar.advance(audio_s)

        report = replay(task.source, log, load(), target, options.settings.sink_format, on_progress)
    facts = {"event": "replayed", "mix": str(target), "moves": report.n_moves, "n_samples": report.n_samples}
    print(json.dumps(facts) if options.as_json else f"{target}: {report.n_moves} fader moves replayed")


def _readable(tasks: Sequence[Task], voice: _Voice) -> list[Task]:
    """Return the tasks whose input opens, with its length; the others are reported at once."""
    good = []
    for task in tasks:
        try:
            with AudioSource(task.source) as source:
                good.append(Task(task.source, task.targets, source.seconds))
        except InputError as error:
            voice.failed(task.source, error)
    return good


def _render_here(tasks: Sequence[Task], options: RenderOptions, load: Load, voice: _Voice, bar: Job) -> None:
    separator = load()
    for task in tasks:
        bar.describe(task.source.name)
        voice.tell(task.source, _render_task(task, options.settings, separator, bar.advance))


def _render_task(
    task: Task, settings: RenderSettings, separator: Separator, advance: Callable[[float], None]
) -> FileReport | Exception:
    """Return the report, or what ended this file but need not end others."""
    with interruptible() as check:

        def on_progress(audio_s: float) -> None:
            check()
            advance(audio_s)

        try:
            return render_file(task.source, task.targets, separator, settings, on_progress)
        except FILE_FAILURES as error:
            return error


# ------------------------------------------------------------------------------------- several processes

_separator: Separator | None = None
_done_s: Any = None
"""Of a process that renders: its separator, and the table it shares with its parent: seconds done of each
task (-1: not begun), then one more word that is 1 once the job is to stop."""


def _begin_process(done_s: Any) -> None:
    global _done_s
    _done_s = done_s
    # Ctrl-C reaches parent and children alike: the parent ends them, and they leave through the context
    # managers, so that nothing half-written stays
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def _render_in_process(
    index: int, task: Task, settings: RenderSettings, load: Load
) -> FileReport | Exception:
    """Return the report, or what ended this file; raise what would end any file."""
    global _separator
    _check_stop()
    _done_s[index] = 0.0
    if _separator is None:
        _separator = load()

    def advance(audio_s: float) -> None:
        _check_stop()
        _done_s[index] += audio_s

    return _render_task(task, settings, _separator, advance)


def _check_stop() -> None:
    """Leave the task if the job is to stop: an executor hands out tasks ahead and cannot take them back."""
    if _done_s[-1]:
        raise SystemExit(EXIT_PARTIAL)


def _render_in_processes(
    tasks: Sequence[Task], options: RenderOptions, load: Load, voice: _Voice, bar: Job
) -> None:
    """Render with several processes; a file whose process died gets one more try, alone."""
    spawning = multiprocessing.get_context("spawn")
    done_s = spawning.RawArray("d", [-1.0] * len(tasks) + [0.0])
    left = dict(enumerate(tasks))
    alone: list[int] = []
    with _shared_folders(tasks):
        while left:
            died = _pool_round(left, options.jobs, options.settings, load, done_s, voice, bar)
            alone += [index for index in died if left.pop(index, None)]
        for index in alone:
            remaining = {index: tasks[index]}
            if _pool_round(remaining, 1, options.settings, load, done_s, voice, bar):
                for target in tasks[index].targets.values():
                    remove_part(target)
                reason = "its process was killed, twice: most likely memory ran out, try -j 1"
                voice.failed(tasks[index].source, HostError(f"{tasks[index].source}: {reason}"))


@contextmanager
def _shared_folders(tasks: Sequence[Task]) -> Iterator[None]:
    """Make the folders that several processes write to, and take back those that stayed empty."""
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(target.parent for task in tasks for target in task.targets.values()):
            with suppress(OutputError):  # the file that needs the folder will say it
                made += make_folders(folder)
        yield
    finally:
        for folder in reversed(made):
            remove_folders([folder])


def _pool_round(
    left: dict[int, Task],
    jobs: int,
    settings: RenderSettings,
    load: Load,
    done_s: Any,
    voice: _Voice,
    bar: Job,
) -> list[int]:
    """Run a pool until all of `left` are done (and taken out) or a process dies; return who had begun."""
    spawning = multiprocessing.get_context("spawn")
    for index in left:
        done_s[index] = -1.0
    done_s[-1] = 0.0
    pool = ProcessPoolExecutor(min(jobs, len(left)), spawning, _begin_process, (done_s,))
    futures: dict[Future[FileReport | Exception], int] = {}
    try:
        for index, task in left.items():
            futures[pool.submit(_render_in_process, index, task, settings, load)] = index
        for future in _as_done(futures, done_s, bar):
            index = futures.pop(future)
            result = future.result()
            voice.tell(left.pop(index).source, result)
    except BrokenProcessPool:
        return [index for index in left if done_s[index] >= 0.0] or list(left)[:1]
    finally:
        if futures:  # interrupted or broken
            done_s[-1] = 1.0
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _as_done(futures: dict[Future[Any], int], done_s: Any, bar: Job) -> Iterator[Future[Any]]:
    """Yield each future when it is done, moving the bar meanwhile."""
    shown = 0.0
    pending = set(futures)
    while pending:
        done, pending = wait(pending, POLL_S, FIRST_COMPLETED)
        total = math.fsum(max(0.0, value) for value in done_s[:-1])
        bar.advance(max(0.0, total - shown))
        shown = total
        yield from done


# ------------------------------------------------------------------------------------------- what is said


class _Voice:
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
