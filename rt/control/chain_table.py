"""Chains as parameters: the path, range and value of everything that the inserts of the moment have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...models.stems import STEMS
from ..chains import BYPASS, DRY_WET, Chains, Insert, line_of
from ..effect_table import Effect, EffectParameter, EffectTable
from ..errors import ConfigError
from .codec import ProtocolError
from .messages import EffectInfo, ErrorCode, Value
from .table import Parameter, Table

_KEPT = 512
"""Inserts whose parameters are kept ready."""


class Place(NamedTuple):
    """What a path of a chain means. insert, parameter: '' for the chain's line."""

    stem: str
    insert: str
    parameter: str


def line_path(stem: str) -> str:
    """Return the path of a chain's line."""
    return f"stem/{stem}/chain"


def place_of(path: str) -> Place | None:
    """Return what a path means in the chains; None if it is no path of theirs.

    >>> place_of("stem/bass/fx/reverb-2/room_size"), place_of("stem/bass/pan")
    (Place(stem='bass', insert='reverb-2', parameter='room_size'), None)
    """
    match path.split("/"):
        case ["stem", stem, "chain"] if stem in STEMS:
            return Place(stem, "", "")
        case ["stem", stem, "fx", insert, parameter] if stem in STEMS and insert and parameter:
            return Place(stem, insert, parameter)
    return None


def value_in(chains: Chains, place: Place) -> Value:
    """Return the value that an insert has at a place; None if there is none."""
    insert = chains.insert(place.stem, place.insert)
    return None if insert is None else _value_of(insert, place.parameter)


def _value_of(insert: Insert, parameter: str) -> Value:
    if parameter == BYPASS:
        return insert.bypass
    return insert.dry_wet if parameter == DRY_WET else insert.values.get(parameter)


class InsertParameters:
    """The parameters of any insert, whether it is in a chain or not."""

    def __init__(self, effects: EffectTable) -> None:
        self.effects = effects
        self._kept: dict[tuple[str, str], dict[str, Parameter]] = {}

    def of(self, stem: str, insert: str) -> dict[str, Parameter]:
        """Return the parameters of an insert by path.  Raises: ConfigError for an unknown effect."""
        if (kept := self._kept.get((stem, insert))) is None:
            made = _parameters_of(self.effects.of_insert(insert), stem, insert)
            kept = {p.path: p for p in made}
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[stem, insert] = kept
        return kept

    def values(self, stem: str, insert: Insert) -> dict[str, Value]:
        """Return the values of an insert by path."""
        held = {p: _value_of(insert, p.path.rpartition("/")[2]) for p in self.of(stem, insert.name).values()}
        return {p.path: p.default if value is None else value for p, value in held.items()}


class ChainTable(Table):
    """The parameters that are always there, and those of the inserts in the chains; it never changes.

    >>> from ..effect_table import Effect, EffectTable
    >>> effects = EffectTable([Effect(key="gain", title="Gain", doc="Louder or softer.")])
    >>> from ..chains import chain_of
    >>> table = ChainTable((), InsertParameters(effects)).following(Chains(bass=chain_of(effects, "gain")))
    >>> [p.path for p in table]
    ['stem/bass/fx/gain/bypass', 'stem/bass/fx/gain/dry_wet']
    """

    def __init__(
        self, fixed: Iterable[Parameter], inserts: InsertParameters, chains: Chains | None = None
    ) -> None:
        self._fixed, self.inserts = tuple(fixed), inserts
        chains = chains or Chains()
        self._lines = {stem: line_of(chain) for stem, chain in chains}
        super().__init__((*self._fixed, *self._of_inserts(chains)))

    def _of_inserts(self, chains: Chains) -> Iterable[Parameter]:
        for stem, chain in chains:
            for insert in chain:
                yield from self.inserts.of(stem, insert.name).values()

    def following(self, chains: Chains) -> ChainTable:
        """Return the table of other chains: this one, if they have the same inserts."""
        if all(self._lines[stem] == line_of(chain) for stem, chain in chains):
            return self
        return ChainTable(self._fixed, self.inserts, chains)


class PossibleTable(Table):
    """The parameters that are always there, and those of every insert that could be made.

    Only what is always there is listed. For what is bound to inserts that come and go.
    """

    def __init__(self, fixed: Iterable[Parameter], inserts: InsertParameters) -> None:
        super().__init__(fixed)
        self._inserts = inserts

    def __getitem__(self, path: str) -> Parameter:
        """Return the parameter.  Raises: ProtocolError if there can be none of that path."""
        return self._possible(path) or super().__getitem__(path)

    def __contains__(self, path: object) -> bool:
        return super().__contains__(path) or (isinstance(path, str) and self._possible(path) is not None)

    def _possible(self, path: str) -> Parameter | None:
        place = place_of(path)
        if place is None or not place.insert:
            return None
        try:
            return self._inserts.of(place.stem, place.insert).get(path)
        except ConfigError:
            return None


def changed_values(inserts: InsertParameters, before: Chains, after: Chains) -> dict[str, Value]:
    """Return what a board must be told when chains change: None for the paths that are gone.

    Inserts that are the same objects before and after are passed over.
    """
    changed: dict[str, Value] = {}
    for stem, chain in after:
        if chain is before[stem]:
            continue
        changed[line_path(stem)] = line_of(chain)
        gone = {insert.name: insert for insert in before[stem]}
        for insert in chain:
            if gone.pop(insert.name, None) is not insert:
                changed |= inserts.values(stem, insert)
        for name in gone:
            changed |= dict.fromkeys(inserts.of(stem, name))
    return changed


def refusal(error: ConfigError, path: str, code: ErrorCode = ErrorCode.OUT_OF_RANGE) -> ProtocolError:
    """Return what a client hears of a chain that cannot be."""
    return ProtocolError(code, str(error)[:300], path)


def effect_info(effect: Effect) -> EffectInfo:
    """Return what a client gets to know of an effect."""
    infos = tuple(_parameter(p, p.name).info for p in effect.parameters)
    return EffectInfo(key=effect.key, title=effect.title, doc=effect.doc, parameters=infos)


def _parameters_of(effect: Effect, stem: str, insert: str) -> list[Parameter]:
    at = f"stem/{stem}/fx/{insert}"
    own = [p for p in effect.parameters if p.name not in (BYPASS, DRY_WET)]
    return [*insert_parameters(at), *(_parameter(p, f"{at}/{p.name}") for p in own)]


def insert_parameters(at: str) -> list[Parameter]:
    """Return what every insert has beside its effect's own parameters. at: its path."""
    return [
        Parameter(path=f"{at}/{BYPASS}", kind="switch", doc="Whether the sound goes past it.", default=False),
        Parameter(
            path=f"{at}/{DRY_WET}",
            kind="number",
            doc="Share of the effect: 0 what comes in, 1 what it makes of it.",
            lowest=0.0,
            highest=1.0,
            step=0.05,
            default=1.0,
        ),
    ]


def _parameter(parameter: EffectParameter, path: str) -> Parameter:
    return Parameter(
        path=path,
        kind=parameter.kind,
        doc=parameter.doc,
        unit=parameter.unit,
        lowest=parameter.lowest,
        highest=parameter.highest,
        step=parameter.step,
        default=parameter.default,
        choices=parameter.choices,
        is_log=parameter.is_log,
    )
