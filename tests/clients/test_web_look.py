"""How the browser mixer looks and who can use it: axe-core, sizes for fingers, pictures for the docs."""

import os
from pathlib import Path

import pytest
from browser_rig import PHONE, WIDE


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_axe_finds_nothing(open_page, running, viewport, role):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    source = next(Path(axe.__file__).parent.rglob("axe.min.js"))
    dressed(running)
    page = open_page(role=role, viewport=viewport)
    page.wait_for_selector(".event")
    page.evaluate(source.read_text(encoding="utf-8"))
    assert_usable(page)
    page.get_by_role("button", name="FX 1/2: vocals effects, 1 bypassed").click()
    page.locator(".insert-name", has_text="Reverb").click()
    page.get_by_role("slider", name="vocals reverb room size").wait_for()
    assert_usable(page)
    if role == "operator":
        page.get_by_role("button", name="Add effect").click()
        assert_usable(page)


def assert_usable(page):
    """Whether axe finds nothing in what is shown, and fingers hit it."""
    found = page.evaluate("""axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa",
        "best-practice"]}).then(r => r.violations.map(v =>
        [v.id, v.nodes.map(n => n.html.slice(0, 120) + n.failureSummary)]))""")
    assert found == []
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "the page scrolls sideways"
    small = page.eval_on_selector_all(
        "button, [role=slider]",
        "all => all.filter(e => e.offsetParent && (e.offsetHeight < 44 || e.offsetWidth < 40))"
        ".map(e => e.outerHTML.slice(0, 90) + e.offsetWidth + 'x' + e.offsetHeight)",
    )
    assert small == [], "too small for a finger"


def dressed(running):
    """Let the node look as in the middle of a show, and tell an event twice a second."""
    node = running.node
    node.counts |= {"xruns": 0, "late_hops": 2, "is_dry": 0, "worker_deaths": 0}

    def dress():
        node.chain("vocals", "highpass_filter", {"effect": "reverb", "bypass": True})
        node.chain("drums", "compressor")
        said = {"engine/state": "wet", "engine/latency_ms": 58.05, "engine/rate_hz": 44100.0}
        moved = {"stem/drums/gain_db": -3.0, "stem/bass/gain_db": 1.5, "stem/vocals/gain_db": -12.0}
        placed = {"stem/other/pan": -0.3, "stem/vocals/mute": True, "cue/gain_db": -24.0}
        node.board.change(said | moved | placed | {"scenes": "Intro\nVerse\nA cappella"}, "node")
        say()

    def say():
        node.say("late-hop", n=1, total=2)
        running.loop.call_later(0.5, say)

    running.call(dress)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_fader_moves_away_from_a_finger_when_facts_come(open_page, running, viewport):
    running.node.counts.clear()
    page = open_page(viewport=viewport)
    top = page.locator(".strips").bounding_box()["y"]
    dressed(running)
    page.locator(".facts div", has_text="Late hops").wait_for()
    page.locator(".facts div", has_text="Rate").wait_for()
    assert page.locator(".strips").bounding_box()["y"] == top


def test_the_bar_stays_as_it_is_when_the_node_goes(open_page, running):
    page = open_page(viewport=PHONE)
    box = page.locator(".bar").bounding_box()
    running.stop()
    page.wait_for_selector("body[data-state=waiting]")
    assert page.locator(".bar").bounding_box() == box
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.skipif(not os.environ.get("STEMRACK_SCREENSHOTS"), reason="STEMRACK_SCREENSHOTS names no folder")
@pytest.mark.parametrize(("name", "viewport"), [("mixer", WIDE), ("mixer-phone", PHONE)])
def test_screenshots(open_page, running, name, viewport):
    dressed(running)
    page = open_page(role="admin", viewport=viewport, device_scale_factor=1 if name == "mixer" else 2)
    page.wait_for_selector(".event")
    page.wait_for_timeout(1_500)
    folder = Path(os.environ["STEMRACK_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=name == "mixer")
    assert (folder / f"{name}.png").stat().st_size < 200_000
