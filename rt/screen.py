"""What a job shows on the terminal: a progress bar on stderr, tables on stdout; rich's one home."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WIDTH_ELSEWHERE = 160
"""Columns of a table that goes into a file or a pipe: nothing is cut off there."""


@dataclass(frozen=True, slots=True)
class Job:
    """A bar being filled: what runs now, and how much of the total is done."""

    progress: Progress
    task: TaskID

    def describe(self, text: str) -> None:
        """Show what is being worked on."""
        self.progress.update(self.task, description=text)

    def advance(self, amount: float) -> None:
        """Add to what is done, in units of the total."""
        self.progress.advance(self.task, amount)


@contextmanager
def job_progress(text: str, total: float) -> Iterator[Job]:
    """Give a Job whose bar is drawn where stderr is a terminal, and nothing elsewhere."""
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")]
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        yield Job(bar, bar.add_task(text, total=total))


def print_table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[str] | None = None
) -> None:
    """Print rows of text under heads: first column from the left, others from the right; `last` apart."""
    table = Table(title=title, title_justify="left")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", no_wrap=index > 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if last is not None:
        table.add_section()
        table.add_row(*last)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_ELSEWHERE)
    console.print(table)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines as they are, above what `live_lines` draws."""
    for line in lines:
        _STDOUT.print(line, highlight=False, markup=False)


@contextmanager
def live_lines() -> Iterator[Callable[[Sequence[str]], None]]:
    """Give a function that draws lines in one place again and again; where stdout is no terminal, nothing."""
    if not _STDOUT.is_terminal:
        yield lambda lines: None
        return
    with Live(console=_STDOUT, auto_refresh=False, transient=True) as live:
        yield lambda lines: live.update(Text("\n".join(lines)), refresh=True)


_STDOUT = Console(soft_wrap=True)
