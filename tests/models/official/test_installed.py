"""The models' home: pull from a server, import of files, manifests, hashes and loading."""

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lying_server import Behaviour, LyingServer
from published_files import asteroid_content, asteroid_xumx, open_unmix, randomise, shell

from stemrack.models.errors import WeightsError
from stemrack.models.network_configs import UnetConfig, XumxConfig
from stemrack.models.official import installed
from stemrack.models.official.catalogue import Entry, Kind, Licence, RemoteFile, entry_named
from stemrack.models.official.convert import convert as in_this_process
from stemrack.models.official.download import Limits
from stemrack.models.official.installed import (
    import_files,
    installed_model,
    installed_names,
    load_official,
    pull,
)
from stemrack.models.official.layouts import network_of
from stemrack.models.official.tensor_files import tensor_sizes, write_tensors
from stemrack.models.stems import STEMS
from stemrack.models.tdc import load_tdc
from stemrack.models.xumx import Xumx

LICENCE = Licence(name="MIT", stated_at="this test")
SMALL = XumxConfig(n_in_bins=20, n_out_bins=33, hidden=8, n_layers=1)
LIMITS = Limits(stall_s=2.0, idle_tries=1)


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def entry_of(url, **options):
    file = RemoteFile(url=url, filename="model.pth", **options)
    return Entry(
        name="small", kind=Kind.xumx, what="a test", form="state dict", licence=LICENCE, files=(file,)
    )


@pytest.fixture
def at_once(monkeypatch):
    """Convert in this process: another one spends seconds to import torch, and test_isolated.py has it."""

    def convert(kind, files, out, bounds):
        files = {part: str(path) for part, path in files.items()}
        return in_this_process({"kind": kind, "files": files, "out": str(out)})

    monkeypatch.setattr(installed, "convert", convert)


@pytest.fixture
def network():
    return randomise(Xumx(SMALL), 1)


@torch.no_grad()
def test_pull_installs_pins_and_loads(tmp_path, network):
    data = saved(network.state_dict())
    with LyingServer([Behaviour(data, cut_after=5_000), Behaviour(data)]) as server:
        seen = []
        model = pull(
            entry_of(server.url, sha256=sha256(data)[:8], n_bytes=len(data)),
            tmp_path,
            date="2026-01-31",
            progress=lambda file: lambda done, total: seen.append((file.filename, done, total)),
            limits=replace(LIMITS, pause_s=0.0, idle_tries=2),
        )
    assert seen[-1] == ("model.pth", len(data), len(data))
    assert model == installed_model(tmp_path, "small")
    assert model.manifest == {
        "name": "small",
        "kind": "xumx",
        "what": "a test",
        "form": "state dict",
        "architecture": model.architecture,
        "licence": "MIT",
        "licence_stated_at": "this test",
        "originals": [{"file": "model.pth", "url": server.url, "sha256": sha256(data)}],
        "left_out": [],
        "converted": "2026-01-31",
        "sha256": sha256(model.path.read_bytes()),
    }
    assert json.loads((tmp_path / "pins.json").read_text()) == {server.url: sha256(data)}
    assert installed_names(tmp_path) == ["small"]
    assert not list((tmp_path / "downloads").iterdir())
    loaded = load_official(model)
    x = torch.rand(1, 2, 20, 5)
    assert torch.equal(loaded(x), network(x))
    assert not loaded.training


def test_another_file_at_the_next_pull_is_refused(tmp_path, network, at_once):
    other = saved(randomise(Xumx(SMALL), 2).state_dict())
    with LyingServer([Behaviour(saved(network.state_dict()))]) as server:
        before = pull(entry_of(server.url), tmp_path, date="2026-01-31", limits=LIMITS)
        server.behaviours = [Behaviour(other)]
        with pytest.raises(WeightsError, match=r"another file than at the first pull.*pins\.json"):
            pull(entry_of(server.url), tmp_path, date="2026-02-01", limits=LIMITS)
    assert installed_model(tmp_path, "small") == before
    assert not [p for p in (tmp_path / "downloads").rglob("*") if p.is_file()]


