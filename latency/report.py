"""`stemrack report`: one page with the latency budget, hop times and a live run, plots included."""

from __future__ import annotations

import base64
import html
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..rt.disk import output_error
from .budget import Budget, budget_rows, worker_time_samples
from .deadline import BENCH_HEADS, BenchReport, bench_rows, draw_bench
from .plots import hop_histogram
from .soak import SOAK_HEADS, Series, soak_rows


def write_report(out: Path, budget: Budget, bench: BenchReport, soak: Mapping[str, Series]) -> Path:
    """Return the path of the page: Markdown for .md (plots beside it), else HTML that holds all.

    Raises: OutputError if it cannot be written.
    """
    total = budget.total_samples
    own = budget.ms(worker_time_samples(budget))
    words = [
        f"Made {time.strftime('%Y-%m-%d %H:%M')} on {bench.machine}.",
        f"From input to output {total} samples, {budget.ms(total):.1f} ms, without device and converters; "
        f"papers would say {budget.window_ms:.1f} ms. The worker has {own:.1f} ms for a hop.",
    ]
    tables = [
        ("Latency budget", ("stage", "samples", "ms"), budget_rows(budget)),
        ("Hop times, one upon the other", BENCH_HEADS, bench_rows(bench)),
        ("Live run on the virtual clock", SOAK_HEADS, soak_rows(soak)),
    ]
    try:
        if out.suffix == ".md":
            plots = _draw(out.parent, out.stem, bench, soak, budget)
            text = _markdown(words, tables, [(title, path.name) for title, path in plots])
        else:
            with tempfile.TemporaryDirectory() as folder:
                plots = _draw(Path(folder), "plot", bench, soak, budget)
                embedded = [(title, base64.b64encode(path.read_bytes()).decode()) for title, path in plots]
            text = _html(words, tables, embedded)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise output_error(out, error) from error
    return out


Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def _draw(
    folder: Path, stem: str, bench: BenchReport, soak: Mapping[str, Series], budget: Budget
) -> list[tuple[str, Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    hops, live = folder / f"{stem}-hops.png", folder / f"{stem}-live.png"
    draw_bench(bench, hops)
    times = {name: s.times_ms for name, s in soak.items()}
    hop_histogram(live, times, budget.ms(budget.hop), "Hop times of the live run")
    return [("Hop times", hops), ("Live run", live)]


def _markdown(words: list[str], tables: list[Table], plots: list[tuple[str, str]]) -> str:
    parts = ["# stemrack: latency", *words]
    for title, heads, rows in tables:
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        parts += [f"## {title}", "\n".join(lines)]
    parts += [f"![{title}]({name})" for title, name in plots]
    return "\n\n".join(parts) + "\n"


_STYLE = "body{font:15px sans-serif;margin:2em auto;max-width:60em}td,th{padding:.2em .8em;text-align:right}"


def _html(words: list[str], tables: list[Table], plots: list[tuple[str, str]]) -> str:
    parts = [f"<!doctype html><meta charset=utf-8><title>stemrack: latency</title><style>{_STYLE}</style>"]
    parts += ["<h1>stemrack: latency</h1>", *(f"<p>{html.escape(w)}</p>" for w in words)]
    for title, heads, rows in tables:
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>")
        parts += [f"<th>{html.escape(h)}</th>" for h in heads]
        parts.append("</tr>")
        for row in rows:
            parts.append("<tr>" + "".join(f"<td>{html.escape(v)}</td>" for v in row) + "</tr>")
        parts.append("</table>")
    parts += [
        f'<h2>{html.escape(t)}</h2><img alt="{html.escape(t)}" src="data:image/png;base64,{d}">'
        for t, d in plots
    ]
    return "\n".join(parts) + "\n"
