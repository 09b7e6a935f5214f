"""Where stemrack keeps what it remembers between runs: tokens, scenes, models, bundles."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """Return where they are kept, by the habit of the system; STEMRACK_STATE overrides it."""
    if given := os.environ.get("STEMRACK_STATE"):
        return Path(given)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "stemrack"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "stemrack"


def models_home() -> Path:
    """Return the folder of installed models, below the state folder."""
    return state_folder() / "models"


def bundles_home() -> Path:
    """Return the folder of installed bundles, below the state folder."""
    return state_folder() / "bundles"
