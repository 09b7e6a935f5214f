"""A real Chromium with the browser mixer, against the real server with a node that has no engine."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from control_node import INPUTS, OUTPUTS, PROFILES, TOKENS, FakeNode, RunningServer, start_server

from stemrack.models.stems import STEMS
from stemrack.rt.chains import insert_of
from stemrack.rt.control.chain_table import ChainTable, InsertParameters
from stemrack.rt.control.messages import Meters
from stemrack.rt.control.pages import load_pages
from stemrack.rt.control.scenes import scene_of_preset
from stemrack.rt.control.table import mixer_parameters, node_parameters
from stemrack.rt.effect_builtin import BUILT_IN, with_impulses
from stemrack.rt.effect_table import Effect, EffectParameter, EffectTable
from stemrack.rt.presets import shipped_presets

WEB = Path(__file__).resolve().parents[1] / "clients" / "web"
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
WAIT_MS = 30_000
PLUGIN = Effect(
    key="comb_box", title="Comb box", doc="A plugin.", plugin="comb.vst3",
    parameters=tuple(
        EffectParameter(name=f"tooth_{i}", doc="One of many.", lowest=-1.0, highest=1.0) for i in range(30)
    ),
)  # fmt: skip
EFFECTS = EffectTable([*with_impulses(BUILT_IN, ["hall", "plate"]), PLUGIN])


class LivelyNode(FakeNode):
    """A fake node with levels that move, as for a picture, and with all effects and presets."""

    def __init__(self, **settings: Any) -> None:
        presets = {n: scene_of_preset(p) for n, p in shipped_presets(EFFECTS).items()}
        super().__init__(presets=presets, **settings)
        fixed = mixer_parameters(STEMS) + node_parameters(PROFILES, INPUTS, OUTPUTS)
        self.commands.table = ChainTable(fixed, InsertParameters(EFFECTS))
        self.commands.inserts = self.commands.table.inserts

    def chain(self, stem, *inserts):
        """Put inserts into a chain, as the node does: names, or values of `insert_of`. In its loop."""
        made = [insert_of(EFFECTS, {"effect": i} if isinstance(i, str) else i) for i in inserts]
        self.chains = self.chains.with_chain(stem, tuple(made))
        self.commands.follow_chains()

    def meters_for(self, client_id):
        if not self.makes_sound:
            return None
        self.position += 1470
        at = self.position / 44_100
        levels = {}
        for i, name in enumerate(("input", "main", *STEMS, "cue")):
            peak = -9.0 - 2.5 * i + 5.0 * math.sin(7.0 * at + i)
            levels[name] = (peak, peak - 1.5, peak - 9.0, peak - 10.0)
        return Meters(position=self.position, levels=levels)


@contextmanager
def launched() -> Iterator[Any]:
    """Give a browser; without playwright or a Chromium the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    chromium = next(filter(None, found), None)
    if chromium is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def serving() -> Iterator[RunningServer]:
    """Give a server with the mixer's pages and a lively node."""
    with start_server(LivelyNode(), pages=load_pages(WEB)) as server:
        yield server


@contextmanager
def visiting(browser: Any, port: int) -> Iterator[Callable[..., Any]]:
    """Give a function that opens the mixer with a role's token; a script that fails fails the test."""
    contexts, troubles = [], []

    def opened(role="operator", viewport=WIDE, is_ready=True, **settings):
        context = browser.new_context(viewport=viewport, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: "Security Policy" in said.text and troubles.append(said.text))
        page.goto(f"http://localhost:{port}/#token={TOKENS.get(role, role)}")
        if is_ready:
            page.wait_for_selector("body[data-state=connected] .strip")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not troubles


def slider(page, name):
    return page.get_by_role("slider", name=name, exact=True)


def wait_text(page, name, text):
    """Wait until a slider is read out as a text."""
    page.wait_for_selector(f'[role=slider][aria-label="{name}"][aria-valuetext="{text}"]')


def reached(page, running, holds):
    """Wait until something holds in the node."""
    for _ in range(WAIT_MS // 20):
        if running.call(holds):
            return
        page.wait_for_timeout(20)
    raise AssertionError("it was not reached")
