"""The checks that a bundle passes on import: each refuses the bundle that breaks it, and only that one."""

import numpy as np
import pytest
from bundle_files import GraphBuilder, write_bundle, write_manifest

from stemrack.models.bundle_check import check_bundle
from stemrack.models.bundle_step import BundleStep
from stemrack.models.errors import ModelError, StreamingError
from stemrack.models.streaming_bundle import read_manifest


def check(path):
    return check_bundle(BundleStep(read_manifest(path)))


def spoiled(folder, change, *, hop=128, delay=64, **changed):
    """Check a bundle whose stems a function has changed."""
    builder = GraphBuilder(hop, delay)
    change(builder)
    builder.save(folder / "model.onnx")
    return check(write_manifest(folder, hop, delay, **changed))


@pytest.mark.parametrize(("hop", "delay"), [(128, 128), (128, 64), (512, 512), (100, 37)])
def test_latency_is_measured(tmp_path, hop, delay):
    report = check(write_bundle(tmp_path, hop, delay))
    assert report.measured_samples == delay
    assert report.window_samples == hop + delay


def test_no_latency_at_all(tmp_path):
    def now(builder):
        builder.node("Unsqueeze", ["audio_chunk", "axis"], "now")
        builder.node("Mul", ["now", "gains"], "now_split")
        builder.last = "now_split"

    report = spoiled(tmp_path, now, latency_samples=0)
    assert report.measured_samples == 0
    assert report.notes == ()


@pytest.mark.parametrize("declared", [0, 63, 65, 128])
def test_a_wrong_latency_is_told_with_the_measured_one(tmp_path, declared):
    with pytest.raises(StreamingError, match=rf"64 samples behind .* latency_samples = {declared}"):
        check(write_bundle(tmp_path, latency_samples=declared))


def test_a_latency_that_cannot_be_measured_is_believed_and_noted(tmp_path):
    report = check(write_bundle(tmp_path, gains=(0.0, 0.0, 0.0, 0.0), latency_samples=10))
    assert report.measured_samples is None
    assert any("latency is the manifest's" in note for note in report.notes)


def test_stems_that_are_missing_without_a_residual_are_noted(tmp_path):
    report = check(write_bundle(tmp_path, gains=(1.0,), stems='["vocals"]'))
    assert any("rest of the mixture is missing" in note for note in report.notes)
    assert check(write_bundle(tmp_path, gains=(0.7,), stems='["vocals"]', residual='"other"')).notes == ()


def test_a_state_that_never_moves_is_noted(tmp_path):
    def still(builder):
        builder.state("still", [1, 3])
        builder.node("Identity", ["still"], "next_still")

    report = spoiled(tmp_path, still)
    assert report.notes == ("state 'still' is after noise what it was at the start",)


def test_nan_is_refused(tmp_path):
    def divide(builder):
        builder.node("Div", ["split", "split"], "ratio")
        builder.last = "ratio"

    with pytest.raises(StreamingError, match="finite: silence gives NaN or Inf in hop 0"):
        spoiled(tmp_path, divide)


def test_what_overflows_when_it_is_loud_is_refused(tmp_path):
    def explode(builder):
        for i in range(2):
            builder.node("Exp", [builder.last], f"exp_{i}")
            builder.last = f"exp_{i}"

    with pytest.raises(StreamingError, match="finite: noise of amplitude 40"):
        spoiled(tmp_path, explode)


def test_a_state_that_overflows_is_refused(tmp_path):
    def grow(builder):
        builder.state("growing", [1])
        builder.constant("huge", np.array([1e30], np.float32))
        builder.constant("one", np.array([1.0], np.float32))
        builder.node("Add", ["growing", "one"], "more")
        builder.node("Mul", ["more", "huge"], "next_growing")

    with pytest.raises(StreamingError, match="silence leaves NaN or Inf in state 'growing'"):
        spoiled(tmp_path, grow)


def test_what_draws_random_numbers_is_refused(tmp_path):
    def draw(builder):
        builder.node("RandomNormalLike", [builder.last], "drawn", scale=0.01)
        builder.node("Add", [builder.last, "drawn"], "noisy")
        builder.last = "noisy"

    with pytest.raises(StreamingError, match="state: a second stream from the start differs by"):
        spoiled(tmp_path, draw)


def test_a_state_of_another_size_than_declared_is_refused(tmp_path):
    """Its shape is known only when the graph runs."""

    def lengthen(builder):
        builder.nodes = [n for n in builder.nodes if n.output[0] != "next_past_audio"]
        builder.constant("begin", np.array([0]))
        builder.constant("time", np.array([2]))
        builder.node("ReduceMax", ["audio_chunk"], "top", keepdims=0)
        builder.node("Ceil", ["top"], "some")
        builder.node("Cast", ["some"], "count", to=7)
        builder.constant("many", np.array([65]))
        builder.node("Add", ["count", "many"], "end")
        builder.node("Slice", ["line", "begin", "end", "time"], "next_past_audio")

    with pytest.raises(StreamingError, match="cannot take a step"):
        spoiled(tmp_path, lengthen)


def test_an_operator_that_is_not_there_is_refused(tmp_path):
    def invent(builder):
        builder.node("Invented", [builder.last], "strange")
        builder.last = "strange"

    with pytest.raises(ModelError, match="no ONNX graph that runs here"):
        spoiled(tmp_path, invent)
