"""`stemrack render`: many files, one after another or in several processes; one failure stops no other."""

from __future__ import annotations

import atexit
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..models.errors import ModelError
from .disk import make_folders, remove_folders, remove_part
from .effect_table import Effects
from .errors import ConfigError, HostError, InputError, OutputError
from .files import AudioSource
from .interrupt import interruptible
from .offline import FileReport, RenderSettings, render_file
from .pipeline import Separator
from .preset_sound import OnInsert
from .render_voice import EXIT_PARTIAL, Voice
from .screen import Job, job_progress

POLL_S = 0.1
"""How often the bar asks the processes how far they are."""
HANG_LIMIT_S = 60.0
"""An effect that is loaded or runs for so long without a sign of life has hung; a sample player loads for
seconds."""
END_LIMIT_S = 10.0
"""A process that was told to end has so long to clean up."""

FILE_FAILURES = (HostError, ModelError, OSError, MemoryError)
"""What ends one file; anything else is a mistake of ours and ends the job with its traceback."""

Load = Callable[[], Separator]
"""Makes the separator; picklable, as every process makes its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What `stemrack render` was asked for.

    Files go to out/NAME/TEMPLATE, with a preset to out/NAME-PRESET/TEMPLATE; the template knows {track} (the
    input's name without its suffix), {trackext} (the suffix without its dot), {stem} and {ext}.
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
    preset = options.settings.sound.name if options.settings.sound else ""
    folder = options.out / "-".join(filter(None, [Path(base).name.removesuffix(".toml"), selection, preset]))
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
    voice = Voice(options.as_json)
    started = time.perf_counter()
    tasks = _readable(plan(options), voice)
    if tasks:
        total = sum(task.seconds or 0.0 for task in tasks)
        with job_progress("rendering", total) as bar:
            sound = options.settings.sound
            if (options.jobs > 1 and len(tasks) > 1) or (sound and sound.has_plugins):
                _render_in_processes(tasks, options, load, voice, bar)
            else:
                _render_here(tasks, options, load, voice, bar)
    return voice.close(time.perf_counter() - started)


def replay_mix(options: RenderOptions, load: Load, log_path: Path, effects: Effects) -> None:
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

        report = replay(task.source, log, load(), target, options.settings.sink_format, on_progress, effects)
    facts = {"event": "replayed", "mix": str(target), "moves": report.n_moves, "n_samples": report.n_samples}
    print(json.dumps(facts) if options.as_json else f"{target}: {report.n_moves} fader moves replayed")


def _readable(tasks: Sequence[Task], voice: Voice) -> list[Task]:
    """Return the tasks whose input opens, with its length; the others are reported at once."""
    good = []
    for task in tasks:
        try:
            with AudioSource(task.source) as source:
                good.append(Task(task.source, task.targets, source.seconds))
        except InputError as error:
            voice.failed(task.source, error)
    return good


def _render_here(tasks: Sequence[Task], options: RenderOptions, load: Load, voice: Voice, bar: Job) -> None:
    separator = load()
    for task in tasks:
        bar.describe(task.source.name)
        voice.tell(task.source, _render_task(task, options.settings, separator, bar.advance))


def _render_task(
    task: Task,
    settings: RenderSettings,
    separator: Separator,
    advance: Callable[[float], None],
    on_insert: OnInsert = lambda number: None,
) -> FileReport | Exception:
    """Return the report, or what ended this file but need not end others."""
    with interruptible() as check:

        def on_progress(audio_s: float) -> None:
            check()
            advance(audio_s)

        try:
            return render_file(task.source, task.targets, separator, settings, on_progress, on_insert)
        except FILE_FAILURES as error:
            return error


# ------------------------------------------------------------------------------------- several processes

_separator: Separator | None = None
_done_s: Any = None
_inserts: Any = None
"""Of a process that renders: its separator, and the tables it shares with its parent: seconds done of each
task (-1: not begun), then one more word that is 1 once the job is to stop; and of each task the insert that
it is in, and how many it has been in."""


def _begin_process(done_s: Any, inserts: Any, has_plugins: bool) -> None:
    global _done_s, _inserts
    _done_s, _inserts = done_s, inserts
    if has_plugins:  # their libraries may hang or crash while they are unloaded: all is done by then
        atexit.register(os._exit, 0)
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
    _inserts[2 * index] = 0
    if _separator is None:
        _separator = load()

    def advance(audio_s: float) -> None:
        _check_stop()
        _done_s[index] += audio_s

    def on_insert(number: int) -> None:
        _inserts[2 * index] = number
        _inserts[2 * index + 1] += 1

    return _render_task(task, settings, _separator, advance, on_insert)


def _check_stop() -> None:
    """Leave the task if the job is to stop: an executor hands out tasks ahead and cannot take them back."""
    if _done_s[-1]:
        raise SystemExit(EXIT_PARTIAL)


def _render_in_processes(
    tasks: Sequence[Task], options: RenderOptions, load: Load, voice: Voice, bar: Job
) -> None:
    """Render with several processes; a file whose process died gets one more try, alone."""
    pool = _Pool(options.settings, load, len(tasks), voice, bar)
    left = dict(enumerate(tasks))
    alone: list[int] = []
    with _shared_folders(tasks):
        while left:
            died = pool.round(left, options.jobs)
            alone += [index for index in died if left.pop(index, None)]
        for index in alone:
            if pool.round({index: tasks[index]}, 1):
                for target in tasks[index].targets.values():
                    remove_part(target)
                source = tasks[index].source
                voice.failed(source, HostError(f"{source}: {pool.reason(index)}"))


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


class _Pool:
    """Processes that render, and what they share with this one."""

    def __init__(self, settings: RenderSettings, load: Load, n_tasks: int, voice: Voice, bar: Job) -> None:
        self._settings, self._load, self._voice, self._bar = settings, load, voice, bar
        self._spawning = multiprocessing.get_context("spawn")
        self._done_s: Any = self._spawning.RawArray("d", [-1.0] * n_tasks + [0.0])
        self._inserts: Any = self._spawning.RawArray("q", 2 * n_tasks)
        self._alive: dict[int, tuple[int, float]] = {}
        """Of each task how many inserts it had been in when that changed last, and when."""
        self._hung: set[int] = set()
        self._others = multiprocessing.active_children()
        """Children of this process that are none of the pool's."""

    def round(self, left: dict[int, Task], jobs: int) -> list[int]:
        """Run until all of `left` are done (and taken out) or a process dies; return who had begun."""
        done_s = self._done_s
        for index in left:
            done_s[index] = -1.0
            self._inserts[2 * index] = 0
        done_s[-1] = 0.0
        sound = self._settings.sound
        shared = done_s, self._inserts, bool(sound and sound.has_plugins)
        pool = ProcessPoolExecutor(min(jobs, len(left)), self._spawning, _begin_process, shared)
        futures: dict[Future[FileReport | Exception], int] = {}
        try:
            for index, task in left.items():
                future = pool.submit(_render_in_process, index, task, self._settings, self._load)
                futures[future] = index
            for future in _as_done(futures, done_s, self._bar, self._end_hung):
                index = futures.pop(future)
                result = future.result()
                self._voice.tell(left.pop(index).source, result)
        except BrokenProcessPool:
            return [index for index in left if done_s[index] >= 0.0] or list(left)[:1]
        finally:
            if futures:  # interrupted or broken
                done_s[-1] = 1.0
                _end(self._children())
                for target in (t for index in left for t in left[index].targets.values()):
                    remove_part(target)
            pool.shutdown(wait=True, cancel_futures=True)
        return []

    def _children(self) -> list[BaseProcess]:
        return [child for child in multiprocessing.active_children() if child not in self._others]

    def _end_hung(self) -> None:
        """Kill the processes if one of them does not come back from an insert."""
        now = time.monotonic()
        for index in range(len(self._done_s) - 1):
            number, count = self._inserts[2 * index : 2 * index + 2]
            if not number or self._alive.get(index, (-1, 0.0))[0] != count:
                self._alive[index] = count, now
            elif now - self._alive[index][1] > HANG_LIMIT_S:
                self._hung.add(index)
                for process in self._children():
                    process.kill()
                self._alive[index] = count, now

    def reason(self, index: int) -> str:
        """Return why the process of a task died: the insert that it was in, if it was in one."""
        sound = self._settings.sound
        if not sound or not (found := sound.insert_at(self._inserts[2 * index])):
            return "its process was killed, twice: most likely memory ran out, try -j 1"
        stem, insert = found
        what = "plugin" if sound.table[insert.effect].plugin else "effect"
        did = f"did not come back for {HANG_LIMIT_S:g} s" if index in self._hung else "crashed"
        said = f"{what} '{insert.effect}' ({stem}/{insert.name}) {did}, twice"
        return f"{said}: bypass it in preset '{sound.name}', or take it out"


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes that render; one that hangs in a plugin hears no signal and is killed."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_LIMIT_S)
        if process.is_alive():
            process.kill()


def _as_done(
    futures: dict[Future[Any], int], done_s: Any, bar: Job, check: Callable[[], None]
) -> Iterator[Future[Any]]:
    """Yield each future when it is done, moving the bar and checking meanwhile."""
    shown = 0.0
    pending = set(futures)
    while pending:
        done, pending = wait(pending, POLL_S, FIRST_COMPLETED)
        check()
        total = math.fsum(max(0.0, value) for value in done_s[:-1])
        bar.advance(max(0.0, total - shown))
        shown = total
        yield from done
