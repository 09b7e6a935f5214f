"""Where stemrack keeps things, by the habit of each system."""

from pathlib import Path

import pytest

from stemrack.rt import state_folder as own
from stemrack.rt.state_folder import bundles_home, models_home, state_folder


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("STEMRACK_STATE", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(own.Path, "home", lambda: tmp_path)
    return monkeypatch


def test_the_state_folder_by_the_habit_of_the_system(environment, tmp_path):
    assert state_folder() == tmp_path / ".local/state" / "stemrack"
    environment.setenv("XDG_STATE_HOME", "")
    assert state_folder() == tmp_path / ".local/state" / "stemrack"
    environment.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_folder() == tmp_path / "xdg" / "stemrack"


def test_the_state_folder_that_is_asked_for(environment, tmp_path):
    environment.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    environment.setenv("STEMRACK_STATE", str(tmp_path / "own"))
    assert state_folder() == tmp_path / "own"


def test_the_state_folder_on_windows(environment, tmp_path):
    here = Path(tmp_path)
    environment.setattr(own, "Path", lambda *parts: here.joinpath(*parts))
    environment.setattr(own.Path, "home", lambda: here, raising=False)
    environment.setattr(own.os, "name", "nt")
    assert state_folder() == here / "AppData/Local" / "stemrack"
    environment.setenv("LOCALAPPDATA", str(here / "local"))
    assert state_folder() == here / "local" / "stemrack"


def test_models_and_bundles_lie_below(environment, tmp_path):
    environment.setenv("STEMRACK_STATE", str(tmp_path))
    assert (models_home(), bundles_home()) == (tmp_path / "models", tmp_path / "bundles")
