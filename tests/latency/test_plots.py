"""The pictures: read back from the figure as it is saved, and as a PNG."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from stemrack.latency.plots import DPI, SIZE_INCHES, hop_histogram, timeline
from stemrack.rt.errors import OutputError

TIMES = np.random.default_rng(1).gamma(20.0, 0.2, 500)


@pytest.fixture
def axes_of(monkeypatch):
    """The axes of each figure that is saved."""
    saved = []
    write = Figure.savefig

    def savefig(self, *args, **kwargs):
        saved.append(self.axes[0])
        write(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def line_at(axes, value, axis):
    """Whether a straight line stands at a value of an axis."""
    ends = [line.get_data()[axis] for line in axes.get_lines()]
    return any(len(end) == 2 and end[0] == end[1] == pytest.approx(value) for end in ends)


def test_histogram_holds_every_hop_and_the_deadline(tmp_path, axes_of):
    outlier = np.append(TIMES, [80.0, 0.0])
    hop_histogram(tmp_path / "new" / "hops.png", {"a": outlier, "b": TIMES, "none": []}, 11.6, "Hops of a")
    (axes,) = axes_of
    assert imread(tmp_path / "new" / "hops.png").shape[:2] == (SIZE_INCHES[1] * DPI, SIZE_INCHES[0] * DPI)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_title() == "Hops of a"
    assert line_at(axes, 11.6, 0)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(labels) == ["a", "b", "deadline, 11.6 ms"]
    low, high = axes.get_xlim()
    assert low < 1e-3 < 80 < high
    # the steps of a histogram run along the counts: each bin is there twice
    assert sorted(patch.get_xy()[:, 1].sum() / 2 for patch in axes.patches) == [500, 502]


def test_the_deadline_is_in_the_picture_when_all_hops_are_short(tmp_path, axes_of):
    hop_histogram(tmp_path / "hops.png", {"a": np.full(9, 1.0)}, 11.6, "")
    assert axes_of[0].get_xlim()[1] > 11.6


def test_timeline_holds_every_hop_and_every_fault(tmp_path, axes_of):
    seconds = np.arange(500) * 0.0116
    faults = [(1.5, "worker killed"), (3.0, "NaN")]
    timeline(tmp_path / "soak.png", seconds, TIMES, 11.6, "Soak", faults)
    (axes,) = axes_of
    points = axes.get_lines()[0]
    np.testing.assert_allclose(points.get_xdata(), seconds)
    np.testing.assert_allclose(points.get_ydata(), TIMES)
    assert line_at(axes, 11.6, 1)
    assert line_at(axes, 1.5, 0)
    assert line_at(axes, 3.0, 0)
    assert [text.get_text() for text in axes.texts] == ["worker killed", "NaN"]
    assert imread(tmp_path / "soak.png").std() > 0.01


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no times"):
        hop_histogram(tmp_path / "a.png", {"a": np.zeros(0)}, 11.6, "Hops")
    with pytest.raises(ValueError, match="2 seconds for 3"):
        timeline(tmp_path / "a.png", np.arange(2.0), np.ones(3), 11.6, "Soak")
    assert not list(tmp_path.iterdir())


def test_what_the_disk_refuses(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        hop_histogram(tmp_path / "file" / "a.png", {"a": TIMES}, 11.6, "Hops")
