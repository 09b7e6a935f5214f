"""Effect chains for the tests of the whole engine: plugins that were built for it, and edits by line."""

from stemrack.rt.chains import Chains, chain_of, with_value
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.effect_table import Effect, EffectParameter, EffectTable

LEVEL = EffectParameter(
    name="level_db", doc="Level", unit="dB", lowest=-60.0, highest=12.0, default=0.0, change="ramp"
)


def table_with(plugins):
    """The built-in effects and hostile plugins, which all have a level."""
    own = [
        Effect(key=key, title=key, doc="of the tests", plugin=str(path), parameters=(LEVEL,))
        for key, path in plugins.items()
    ]
    return EffectTable([*BUILT_IN, *own])


def neutral(table, chains):
    """The same chains at values that change nothing."""
    for stem, chain in chains:
        for insert in chain:
            for name, value in table[insert.effect].neutral.items():
                insert = with_value(table, insert, name, value)
            chains = chains.with_insert(stem, insert)
    return chains


def edited(table, chains, **lines):
    """Chains with other lines for some stems."""
    for stem, line in lines.items():
        chains = chains.with_chain(stem, chain_of(table, line, chains[stem]))
    return chains


def chains_with(table, **lines):
    """Chains of lines, at their defaults."""
    return edited(table, Chains(), **lines)
