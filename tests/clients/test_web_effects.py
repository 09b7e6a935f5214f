"""The effects on the page in a real Chromium: chains, inserts, parameters, and what others do to them."""

import json
import math
from pathlib import Path

from browser_rig import (
    EFFECTS,
    PHONE,
    WEB,
    LivelyNode,
    reached,
    slider,
    wait_text,
)

from stemrack.rt.chains import MAX_INSERTS, line_of
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.errors import HostError

EIGHT = ("noise_gate", "compressor", "peak_filter", "gain", "invert", "delay", "reverb", "reverb-2")


def put(running, stem, *inserts):
    """Let the node have a chain, as another client sets it."""
    running.call(lambda: running.node.chain(stem, *inserts))


def line(running, stem):
    return line_of(running.node.chains[stem])


def rack(page, stem, n=0):
    """Open the rack of a stem that has n effects, none bypassed."""
    page.get_by_role("button", name=f"{f'FX {n}' if n else '+ FX'}: {stem} effects", exact=True).click()
    return page.locator("#effects")


def titles(page):
    return page.locator(".insert-title").all_inner_texts()


def wait_titles(page, *wanted):
    page.wait_for_function(
        "wanted => JSON.stringify([...document.querySelectorAll('.insert-title')].map(e => e.textContent))"
        " === wanted",
        arg=json.dumps(wanted, separators=(",", ":")),
    )


def focused(page):
    return page.evaluate("(e => e.getAttribute('aria-label') || e.innerText)(document.activeElement)")


def value(running, stem, insert, name):
    return running.node.board.values[f"stem/{stem}/fx/{insert}/{name}"]


def head(page, title):
    """The button of an insert."""
    return page.locator(".insert-name").filter(has=page.get_by_text(title, exact=True))


# -- chains -------------------------------------------------------------------------------------------------


def test_an_effect_is_found_by_keys_added_and_opened(open_page, running):
    page = open_page()
    rack(page, "vocals").get_by_text("No effects: vocals stays as it is.").wait_for()
    assert focused(page) == "Add effect"
    page.keyboard.press("Enter")
    page.keyboard.type("reverb")
    page.get_by_text("1 found").wait_for()
    page.keyboard.press("Enter")
    reached(page, running, lambda: line(running, "vocals") == "reverb")
    slider(page, "vocals reverb room size").wait_for()
    assert focused(page) == "Reverb"
    assert page.locator("#picker-menu").is_hidden()
    page.get_by_role("button", name="Add effect").click()
    page.keyboard.press("ArrowDown")
    assert focused(page).startswith("Brickwall limiter")
    page.keyboard.press("Escape")
    assert focused(page) == "Add effect"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Reverb A room, after Freeverb.").click()
    reached(page, running, lambda: line(running, "vocals") == "reverb reverb-2")
    wait_titles(page, "Reverb", "Reverb 2")
    slider(page, "vocals reverb-2 room size").wait_for()
    assert slider(page, "vocals reverb room size").count() == 0, "one insert is open at a time"


def test_every_effect_is_offered_in_a_group(open_page):
    page = open_page()
    rack(page, "bass").get_by_role("button", name="Add effect").click()
    groups = page.eval_on_selector_all(
        ".choice-group",
        "all => Object.fromEntries(all.map(g => [g.getAttribute('aria-label'),"
        " [...g.querySelectorAll('.choice')].map(c => c.dataset.key)]))",
    )
    assert sorted(key for keys in groups.values() for key in keys) == sorted(e.key for e in EFFECTS)
    assert groups["Plugins"] == ["comb_box"]
    assert not set(groups["Plugins"]) & {e.key for e in BUILT_IN}


def test_a_full_chain_takes_no_more(open_page, running):
    assert f"MOST_INSERTS = {MAX_INSERTS};" in (Path(WEB) / "chains.js").read_text(encoding="utf-8")
    put(running, "drums", *EIGHT)
    page = open_page()
    rack(page, "drums", 8).get_by_role("button", name="Full: 8 effects").wait_for()
    page.get_by_role("button", name="Remove Reverb 2").click()
    page.get_by_role("button", name="Add effect").wait_for()


