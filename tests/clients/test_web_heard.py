"""The page in a real browser on a live node: what is moved on it is what the recording holds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from live_node import LEVEL, heard_gain, node_on, write_steady
from playwright.sync_api import expect, sync_playwright
from processes import until

from stemrack.rt.control.pages import load_pages

CHROMIUM = shutil.which("chromium")
WEB = Path(__file__).resolve().parents[2] / "clients" / "web"
pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc"),
]
WAIT_MS = 30_000


@pytest.fixture
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_an_effect_put_in_on_the_page_is_heard(browser, tmp_path):
    steady = write_steady(tmp_path / "steady.wav")
    with node_on(steady, tmp_path, load_pages(WEB)) as (engine, _, address, tokens):
        until(lambda: not engine.counters()["is_dry"])
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(address.url(tokens.by_role["operator"]))
        page.get_by_role("button", name="+ FX: vocals effects").click()
        page.get_by_role("button", name="Add effect").click()
        page.get_by_role("button", name="Gain Louder or softer.").click()
        softer = pytest.approx(10 ** (-5 / 20), rel=1e-4)
        page.get_by_role("slider", name="vocals gain gain").press("PageDown")
        until(lambda: heard_gain(engine) == softer)
        mix = page.get_by_role("slider", name="vocals gain dry/wet")
        bypass = page.get_by_role("button", name="Bypass Gain", exact=True)
        for out, back in (
            (lambda: mix.press("Home"), lambda: mix.press("End")),
            (bypass.click, bypass.click),
        ):
            out()
            until(lambda: heard_gain(engine) == pytest.approx(1.0, rel=1e-4))
            back()
            until(lambda: heard_gain(engine) == softer)
        page.get_by_role("button", name="Remove Gain").click()
        until(lambda: heard_gain(engine) == pytest.approx(1.0, rel=1e-4))


def test_a_fader_moved_on_the_page_is_in_the_recording(browser, tmp_path):
    steady = write_steady(tmp_path / "steady.wav")
    with node_on(steady, tmp_path, load_pages(WEB)) as (engine, _, address, tokens):
        until(lambda: not engine.counters()["is_dry"])
        first, second = browser.new_page(), browser.new_page()
        for page in (first, second):
            page.set_default_timeout(WAIT_MS)
            page.goto(address.url(tokens.by_role["operator"]))
        fader, other = (p.get_by_role("slider", name="vocals fader") for p in (first, second))
        expect(fader).to_have_attribute("aria-valuetext", "0.0 dB", timeout=WAIT_MS)
        first.get_by_role("button", name="Record").click()
        until(lambda: engine.is_recording)
        until(lambda: heard_gain(engine) == pytest.approx(1.0, rel=1e-6))
        fader.focus()
        for _ in range(6):
            first.keyboard.press("ArrowDown")
        expect(other).to_have_attribute("aria-valuetext", "-6.0 dB", timeout=WAIT_MS)
        until(lambda: heard_gain(engine) == pytest.approx(10 ** (-6 / 20), rel=1e-6))
        second.get_by_role("button", name="Mute vocals").click()
        until(lambda: heard_gain(engine) == 0.0)
        expect(first.get_by_role("button", name="Mute vocals")).to_have_attribute(
            "aria-pressed", "true", timeout=WAIT_MS
        )
        first.get_by_role("button", name="Record").click()
        until(lambda: not engine.is_recording)
        recorded, _ = soundfile.read(next((tmp_path / "takes").glob("*/mix.wav")))
    levels = recorded[:, 0] / LEVEL
    at = {gain: int((np.abs(levels - gain) < 1e-5).sum()) for gain in (1.0, 10 ** (-6 / 20), 0.0)}
    assert min(at.values()) > 2_000, at  # each was heard for a while
    assert np.abs(np.diff(levels)).max() < 0.01  # and nothing jumped
