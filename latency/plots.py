"""Pictures of times: how hops are spread, and when they were long; matplotlib's one home.

It is imported when a picture is drawn, without `pyplot`: no window, no global state, any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..rt.disk import output_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (9.0, 4.5)
DPI = 110
N_BINS = 160
DEADLINE_COLOUR, FAULT_COLOUR = "black", "tab:purple"
SHORTEST_MS = 1e-3
"""What is shorter is drawn here: the axis is logarithmic."""


def hop_histogram(path_png: Path, series: Mapping[str, np.ndarray], deadline_ms: float, title: str) -> None:
    """Write a histogram of times in ms, a line for each series; both axes logarithmic.

    Raises: ValueError if there are no times; OutputError for what the disk refuses.
    """
    drawn = {name: _positive(times_ms) for name, times_ms in series.items() if len(times_ms)}
    if not drawn:
        raise ValueError(f"'{title}': no times to draw")
    low = 0.9 * min(times.min() for times in drawn.values())
    high = 1.1 * max(deadline_ms, *(times.max() for times in drawn.values()))
    figure, axes = _empty(title, "hop time, ms", "hops")
    for name, times in drawn.items():
        axes.hist(times, bins=list(np.geomspace(low, high, N_BINS)), histtype="step", label=name)
    axes.axvline(deadline_ms, color=DEADLINE_COLOUR, linestyle="--", label=f"deadline, {deadline_ms:.1f} ms")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter("{x:g}")
    _save(figure, axes, path_png)


def timeline(
    path_png: Path,
    times_s: np.ndarray,
    hop_ms: np.ndarray,
    deadline_ms: float,
    title: str,
    faults: Sequence[tuple[float, str]] = (),
) -> None:
    """Write hop times over time, with the deadline; faults, as (second, name), are marked from top to bottom.

    Raises: ValueError if there are no times, or not a second for each; OutputError for what the disk refuses.
    """
    if not len(times_s) or len(times_s) != len(hop_ms):
        raise ValueError(f"'{title}': {len(times_s)} seconds for {len(hop_ms)} times")
    figure, axes = _empty(title, "s", "hop time, ms")
    axes.plot(times_s, _positive(hop_ms), ".", markersize=2, label="hops")
    axes.axhline(deadline_ms, color=DEADLINE_COLOUR, linestyle="--", label=f"deadline, {deadline_ms:.1f} ms")
    for at_s, name in faults:
        axes.axvline(at_s, color=FAULT_COLOUR, linewidth=1)
        axes.annotate(
            name,
            (at_s, 1.0),
            (2, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    _save(figure, axes, path_png)


def _positive(times_ms: np.ndarray) -> np.ndarray:
    return np.maximum(np.asarray(times_ms, np.float64), SHORTEST_MS)


def _empty(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, axes: Axes, path_png: Path) -> None:
    axes.legend(loc="best", fontsize=8)
    try:
        path_png.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path_png, format="png")
    except OSError as error:
        raise output_error(path_png, error) from error
