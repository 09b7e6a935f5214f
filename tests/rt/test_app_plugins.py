"""The commands of `stemrack plugins`: what they print, refuse and leave, and their exit codes."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from vst3_plugins import hostile_plugins, real_plugins

from stemrack.rt import app, plugin_scan
from stemrack.rt.app_plugins import state_text
from stemrack.rt.plugin_registry import load_registry


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMRACK_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("DISPLAY", raising=False)
    return tmp_path / "state"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    for path in (real_plugins()["MVerb"], hostile_plugins()["LoadCrash"]):
        shutil.copytree(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def scanned(folder, tmp_path_factory):
    """A registry's file, for the tests that need one."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMRACK_STATE", str(state))
        with pytest.raises(SystemExit):
            app.main(["plugins", "scan", str(folder), "--json"])
    return state / "plugins.json"


@pytest.fixture
def known(home, scanned):
    home.mkdir()
    return Path(shutil.copy(scanned, home))


def run_app(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        app.main(["plugins", *map(str, arguments)])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_a_scan_is_shown_and_kept(capsys, home, folder):
    code, out, err = run_app(capsys, "scan", folder)
    assert (code, err) == (0, "")
    assert "damping, density, bandwidth, decay" in out
    refused = next(line for line in out.splitlines() if "LoadCrash" in line)
    assert "crashed (SIGABRT) while loading" in refused
    assert [p.key for p in load_registry(home / "plugins.json").plugins] == ["LoadCrash", "MVerb"]
    code, again, _ = run_app(capsys, "list")
    assert (code, again) == (0, out)


def test_json_is_the_registrys(capsys, known):
    code, out, _ = run_app(capsys, "list", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(known.read_text("utf-8"))["plugins"]


def test_a_changed_plugin_is_marked(capsys, known, tmp_path):
    values = json.loads(known.read_text("utf-8"))
    values["plugins"][1]["stamp"]["size"] = 1
    known.write_text(json.dumps(values), "utf-8")
    assert "MVerb (changed: scan again)" in run_app(capsys, "list")[1]
    code, _, err = run_app(capsys, "edit", "MVerb")
    assert (code, err) == (2, "stemrack: plugin 'MVerb' has changed: run `stemrack plugins scan`\n")


def test_before_any_scan_the_list_is_empty(capsys):
    assert json.loads(run_app(capsys, "list", "--json")[1]) == []


def test_a_folder_that_is_not_there(capsys, tmp_path):
    code, _, err = run_app(capsys, "scan", tmp_path / "nowhere")
    assert (code, err) == (2, f"stemrack: {tmp_path / 'nowhere'}: there is no such folder\n")


def test_a_broken_registry_is_named_with_the_remedy(capsys, home):
    home.mkdir()
    (home / "plugins.json").write_text("{")
    code, _, err = run_app(capsys, "list")
    assert code == 2
    assert "plugins.json" in err
    assert "delete it and scan again" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("Nobody",), "there is no plugin 'Nobody'"),
        (("LoadCrash",), "plugin 'LoadCrash' was refused: crashed (SIGABRT) while loading"),
        (("MVerb",), "there is no display here: run it where windows can be shown"),
        (("MVerb", "--state", "x.txt"), "x.txt: give it the ending .json or .toml"),
    ],
)
def test_what_cannot_be_edited(capsys, known, arguments, says):
    code, out, err = run_app(capsys, "edit", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


EDITED = {"effect": "MVerb", "damping": 25.0, "mix": 40.0, "state": "c3RhdGU="}


@pytest.fixture
def edits(monkeypatch):
    """What edits began with; each ends with EDITED."""
    began = []

    def edited(plugin, before):
        began.append((plugin.key, before))
        return EDITED

    monkeypatch.setattr(plugin_scan, "edited", edited)
    monkeypatch.setenv("DISPLAY", ":1")
    return began


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_an_edit_is_written_as_presets_hold_it_and_read_again(capsys, known, edits, tmp_path, ending):
    file = tmp_path / f"room.{ending}"
    code, out, err = run_app(capsys, "edit", "MVerb", "--state", file)
    assert (code, out, err) == (0, "", f"MVerb: written to {file}\n")
    assert (json.loads if ending == "json" else tomllib.loads)(file.read_text()) == EDITED
    run_app(capsys, "edit", "MVerb", "--state", file)
    assert edits == [("MVerb", {}), ("MVerb", EDITED)]


@pytest.mark.parametrize("form", ["json", "toml"])
@pytest.mark.parametrize(
    "text", ["\U0001f3b8", "rub\x7fout", 'a "quoted" \\ path', "two\r\nlines\x00", "\u2028\u0085"]
)
def test_any_text_survives_in_a_file(tmp_path, form, text):
    values = {"effect": "MVerb", "mode": text, text: 0.5, "freeze": True}
    path = tmp_path / "room"
    path.write_text(state_text(values, form), encoding="utf-8")
    with path.open("rb") as file:
        assert (json.load if form == "json" else tomllib.load)(file) == values


def test_an_edit_without_a_file_is_printed(capsys, known, edits):
    code, out, _ = run_app(capsys, "edit", "MVerb")
    assert (code, json.loads(out)) == (0, EDITED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        (5000 * "[" + 5000 * "]", "cannot be read (lists are nested too deep)"),
        ("[]", "holds no state of MVerb"),
        ('{"effect": "Other"}', "there is no effect 'Other'"),
        ('{"effect": "MVerb", "damping": 200}', "must be 0 to 100 %"),
        ('{"effect": "MVerb", "state": 3}', "state must be text"),
    ],
)
def test_a_file_of_other_contents_is_refused_before_a_window_opens(
    capsys, known, edits, tmp_path, text, says
):
    (tmp_path / "room.json").write_text(text)
    code, _, err = run_app(capsys, "edit", "MVerb", "--state", tmp_path / "room.json")
    assert code == 2
    assert says in err
    assert edits == []


def test_a_toml_file_of_other_contents_is_refused_before_a_window_opens(capsys, known, edits, tmp_path):
    (tmp_path / "room.toml").write_text('effect = "MVerb"\ndamping = 0x' + 5000 * "f")
    code, _, err = run_app(capsys, "edit", "MVerb", "--state", tmp_path / "room.toml")
    assert code == 2
    assert "room.toml: cannot be read (damping: an integer has more than 64 bits)" in err
    assert edits == []


def test_a_file_that_cannot_be_written(capsys, known, edits, tmp_path):
    code, _, err = run_app(capsys, "edit", "MVerb", "--state", tmp_path / "no/folder/room.json")
    assert code == 1
    assert "cannot be written (No such file or directory)" in err


@pytest.fixture(scope="module")
def display():
    """The name of a display of the test's own, without a window manager or desktop."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb here to show windows on: see .ci/system-packages")
    read, write = os.pipe()
    nothing = subprocess.DEVNULL
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stdout=nothing, stderr=nothing)
    os.close(write)
    try:
        with open(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.kill()
        server.wait()


def test_a_plugin_without_a_window_says_so(capsys, known, display, monkeypatch):
    """On a bare display JUCE makes X11 errors, which ended the process before it came to that."""
    monkeypatch.setenv("DISPLAY", display)
    code, _, err = run_app(capsys, "edit", "MVerb")
    assert (code, err) == (2, "stemrack: MVerb: Plugin has no available editor UI.\n")
