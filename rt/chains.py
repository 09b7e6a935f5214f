"""Effect chains as data: the inserts of each stem, in order, with all their values; and edits of them.

A chain is said in one line, the names of its inserts from first to last: 'highpass compressor reverb'. Two
inserts of one effect are told apart by a number: 'reverb reverb-2'. An edit gives the new line; inserts that
it still names keep their values. Nothing here makes sound: `effects` does, from the same data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ..models.stems import STEMS
from .effect_table import EffectTable, Value
from .errors import ConfigError

MAX_INSERTS = 8
"""In one chain."""
BYPASS, DRY_WET = "bypass", "dry_wet"
"""What every insert has beside its effect's own parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """One effect in a chain. name: unique in its chain; values: of all its parameters.

    dry_wet: 0 what comes in, 1 what the effect makes of it.  state: of a third party's plugin, base64 of its
    own format; given to it before the values.
    """

    name: str
    effect: str
    values: Mapping[str, Value] = field(default_factory=dict)
    bypass: bool = False
    dry_wet: float = 1.0
    state: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for files; `insert_of` gives the insert back."""
        plain: dict[str, Any] = {"effect": self.name, **self.values}
        if self.bypass:
            plain[BYPASS] = True
        if self.dry_wet != 1.0:
            plain[DRY_WET] = self.dry_wet
        if self.state:
            plain["state"] = self.state
        return plain


Chain = tuple[Insert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """The chain of every stem at one moment."""

    drums: Chain = ()
    bass: Chain = ()
    other: Chain = ()
    vocals: Chain = ()

    def __getitem__(self, stem: str) -> Chain:
        return getattr(self, stem)

    def __iter__(self) -> Iterator[tuple[str, Chain]]:
        return ((stem, self[stem]) for stem in STEMS)

    def __bool__(self) -> bool:
        return any(chain for _, chain in self)

    def with_chain(self, stem: str, chain: Chain) -> Chains:
        """Return these with another chain for a stem."""
        return replace(self, **{stem: chain})

    def with_insert(self, stem: str, insert: Insert) -> Chains:
        """Return these with an insert in place of the one of its name."""
        return self.with_chain(stem, tuple(insert if i.name == insert.name else i for i in self[stem]))

    def insert(self, stem: str, name: str) -> Insert | None:
        """Return the insert of a name, if there is one."""
        return next((i for i in self[stem] if i.name == name), None) if stem in STEMS else None

    def as_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return plain values of the stems that have a chain; `chains_of` gives the chains back."""
        return {stem: [i.as_dict() for i in chain] for stem, chain in self if chain}


def insert_number(stem: int, place: int) -> int:
    """Return one number for stem and place in its chain, above 0; place -1: 0.

    >>> insert_number(0, 0), insert_number(3, 1), insert_number(2, -1)
    (1, 26, 0)
    """
    return stem * MAX_INSERTS + place + 1 if place >= 0 else 0


def line_of(chain: Chain) -> str:
    """Return a chain in one line."""
    return " ".join(insert.name for insert in chain)


def chain_of(table: EffectTable, line: str, present: Chain = ()) -> Chain:
    """Return the chain that a line names; inserts that `present` has keep what they have.

    Raises: ConfigError for an unknown effect, a name that comes twice, and too many.
    """
    names = line.split()
    if len(names) > MAX_INSERTS:
        raise ConfigError(f"{len(names)} inserts: a chain takes {MAX_INSERTS}")
    if twice := next((n for n in names if names.count(n) > 1), ""):
        key = table.of_insert(twice).key
        free = next(n for n in (f"{key}-{i}" for i in range(2, 99)) if n not in names)
        raise ConfigError(f"'{twice}' comes twice: call the second one {free}")
    kept = {insert.name: insert for insert in present}
    return tuple(kept.get(name) or new_insert(table, name) for name in names)


def new_insert(table: EffectTable, name: str) -> Insert:
    """Return an insert with its effect's defaults.  Raises: ConfigError for an unknown effect."""
    effect = table.of_insert(name)
    return Insert(name=name, effect=effect.key, values=effect.defaults)


def with_value(table: EffectTable, insert: Insert, name: str, value: object) -> Insert:
    """Return the insert with another value for a parameter, `bypass` or `dry_wet`.  Raises: ConfigError."""
    if name == BYPASS:
        if not isinstance(value, bool):
            raise ConfigError(f"bypass = {value!r:.64}: must be true or false")
        return replace(insert, bypass=value)
    if name == DRY_WET:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise ConfigError(f"dry_wet = {value!r:.64}: must be 0 (dry) to 1 (wet)")
        return replace(insert, dry_wet=float(value))
    checked = table[insert.effect][name].checked(value)
    return replace(insert, values={**insert.values, name: checked})


def insert_of(table: EffectTable, values: Mapping[str, Any]) -> Insert:
    """Return the insert that plain values describe.  Raises: ConfigError."""
    rest = dict(values)
    name = rest.pop("effect", None)
    if not isinstance(name, str):
        raise ConfigError(f"an insert needs effect = '...', the name of an effect, not {name!r:.64}")
    state = rest.pop("state", "")
    if not isinstance(state, str):
        raise ConfigError(f"{name}: state must be text (base64)")
    insert = replace(new_insert(table, name), state=state)
    for key, value in rest.items():
        try:
            insert = with_value(table, insert, key, value)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
    return insert


def chains_of(table: EffectTable, values: Mapping[str, Any], where: str = "") -> Chains:
    """Return the chains that plain values describe, lists of inserts by stem.

    where: what errors call the chain of stem {}; they begin with it and the number of the insert.
    Raises: ConfigError.
    """
    chains = Chains()
    for stem, inserts in values.items():
        if stem not in STEMS:
            raise ConfigError(f"there is no stem '{str(stem)[:32]}', but {', '.join(STEMS)}")
        if not isinstance(inserts, list) or not all(isinstance(i, Mapping) for i in inserts):
            raise ConfigError(f"{where.format(stem) or stem}: must be a list of inserts")
        made: Chain = ()
        for number, insert in enumerate(inserts, 1):
            with _errors_of(f"{where} {number}" if where else "", stem):
                made += (insert_of(table, insert),)
        with _errors_of(where, stem):
            chain_of(table, line_of(made), made)  # refuses what a line cannot say
        chains = chains.with_chain(stem, made)
    return chains


@contextmanager
def _errors_of(where: str, stem: str) -> Iterator[None]:
    """Have errors begin with where they are, if that is to be said."""
    try:
        yield
    except ConfigError as error:
        if not where:
            raise
        raise ConfigError(f"{where.format(stem)}: {error}") from error
