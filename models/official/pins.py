"""Hashes of what was pulled first, by address: a later pull that brings other bytes is refused."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError

PINS_FILE = "pins.json"


@dataclass(frozen=True, slots=True)
class Pins:
    """The lock file `pins.json` of a models' home."""

    home: Path

    @property
    def path(self) -> Path:
        """The lock file; it need not exist."""
        return self.home / PINS_FILE

    def read(self) -> dict[str, str]:
        """Return sha256 by address.

        Raises: WeightsError when the file is damaged.
        """
        try:
            pins = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"{self.path} cannot be read ({error}): delete it to pin anew at the next pull"
            ) from error
        if not isinstance(pins, dict) or not all(isinstance(v, str) for v in pins.values()):
            raise WeightsError(f"{self.path} is not a list of hashes: delete it to pin anew at the next pull")
        return pins

    def check(self, url: str, sha256: str) -> None:
        """Hold a download to what was pulled first from its address, and pin it if it is the first.

        Raises: WeightsError when it is another file.
        """
        pins = self.read()
        pinned = pins.get(url)
        if pinned == sha256:
            return
        if pinned is not None:
            raise WeightsError(
                f"{url} now gives another file than at the first pull (sha256 {sha256}, pinned {pinned}). "
                f"Ask its publisher why; if you trust it, delete its line in {self.path} and pull again"
            )
        self._write(pins | {url: sha256})

    def _write(self, pins: dict[str, str]) -> None:
        unfinished = self.path.with_name(f"{PINS_FILE}.{secrets.token_hex(4)}")
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(unfinished, self.path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise WeightsError(f"{self.path} cannot be written: {error.strerror}") from error
