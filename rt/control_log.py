"""Which faders stood where from which sample on: enough to render again, to the bit, what was heard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError
from .params import MixerState, mixer_state

FORMAT = "stemrack control log 3"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChange:
    """From which input position on another profile separated, and the change of delay that belongs to it."""

    profile: str
    position: int
    delay_samples: int
    begin: int
    """Output position from which the delay was faded."""


@dataclass(slots=True, kw_only=True)
class ControlLog:
    """States in the order in which the callback took them, with the output position of each."""

    rate_hz: int
    origin: int = 0
    """Position of the stream's first sample."""
    delay_samples: int
    start_ramp_samples: int
    limiter_samples: int = 0
    """Look-ahead of the true-peak limiter; 0: it was off."""
    entries: list[tuple[int, MixerState]] = field(default_factory=list)
    profiles: list[ProfileChange] = field(default_factory=list)
    chains: dict[str, Any] = field(default_factory=dict)
    """The effect chains at the beginning, as `Chains.as_dict` gives them."""
    chain_edits: list[int] = field(default_factory=list)
    """Input positions at which others, or other values in them, were known to be in force."""

    def add(self, revision: int, position: int, state: MixerState) -> None:
        """Append what the callback has taken (`params.Taken`)."""
        self.entries.append((position, state))

    def write(self, path: Path) -> None:
        """Write a line of JSON for the stream, one for each entry and one for each change of profile."""
        head = {
            "format": FORMAT,
            "rate_hz": self.rate_hz,
            "origin": self.origin,
            "delay_samples": self.delay_samples,
            "start_ramp_samples": self.start_ramp_samples,
            "limiter_samples": self.limiter_samples,
            "chains": self.chains,
            "chain_edits": self.chain_edits,
        }
        lines = [head, *({"position": p, "mixer": s.as_dict()} for p, s in self.entries)]
        lines += map(asdict, self.profiles)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_control_log(path: Path) -> ControlLog:
    """Return the log in a file.  Raises: InputError with the line that is wrong."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}): check the name") from error
    number = 0
    try:
        head = json.loads(lines[0])
        if head.pop("format") != FORMAT:
            raise InputError(path, f"is not a '{FORMAT}': it was written by another version")
        log = ControlLog(**head)
        for line in lines[1:]:
            number += 1
            entry = json.loads(line)
            if "profile" in entry:
                log.profiles.append(ProfileChange(**entry))
            else:
                log.entries.append((int(entry["position"]), mixer_state(entry["mixer"])))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(path, f"line {number + 1} is no control log: {error}") from error
    return log
