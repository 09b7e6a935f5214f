"""The profile that a node runs now, and the way to another one while it plays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..models.errors import ModelError
from .errors import ConfigError
from .profile_kinds import all_profile_names, find_files, parts_of, profile_facts


class ProfileDesk:
    """Changes the profile of an engine.  Thread: `change`: one at a time; `config`: any.

    config: the configuration with the profile that is heard.  settings_for: an engine's settings for a
    configuration and a hop of slots.
    """

    def __init__(self, config: Any, engine: Any, settings_for: Callable[[Any, int], Any]) -> None:
        self.config = config
        self._settings_for = settings_for
        self._engine = engine
        self.choices = profile_choices(config.engine.profile)

    def change(self, profile: str) -> None:
        """Return once another profile is heard; loading takes seconds, an export that is new minutes.

        Raises: ConfigError if there is no such profile or if its weights are not there; EngineStateError.
        """
        from .config import with_overrides

        engine = self.config.engine
        own = engine.weights and (Path(engine.weights).is_dir() or _base(profile) == _base(engine.profile))
        values = {"engine.profile": profile, "engine.weights": engine.weights if own else ""}
        config = with_overrides(self.config, values)
        try:
            settings = self._settings_for(config, self._engine.slot_hop)
        except ModelError as error:
            raise ConfigError(f"profile {profile}: {error}") from error
        self._engine.change_profile(profile, settings)
        self.config = config


def _base(profile: str) -> str:
    return profile.partition(":")[0]


def profile_choices(present: str) -> tuple[str, ...]:
    """Return the present profile, and those whose files are there, also with fewer networks."""
    found = [present]
    for name in all_profile_names():
        for choice in (name, *parts_of(name)):
            try:
                if not profile_facts(choice).is_whole:
                    find_files(choice, None)
                    found.append(choice)
            except ModelError:
                continue
    return tuple(dict.fromkeys(found))