def test_a_pull_that_cannot_be_converted_leaves_nothing(tmp_path, at_once):
    with (
        LyingServer([Behaviour(b"RIFF....WAVE")]) as server,
        pytest.raises(WeightsError, match=r"model\.pth is no checkpoint"),
    ):
        pull(entry_of(server.url), tmp_path, date="2026-01-31", limits=LIMITS)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["pins.json"]
    with pytest.raises(WeightsError, match=r"'small' is not installed: `stemrack models pull small`"):
        installed_model(tmp_path, "small")


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_import_of_asteroids_file(tmp_path, at_once):
    theirs = asteroid_xumx()
    path = tmp_path / "pretrained_xumx.pth"
    path.write_bytes(saved(asteroid_content(theirs)))
    home = tmp_path / "home"
    model = import_files({"": path}, Kind.xumx, home, name="mine", date="2026-01-31")
    assert model.manifest["licence"] == "none stated"
    assert model.manifest["originals"] == [
        {"file": "pretrained_xumx.pth", "url": "", "sha256": sha256(path.read_bytes())}
    ]
    x = 4 * torch.rand(1, 2, 33, 7)
    masks = theirs.forward_masker(x.permute(3, 0, 1, 2).clone())  # it works in place
    expected = masks[[theirs.sources.index(stem) for stem in STEMS]].permute(2, 0, 3, 4, 1)
    torch.testing.assert_close(load_official(model)(x[:, :, :20]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_import_of_four_open_unmix_files(tmp_path, at_once):
    theirs = [open_unmix(seed) for seed in range(4)]
    files = {stem: tmp_path / f"{stem}.pth" for stem in STEMS}
    for path, net in zip(files.values(), theirs, strict=True):
        path.write_bytes(saved(net.state_dict()))
    model = import_files(files, Kind.umx, tmp_path / "home", name="mine", date="2026-01-31")
    assert [o["file"] for o in model.manifest["originals"]] == [f"{stem}.pth" for stem in STEMS]
    x = 4 * torch.rand(1, 2, 33, 7)
    expected = torch.stack([net(x) for net in theirs], dim=1)
    torch.testing.assert_close(load_official(model)(x) * x[:, None], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_import_of_a_published_unet_as_torchscript(tmp_path):
    theirs = network_of(Kind.unet, {})
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(shell(theirs.state_dict())), buffer)
    (tmp_path / "unet_attention.pth").write_bytes(buffer.getvalue())
    files = {"": tmp_path / "unet_attention.pth"}
    model = import_files(files, Kind.unet, tmp_path / "home", name="danna-unet", date="2026-01-31")
    assert UnetConfig(**model.architecture) == UnetConfig()
    ours = load_official(model).state_dict()
    assert len(ours) == 462
    assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())


def test_import_as_a_published_one_holds_it_to_its_hash(tmp_path, network):
    path = tmp_path / "tdc.pt"
    path.write_bytes(saved(network.state_dict()))
    entry = entry_named("tdc-vocals")
    with pytest.raises(WeightsError, match=r"not the published cac_tdc.*import it by its kind instead \(tdc"):
        import_files({"": path}, Kind.tdc, tmp_path, name="tdc-vocals", date="2026-01-31", entry=entry)


def test_published_tdc_weights(tmp_path, at_once):
    given = os.environ.get("STEMRACK_TDC_WEIGHTS")
    if not given:
        pytest.skip("STEMRACK_TDC_WEIGHTS does not name the published cac_tdc_17_vocals_top1.pt")
    entry = entry_named("tdc-vocals")
    model = import_files(
        {"": Path(given)}, Kind.tdc, tmp_path, name="tdc-vocals", date="2026-01-31", entry=entry
    )
    theirs, ours = load_tdc(Path(given)).state_dict(), load_official(model).state_dict()
    assert all(torch.equal(ours[n], value) for n, value in theirs.items() if value.is_floating_point())


@pytest.fixture
def model(tmp_path, network, at_once):
    (tmp_path / "a.pth").write_bytes(saved(network.state_dict()))
    return import_files({"": tmp_path / "a.pth"}, Kind.xumx, tmp_path, name="small", date="2026-01-31")


def test_what_was_changed_after_installing_is_not_loaded(model):
    data = bytearray(model.path.read_bytes())
    data[-1] ^= 1
    model.path.write_bytes(data)
    with pytest.raises(WeightsError, match="is not the file its manifest describes"):
        load_official(model)


def test_a_file_that_is_no_safetensors(model):
    model.path.write_bytes(b"{}")
    model.manifest["sha256"] = sha256(b"{}")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_official(model)
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        tensor_sizes(model.path)
    with pytest.raises(WeightsError, match="cannot be written"):
        write_tensors(model.path / "below", {})


@pytest.mark.parametrize("change", [{"hidden": 16}, {"hidden": -1}, {"strange": 1}, {"directions": 3}])
def test_sizes_that_do_not_fit_are_said(model, change):
    model.manifest["architecture"] |= change
    with pytest.raises(WeightsError, match=r"model 'small': .*import"):
        load_official(model)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"kind": "cat", "architecture": {}, "sha256": "a"}', "[" * 100_000]
)
def test_damaged_manifest(model, tmp_path, text):
    model.path.with_suffix(".json").write_text(text)
    with pytest.raises(WeightsError, match=r"small\.json .*pull or import 'small' anew"):
        installed_model(tmp_path, "small")


@pytest.mark.parametrize("name", ["../up", "a/b", "", "Big", ".hidden", "a" * 65, "pins"])
def test_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(WeightsError, match="is no name of a model"):
        installed_model(tmp_path, name)


def test_home_that_cannot_be_written(tmp_path, network):
    (tmp_path / "a.pth").write_bytes(saved(network.state_dict()))
    (tmp_path / "home").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        import_files({"": tmp_path / "a.pth"}, Kind.xumx, tmp_path / "home", name="a", date="2026-01-31")


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be read: No such file"):
        import_files({"": tmp_path / "none.pth"}, Kind.xumx, tmp_path, name="a", date="2026-01-31")


def test_no_torch_is_imported_in_the_host_by_this_module():
    assert not {"torch", "safetensors"} & set(vars(installed))
