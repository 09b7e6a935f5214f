"""The commands of `stemrack models`: what they print, refuse and leave, and their exit codes."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from lying_server import Behaviour, LyingServer
from published_files import randomise

from stemrack.models.network_configs import XumxConfig
from stemrack.models.official import catalogue, installed
from stemrack.models.official.convert import convert as in_this_process
from stemrack.models.xumx import Xumx
from stemrack.rt import app, app_models
from stemrack.rt.command_line import Typer

SIZES = XumxConfig(n_in_bins=20, n_out_bins=33, hidden=8, n_layers=1)


@pytest.fixture(scope="module")
def network():
    return randomise(Xumx(SIZES), 1)


@pytest.fixture(scope="module")
def data(network):
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A state folder of the test's own; conversions in this process."""

    def convert(kind, files, out, bounds):
        files = {part: str(path) for part, path in files.items()}
        return in_this_process({"kind": kind, "files": files, "out": str(out)})

    monkeypatch.setattr(installed, "convert", convert)
    monkeypatch.setenv("STEMRACK_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "models"


@pytest.fixture
def source(monkeypatch, data):
    """A server with the checkpoint `tiny` that the catalogue knows; it holds nothing else."""
    with LyingServer([Behaviour(data)]) as server:
        entry = replace(
            catalogue.entry_named("tdc-vocals"),
            name="tiny",
            kind=catalogue.Kind.xumx,
            files=(catalogue.RemoteFile(url=server.url, filename="tiny.pth"),),
        )
        monkeypatch.setattr(catalogue, "ENTRIES", (entry,))
        yield server


def run_app(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        app.main(["models", *map(str, arguments)])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture(autouse=True, scope="module")
def mounted():
    """The group is part of the command line."""
    if not any(group.name == "models" for group in app.cli.registered_groups):
        app_models.add_commands(app.cli)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_pull_shows_the_licence_and_reports(capsys, source, home, network):
    code, out, err = run_app(capsys, "pull", "tiny", "--accept-licence", "--json")
    assert code == 0, err
    assert "licence: MIT (LICENSE of ws-choi/ISMIR2020_U_Nets_SVS" in err
    assert source.url in err
    facts = json.loads(out)
    assert facts["parameters"] == n_parameters(network)
    assert facts["originals"][0]["url"] == source.url
    assert facts["path"] == str(home / "tiny.safetensors")
    assert facts["bytes"] == (home / "tiny.safetensors").stat().st_size


def test_what_is_installed_is_pulled_again_only_on_demand(capsys, source):
    _, first, _ = run_app(capsys, "pull", "tiny", "--accept-licence", "--json")
    code, out, err = run_app(capsys, "pull", "tiny", "--json")
    assert (code, json.loads(out)) == (0, json.loads(first))
    assert "installed already" in err
    assert len(source.requests) == 1
    code, out, _ = run_app(capsys, "pull", "tiny", "--again", "--accept-licence", "--json")
    assert (code, json.loads(out)["sha256"]) == (0, json.loads(first)["sha256"])
    assert len(source.requests) == 2


def test_pull_without_a_terminal_needs_consent(capsys, source, home, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, err = run_app(capsys, "pull", "tiny")
    assert (code, out) == (2, "")
    assert "--accept-licence" in err
    assert source.requests == []
    assert not home.exists()


@pytest.mark.parametrize(("said", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_pull_asks_on_a_terminal(capsys, source, monkeypatch, said, code):
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    found, out, err = run_app(capsys, "pull", "tiny")
    assert found == code
    assert "Accept, and pull it? [y/N]" in err
    assert ("tiny: " in out) == (code == 0)
    assert len(source.requests) == (code == 0)


def test_pull_that_fails(capsys, source):
    source.behaviours = [Behaviour(b"gone", status=404)]
    code, out, err = run_app(capsys, "pull", "tiny", "--accept-licence")
    assert (code, out) == (1, "")
    assert "404" in err.splitlines()[-1]


def test_unknown_names(capsys, source):
    for command in ("pull", "info"):
        code, _, err = run_app(capsys, command, "none")
        assert code == 2
        assert "no checkpoint is called 'none': there are tiny" in err


def test_import_list_and_info(capsys, source, tmp_path, data, network):
    (tmp_path / "My Model.pth").write_bytes(data)
    code, out, _ = run_app(capsys, "import", tmp_path / "My Model.pth", "--as", "xumx", "--json")
    assert code == 0
    assert json.loads(out)["name"] == "my-model"
    code, out, _ = run_app(capsys, "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert [rows[name]["installed"] for name in ("tiny", "my-model")] == [False, True]
    assert rows["my-model"]["licence"] == "none stated"
    code, out, _ = run_app(capsys, "info", "my-model", "--json")
    assert json.loads(out)["parameters"] == n_parameters(network)
    code, out, _ = run_app(capsys, "info", "my-model")
    assert code == 0
    assert "sha256" in out
    assert "My Model.pth" in out
    code, out, _ = run_app(capsys, "info", "tiny")
    assert code == 0
    assert source.url in out
    assert "MIT" in out
    code, out, _ = run_app(capsys, "list")
    assert code == 0
    assert "my-model" in out
    assert "tiny" in out


def test_import_as_a_published_one_takes_its_name_and_licence(capsys, source, tmp_path, data):
    (tmp_path / "a.pth").write_bytes(data)
    code, out, _ = run_app(capsys, "import", tmp_path / "a.pth", "--as", "tiny", "--json")
    assert code == 0
    assert (json.loads(out)["name"], json.loads(out)["licence"]) == ("tiny", "MIT")
    code, out, _ = run_app(capsys, "import", tmp_path / "a.pth", "--as", "tiny", "--name", "other", "--json")
    assert json.loads(out)["name"] == "other"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.pth", "--as", "xumx"], "there is no such file"),
        (["a.pth", "--as", "cat"], "--as cat: give one of xumx, unet, demucs, tdc, umx"),
        (["a.pth", "a.pth", "--as", "xumx"], "xumx is one file, got 2"),
        (["a.pth", "--as", "umx"], "umx is 4 files, whose names begin with drums, bass, other, vocals"),
        (["a.pth", "--as", "xumx", "--name", "../a"], "is no name of a model"),
        (["a.pth"], "--as"),
    ],
)
def test_import_refuses_wrong_usage(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(b"x")
    code, _, err = run_app(capsys, "import", *arguments)
    assert code == 2
    assert words in err


def test_import_refuses_a_file(capsys, tmp_path, home):
    (tmp_path / "a.pth").write_bytes(b"RIFF....WAVE")
    code, out, err = run_app(capsys, "import", tmp_path / "a.pth", "--as", "xumx")
    assert (code, out) == (1, "")
    assert err.startswith("stemrack: a.pth is no checkpoint")
    assert list(home.iterdir()) == []


def test_umx_files_are_told_apart_by_name(capsys, tmp_path, monkeypatch):
    asked = []

    def import_files(parts, kind, home, **options):
        asked.append(parts)
        raise installed.WeightsError("enough")

    monkeypatch.setattr(installed, "import_files", import_files)
    paths = [tmp_path / f"{name}.pth" for name in ("vocals-b62c", "Bass-1", "other", "drums_x")]
    for path in paths:
        path.write_bytes(b"x")
    run_app(capsys, "import", *paths, "--as", "umx")
    vocals, bass, other, drums = paths
    assert asked == [{"drums": drums, "bass": bass, "other": other, "vocals": vocals}]


def test_list_and_info_import_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom stemrack.rt import app_models\n"
        "app_models.list_command(as_json=True)\napp_models.info_command('umxl', as_json=True)\n"
        "print('heavy:', [m for m in ('torch', 'onnx', 'onnxruntime', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout


def test_the_group_is_mounted_with_one_line():
    cli = Typer()
    app_models.add_commands(cli)
    assert [group.name for group in cli.registered_groups] == ["models"]
