"""Hypothesis strategies made from the message types themselves, and frames with something wrong in them."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from stemrack.rt.control.messages import ClientMessage, ServerMessage

CLIENT_TYPES: tuple[type, ...] = ClientMessage.__args__
SERVER_TYPES: tuple[type, ...] = ServerMessage.__args__
WHOLE = 2**53
MADE = {
    inspect.BoolType: lambda kind: st.booleans(),
    inspect.NoneType: lambda kind: st.none(),
    inspect.IntType: lambda kind: st.integers(
        -WHOLE if kind.ge is None else kind.ge, WHOLE if kind.le is None else kind.le
    ),
    inspect.FloatType: lambda kind: st.floats(kind.ge, kind.le, allow_nan=False, allow_infinity=False),
    inspect.StrType: lambda kind: st.text(
        min_size=kind.min_length or 0, max_size=min(kind.max_length or 40, 40)
    ),
    inspect.UnionType: lambda kind: st.one_of([values_of_type(t) for t in kind.types]),
    inspect.TupleType: lambda kind: st.tuples(*[values_of_type(t) for t in kind.item_types]),
    inspect.VarTupleType: lambda kind: st.lists(
        values_of_type(kind.item_type), min_size=kind.min_length or 0, max_size=4
    ).map(tuple),
    inspect.DictType: lambda kind: st.dictionaries(
        values_of_type(kind.key_type), values_of_type(kind.value_type), max_size=4
    ),
    inspect.StructType: lambda kind: instances_of(kind.cls),
}
"""A strategy for every kind of type that messages are made of; an unknown one is a KeyError."""


def values_of_type(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return a strategy for all valid values of a type, as msgspec describes it."""
    bare = kind.type if isinstance(kind, inspect.Metadata) else kind
    return MADE[type(bare)](bare)


@functools.cache
def instances_of(cls: type) -> st.SearchStrategy[Any]:
    """Return a strategy for all valid messages of a class, with and without their optional fields."""
    described = inspect.type_info(cls)
    assert isinstance(described, inspect.StructType)
    needed = {f.name: values_of_type(f.type) for f in described.fields if f.required}
    optional = {f.name: values_of_type(f.type) for f in described.fields if not f.required}
    return st.fixed_dictionaries(needed, optional=optional).map(lambda fields: cls(**fields))


client_messages = st.one_of([instances_of(c) for c in CLIENT_TYPES])
server_messages = st.one_of([instances_of(c) for c in SERVER_TYPES])