def test_keys_reorder_and_remove_and_the_focus_stays(open_page, running):
    put(running, "vocals", "gain", "delay", "reverb")
    page = open_page()
    rack(page, "vocals", 3)
    page.get_by_role("button", name="Move Delay down").focus()
    page.keyboard.press("Enter")
    reached(page, running, lambda: line(running, "vocals") == "gain reverb delay")
    assert focused(page) == "Move Delay down"
    page.get_by_text("Delay is now 3 of 3").wait_for()
    page.keyboard.press("Enter")  # it is the last one
    head(page, "Reverb").focus()
    page.keyboard.press("Alt+ArrowUp")
    reached(page, running, lambda: line(running, "vocals") == "reverb gain delay")
    assert focused(page) == "Reverb"
    page.keyboard.press("Delete")
    reached(page, running, lambda: line(running, "vocals") == "gain delay")
    wait_titles(page, "Gain", "Delay")
    assert focused(page) == "Gain"
    for _ in range(2):
        page.keyboard.press("Delete")
    reached(page, running, lambda: line(running, "vocals") == "")
    assert focused(page) == "Add effect"


def test_a_grip_drags_an_insert(open_page, running):
    put(running, "vocals", "gain", "delay", "reverb")
    page = open_page()
    rack(page, "vocals", 3)
    wait_titles(page, "Gain", "Delay", "Reverb")
    grips = page.locator(".grip")
    first, last = (grips.nth(i).bounding_box() for i in (0, 2))
    x = first["x"] + first["width"] / 2
    page.mouse.move(x, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(x, last["y"] + last["height"], steps=8)
    page.mouse.up()
    reached(page, running, lambda: line(running, "vocals") == "delay reverb gain")
    wait_titles(page, "Delay", "Reverb", "Gain")


def test_quick_edits_all_count(open_page, running):
    put(running, "vocals", "gain", "delay", "reverb", "invert")
    page = open_page()
    rack(page, "vocals", 4)
    page.evaluate("""() => {
        const press = (name) => document.querySelector(`[aria-label="${name}"]`).click();
        for (const name of ["Remove Gain", "Move Reverb up", "Remove Invert"]) press(name);
    }""")
    reached(page, running, lambda: line(running, "vocals") == "reverb delay")
    wait_titles(page, "Reverb", "Delay")


def test_a_refused_chain_shows_what_holds(open_page, running):
    page = open_page()
    rack(page, "bass")
    running.node.refuses_chains = HostError("the node is changing its profile: try again")
    page.get_by_role("button", name="Add effect").click()
    page.get_by_role("button", name="Gain Louder or softer.").click()
    page.locator("#alert", has_text="changing its profile").wait_for()
    page.get_by_text("No effects: bass stays as it is.").wait_for()
    assert titles(page) == []


# -- parameters ---------------------------------------------------------------------------------------------


def test_parameters_are_moved_and_reset(open_page, running):
    put(running, "vocals", "ladder_filter", "reverb")
    page = open_page()
    rack(page, "vocals", 2)
    cutoff = slider(page, "vocals ladder filter cutoff")
    cutoff.wait_for()  # in a wide window the first one is open
    cutoff.press("PageUp")
    reached(page, running, lambda: value(running, "vocals", "ladder_filter", "cutoff_hz") == 1995.0)
    wait_text(page, "vocals ladder filter cutoff", "2 kHz")
    cutoff.dblclick()
    reached(page, running, lambda: value(running, "vocals", "ladder_filter", "cutoff_hz") == 1000.0)
    page.get_by_label("vocals ladder filter mode").select_option("highpass-12")
    reached(page, running, lambda: value(running, "vocals", "ladder_filter", "mode") == "highpass-12")
    slider(page, "vocals ladder filter dry/wet").press("Home")
    reached(page, running, lambda: value(running, "vocals", "ladder_filter", "dry_wet") == 0.0)
    head(page, "Reverb").click()
    freeze = page.get_by_role("button", name="vocals reverb freeze mode")
    freeze.click()
    reached(page, running, lambda: value(running, "vocals", "reverb", "freeze_mode") is True)
    page.wait_for_selector('[aria-label="vocals reverb freeze mode"][aria-pressed=true]')


def test_bypass_is_one_lamp_in_strip_and_rack(open_page, running):
    put(running, "vocals", "reverb")
    page = open_page()
    rack(page, "vocals", 1)
    page.get_by_role("button", name="Bypass vocals Reverb").click()
    reached(page, running, lambda: value(running, "vocals", "reverb", "bypass") is True)
    page.wait_for_selector('[aria-label="Bypass Reverb"][aria-pressed=true]')
    page.get_by_role("button", name="FX 0/1: vocals effects, 1 bypassed").wait_for()
    assert page.locator(".off-note").is_visible()
    page.get_by_role("button", name="Bypass Reverb", exact=True).click()
    reached(page, running, lambda: value(running, "vocals", "reverb", "bypass") is False)
    page.get_by_role("button", name="FX 1: vocals effects", exact=True).wait_for()


def test_many_parameters_can_be_searched(open_page, running):
    put(running, "other", "comb_box")
    page = open_page()
    rack(page, "other", 1)
    page.get_by_label("Find one of 31 parameters").fill("tooth 29")
    page.wait_for_function("document.querySelectorAll('.parameters .slider').length === 31")
    assert page.locator(".parameters .slider:visible").count() == 1


def test_a_slot_in_the_strip_opens_its_insert(open_page, running):
    put(running, "bass", "gain", "delay")
    page = open_page()
    page.get_by_role("button", name="Delay, bass effect").click()
    slider(page, "bass delay feedback").wait_for()
    assert focused(page) == "Delay"
    page.get_by_role("button", name="Close effects").click()
    assert focused(page) == "Delay, bass effect"
    assert page.locator("#effects").is_hidden()


def test_a_parameter_is_learned(open_page, running):
    put(running, "bass", "gain")
    page = open_page()
    rack(page, "bass", 1)
    slider(page, "bass gain gain").wait_for()
    page.get_by_role("button", name="MIDI learn").click()
    slider(page, "bass gain gain").press("Enter")
    reached(page, running, lambda: running.node.learned == ["stem/bass/fx/gain/gain_db"])
    running.call(lambda: running.node.board.change({"midi/learning": "stem/bass/fx/gain/gain_db"}, "midi"))
    page.wait_for_selector(".awaits-midi[aria-label='bass gain gain']")


# -- others -------------------------------------------------------------------------------------------------


def test_follows_other_clients_and_keeps_the_focus(open_page, running):
    put(running, "vocals", "gain", "reverb")
    one, other = open_page(), open_page(viewport=PHONE)
    rack(one, "vocals", 2)
    head(one, "Reverb").click()
    size = slider(one, "vocals reverb room size")
    size.focus()
    one.evaluate("window.kept = document.activeElement")
    rack(other, "vocals", 2)
    other.get_by_role("button", name="Move Reverb up").click()
    wait_titles(one, "Reverb", "Gain")
    other.get_by_role("button", name="Remove Gain").click()
    wait_titles(one, "Reverb")
    assert one.evaluate("window.kept === document.activeElement"), "the slider is the same, and has the focus"
    head(other, "Reverb").click()
    slider(other, "vocals reverb room size").press("End")
    wait_text(one, "vocals reverb room size", "100 %")
    other.get_by_role("button", name="Remove Reverb").click()
    one.get_by_text("No effects: vocals stays as it is.").wait_for()
    assert focused(one) == "Add effect"


def test_a_drag_goes_on_while_others_edit(open_page, running):
    put(running, "vocals", "gain")
    page = open_page()
    rack(page, "vocals", 1)
    gain = slider(page, "vocals gain gain")
    box = gain.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    put(running, "vocals", "gain", "reverb")
    wait_titles(page, "Gain", "Reverb")
    page.mouse.move(x + 100, y, steps=4)
    page.mouse.up()
    reached(page, running, lambda: value(running, "vocals", "gain", "gain_db") > 0.0)


def test_survives_a_restart_with_the_rack_open(open_page, running):
    put(running, "vocals", "gain", "reverb")
    page = open_page()
    rack(page, "vocals", 2)
    head(page, "Reverb").click()
    slider(page, "vocals reverb room size").wait_for()
    page.evaluate("window.kept = document.querySelector('.insert.open')")
    running.stop()
    page.wait_for_selector("body[data-state=waiting]")
    assert page.get_by_role("button", name="Remove Reverb").get_attribute("aria-disabled") == "true"
    put(running, "vocals", "delay", "reverb")
    running.start()
    page.wait_for_selector("body[data-state=connected]")
    wait_titles(page, "Delay", "Reverb")
    assert page.evaluate("window.kept.isConnected"), "nothing was built anew"
    slider(page, "vocals reverb room size").press("Home")
    reached(page, running, lambda: value(running, "vocals", "reverb", "room_size") == 0.0)


def test_a_new_life_of_the_node_has_its_own_chains(open_page, running):
    put(running, "vocals", "gain", "reverb")
    page = open_page()
    rack(page, "vocals", 2)
    wait_titles(page, "Gain", "Reverb")
    running.restart(LivelyNode(epoch="e2"))
    page.get_by_text("No effects: vocals stays as it is.").wait_for()
    page.wait_for_selector("body[data-state=connected]")
    page.get_by_role("button", name="Add effect").click()
    page.get_by_role("button", name="Gain Louder or softer.").click()
    reached(page, running, lambda: line(running, "vocals") == "gain")


def test_says_why_the_node_bypassed_an_insert(open_page, running):
    put(running, "vocals", "reverb")
    page = open_page()
    rack(page, "vocals", 1)
    slider(page, "vocals reverb room size").wait_for()
    put(running, "vocals", {"effect": "reverb", "bypass": True})
    running.call(lambda: running.node.say("insert-bypassed", stem="vocals", insert="reverb", why="took 9 ms"))
    page.get_by_text("The node bypassed it: took 9 ms").wait_for()
    page.get_by_text("insert bypassed (stem vocals, insert reverb, why took 9 ms)").wait_for()
    page.get_by_role("button", name="Bypass Reverb", exact=True).click()
    page.get_by_text("The node bypassed it").wait_for(state="hidden")
    running.call(lambda: running.node.say("insert-reset", stem="vocals", insert="reverb", why="not finite"))
    page.get_by_text("insert reset (stem vocals, insert reverb, why not finite)").wait_for()
    running.call(lambda: running.node.say("chain-refused", why="needs more delay than there is"))
    page.locator("#alert", has_text="needs more delay than there is").wait_for()


def test_a_viewer_looks_into_the_rack_only(open_page, running):
    put(running, "vocals", "gain", "reverb")
    page = open_page(role="viewer")
    rack(page, "vocals", 2)
    slider(page, "vocals gain gain").press("End")
    page.get_by_role("button", name="Move Gain down").click(force=True)
    page.get_by_role("button", name="Remove Reverb").click(force=True)
    head(page, "Gain").press("Delete")
    assert page.get_by_role("button", name="Add effect").get_attribute("aria-disabled") == "true"
    put(running, "vocals", {"effect": "gain", "gain_db": -6.0}, "reverb")
    wait_text(page, "vocals gain gain", "-6 dB")
    assert line(running, "vocals") == "gain reverb"
    assert running.call(lambda: running.node.chain_edits) == []


def test_a_finger_moves_parameters_and_scrolls(open_page, running):
    put(running, "vocals", "reverb")
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    rack(page, "vocals", 1)
    head(page, "Reverb").tap()
    size = slider(page, "vocals reverb room size")
    size.wait_for()
    size.scroll_into_view_if_needed()
    box = size.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    hand = page.context.new_cdp_session(page)

    def touch(kind, at_x, at_y):
        points = [] if kind == "touchEnd" else [{"x": at_x, "y": at_y}]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x, y)
    for part in range(1, 9):
        touch("touchMove", x + part * 10, y)
    touch("touchEnd", 0, 0)
    moved, top = (
        float(size.get_attribute("aria-valuenow")),
        page.evaluate("scrollY"),
    )  # where the finger left it
    assert moved > 0.6
    reached(page, running, lambda: value(running, "vocals", "reverb", "room_size") == moved)
    touch("touchStart", x, y)
    for part in range(1, 9):
        touch("touchMove", x, y - part * 20)
    touch("touchEnd", 0, 0)
    page.wait_for_function(f"scrollY > {math.floor(top)} + 40")
    assert value(running, "vocals", "reverb", "room_size") == moved
