"""Bundles' manifests: what they say, what is refused, where they lie; and the import of whole bundles."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from bundle_files import write_bundle, write_manifest

from stemrack.models.errors import ModelError, SpecError, StreamingError, WeightsError
from stemrack.models.streaming_bundle import (
    BundleState,
    find_bundle,
    import_bundle,
    installed_bundles,
    is_bundle,
    parse_manifest,
    read_manifest,
)

TEMPLATE = Path(__file__).parents[2] / "docs" / "bundle-template.toml"
LEAST = {
    "name": "little",
    "file": "model.onnx",
    "sha256": "ab" * 32,
    "hop": 128,
    "latency_samples": 64,
    "licence": "MIT",
    "url": "https://example.org/model.onnx",
}


def parsed(**changed):
    return parse_manifest(json.dumps({**LEAST, **changed}), "x.bundle.json")


class TestManifest:
    def test_the_least_one(self):
        manifest = parsed()
        assert manifest.window_samples == 192
        assert manifest.window_latency_ms == pytest.approx(1000 * 192 / 44_100)
        assert (manifest.input, manifest.output) == ("audio_chunk", "separated_chunk")
        assert manifest.stems == ("drums", "bass", "vocals", "other")
        assert manifest.residual is None
        assert manifest.states == ()

    def test_the_template_says_what_holds_without_it(self):
        """Every line of its second part is the default, or a state."""
        text = TEMPLATE.read_text()
        whole = parse_manifest(text, "template.bundle.toml")
        given = tomllib.loads(text)
        least = {key: given[key] for key in LEAST}
        plain = parse_manifest(json.dumps(least), "least.bundle.json")
        for key in ("window_samples", "rate_hz", "input", "output", "stems"):
            assert getattr(whole, key) == getattr(plain, key), key
        assert whole.residual == "other"
        assert whole.states[1] == BundleState(
            input="fusion_hidden", output="next_fusion_hidden", shape=(2, 1, 1000), initial=0.0
        )

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"name": "../up"}, "name"),
            ({"sha256": "AB" * 32}, "sha256"),
            ({"hop": 0}, "hop must be"),
            ({"hop": 128.0}, "whole number"),
            ({"hop": True}, "whole number"),
            ({"latency_samples": -1}, "latency_samples"),
            ({"window_samples": 191}, "192 at least"),
            ({"rate_hz": 48_000}, "44100"),
            ({"stems": ["drums", "piano"]}, "stems must name"),
            ({"stems": ["drums", "drums"]}, "each once"),
            ({"stems": []}, "stems"),
            ({"stems": "drums"}, "list of texts"),
            ({"residual": "piano"}, "residual"),
            ({"stems": ["vocals"], "residual": "vocals"}, "beside others"),
            ({"licence": ""}, "licence must be a text"),
            ({"states": [{"input": "h"}]}, "input, shape"),
            ({"states": [{"input": "h", "shape": [0]}]}, "below 1"),
            ({"states": [{"input": "h", "shape": [1 << 15, 1 << 15]}]}, "too large"),
            ({"states": [{"input": "h", "shape": [1], "initial": float("nan")}]}, "finite"),
            ({"states": [{"input": "h", "shape": [1]}] * 2}, "named twice"),
            ({"code": "x"}, "unknown \\['code'\\]"),
        ],
    )
    def test_what_cannot_work_is_refused_by_name(self, changed, told):
        with pytest.raises(SpecError, match=told) as caught:
            parsed(**changed)
        assert "x.bundle.json" in str(caught.value)

    @pytest.mark.parametrize("key", sorted(LEAST))
    def test_every_required_key_is_missed(self, key):
        least = {k: v for k, v in LEAST.items() if k != key}
        with pytest.raises(SpecError, match=f"missing \\['{key}'\\]"):
            parse_manifest(json.dumps(least), "x.bundle.json")

    @pytest.mark.parametrize(
        "file", ["../model.onnx", "a/../../m.onnx", "/m.onnx", "C:m.onnx", "C:\\m.onnx", "..\\m.onnx", "."]
    )
    def test_paths_outside_of_the_folder_are_refused(self, file):
        with pytest.raises(SpecError, match="below the manifest's folder"):
            parsed(file=file)
        with pytest.raises(SpecError, match="below the manifest's folder"):
            parsed(states=[{"input": "h", "shape": [1], "initial": file}])

    @pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "name = 1"])
    def test_garbage_is_refused(self, text):
        with pytest.raises(SpecError, match="garbage"):
            parse_manifest(text, "garbage.bundle.json")
        with pytest.raises(SpecError, match="garbage"):
            parse_manifest(text, "garbage.bundle.toml")

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path):
        path = tmp_path / "x.bundle.toml"
        with pytest.raises(SpecError, match="cannot be read"):
            read_manifest(path)
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(SpecError, match="cannot be read"):
            read_manifest(path)


class TestImport:
    def test_an_installed_bundle_is_found_and_names_its_states(self, tmp_path):
        home = tmp_path / "home"
        report = import_bundle(write_bundle(tmp_path / "given", n_more=2, residual='"other"'), home)
        assert (report.name, report.hop, report.latency_samples) == ("little", 128, 64)
        assert report.measured_samples == 64
        assert report.states == ("past_audio", "fusion_0", "fusion_1")
        assert report.n_values == 128 + 2 + 2
        assert report.notes == ()
        assert installed_bundles(home) == ["little"]
        manifest = read_manifest(find_bundle("bundle:little", home))
        assert [state.shape for state in manifest.states] == [(1, 2, 64), (1, 1, 2), (1, 1, 2)]
        assert manifest.residual == "other"
        assert manifest.path.read_bytes() == (tmp_path / "given" / "model.onnx").read_bytes()

    def test_a_second_import_replaces_the_first(self, tmp_path):
        home = tmp_path / "home"
        import_bundle(write_bundle(tmp_path / "a"), home)
        import_bundle(write_bundle(tmp_path / "b", delay=100), home)
        assert read_manifest(find_bundle("bundle:little", home)).latency_samples == 100
        assert [p.name for p in home.iterdir()] == ["little"]

    def test_initial_values_travel_with_it(self, tmp_path):
        write_bundle(tmp_path)
        value = np.full((1, 1, 2), 0.25, np.float32)
        np.save(tmp_path / "start.npy", value)
        states = (
            '[[states]]\ninput = "past_audio"\nshape = [1, 2, 64]\n'
            '[[states]]\ninput = "fusion_0"\nshape = [1, 1, 2]\ninitial = "start.npy"\n'
        )
        import_bundle(write_manifest(tmp_path, 128, 64, more=states), tmp_path / "home")
        manifest = read_manifest(find_bundle("bundle:little", tmp_path / "home"))
        initial = manifest.states[1].initial
        assert isinstance(initial, str)
        np.testing.assert_array_equal(np.load(manifest.folder / initial), value)

    @pytest.mark.parametrize(
        "value",
        [
            np.zeros((1, 1, 2)),
            np.zeros((2,), np.float32),
            np.full((1, 1, 2), np.inf, np.float32),
            np.array([{}], dtype=object),
        ],
        ids=["float64", "shape", "inf", "pickled"],
    )
    def test_initial_values_that_do_not_fit_are_refused(self, tmp_path, value):
        write_bundle(tmp_path)
        np.save(tmp_path / "start.npy", value)
        states = (
            '[[states]]\ninput = "past_audio"\nshape = [1, 2, 64]\n'
            '[[states]]\ninput = "fusion_0"\nshape = [1, 1, 2]\ninitial = "start.npy"\n'
        )
        with pytest.raises(SpecError, match=r"start\.npy"):
            import_bundle(write_manifest(tmp_path, 128, 64, more=states), tmp_path / "home")

    def test_a_changed_file_is_refused(self, tmp_path):
        path = write_bundle(tmp_path)
        model = tmp_path / "model.onnx"
        model.write_bytes(model.read_bytes() + b"\0")
        with pytest.raises(WeightsError, match="not the file that the manifest describes"):
            import_bundle(path, tmp_path / "home")
        model.unlink()
        with pytest.raises(WeightsError, match="cannot be read"):
            import_bundle(path, tmp_path / "home")
        assert not (tmp_path / "home").exists()

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path):
        path = write_bundle(tmp_path / "a")
        model = tmp_path / "a" / "model.onnx"
        model.rename(tmp_path / "elsewhere.onnx")
        model.symlink_to(tmp_path / "elsewhere.onnx")
        with pytest.raises(WeightsError, match="leaves the manifest's folder"):
            import_bundle(path, tmp_path / "home")

    def test_nothing_is_installed_when_a_check_fails(self, tmp_path):
        home = tmp_path / "home"
        import_bundle(write_bundle(tmp_path / "a"), home)
        with pytest.raises(StreamingError, match="latency"):
            import_bundle(write_bundle(tmp_path / "b", latency_samples=65), home)
        assert read_manifest(find_bundle("bundle:little", home)).latency_samples == 64

    def test_a_home_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ModelError, match="cannot be written"):
            import_bundle(write_bundle(tmp_path / "a"), tmp_path / "file")


class TestFinding:
    def test_names_and_paths(self, tmp_path):
        path = write_bundle(tmp_path)
        assert find_bundle(str(path)) == path
        assert is_bundle("bundle:x")
        assert is_bundle(str(path))
        assert not is_bundle("live")
        assert not is_bundle("live.toml")

    @pytest.mark.parametrize("name", ["bundle:other", "bundle:../a", "bundle:"])
    def test_what_is_not_there_is_told_with_what_is(self, tmp_path, name):
        import_bundle(write_bundle(tmp_path / "a"), tmp_path / "home")
        with pytest.raises(SpecError, match="installed: little"):
            find_bundle(name, tmp_path / "home")

    def test_no_home_and_no_file(self, tmp_path):
        with pytest.raises(SpecError, match="needs the folder"):
            find_bundle("bundle:x")
        with pytest.raises(SpecError, match="no bundle at"):
            find_bundle(str(tmp_path / "x.bundle.toml"))
        with pytest.raises(SpecError, match="installed: none"):
            find_bundle("bundle:x", tmp_path / "nowhere")
