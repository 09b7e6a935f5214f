"""A desk of chains and what is around it, for its tests; a file that needs another block has its own."""

from types import SimpleNamespace

import pytest
from desk_rig import BEGINNING, TABLE, make_desk_block

from stemrack.rt.chain_desk import ChainDesk


@pytest.fixture
def block():
    return make_desk_block()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def desk(block, notes):
    desk = ChainDesk(block, TABLE, {}, BEGINNING, lambda kind, facts: notes.append((kind, facts)))
    yield desk
    desk.stop()


@pytest.fixture
def audio():
    plans = []
    return SimpleNamespace(state="running", replan=plans.append, plans=plans)
