"""The browser mixer in a real Chromium, against the real server: moves, company, resuming, roles."""

import math

import pytest
from browser_rig import PHONE, LivelyNode, reached, slider, wait_text
from control_node import TOKENS


def force(running, **values):
    """Let the node itself change values, as MIDI does."""
    told = {path.replace("__", "/"): value for path, value in values.items()}
    running.call(lambda: running.node.board.change(told, "midi"))


def test_shows_the_stems_in_their_order_and_the_state(open_page):
    page = open_page()
    names = page.locator(".strip h2").all_inner_texts()
    assert [n.lower() for n in names] == ["drums", "bass", "other", "vocals", "master", "cue"]
    assert page.title() == "connected · stemrack"
    assert page.evaluate("location.href").endswith("/"), "the token is out of the address bar"
    page.reload()
    page.wait_for_selector("body[data-state=connected] .strip")
    colours = page.eval_on_selector_all(".strip", "all => all.map(s => getComputedStyle(s).borderTopColor)")
    assert colours[:4] == ["rgb(0, 158, 115)", "rgb(213, 94, 0)", "rgb(204, 121, 167)", "rgb(86, 180, 233)"]


def test_keys_move_the_fader_of_the_node(open_page, running):
    page = open_page()
    slider(page, "vocals fader").focus()
    for key, text, gain_db in (
        ("ArrowDown", "-1.0 dB", -1.0),
        ("Shift+ArrowDown", "-1.1 dB", -1.1),
        ("PageDown", "-7.1 dB", -7.1),
        ("End", "12.0 dB", 12.0),
        ("0", "0.0 dB", 0.0),
        ("Home", "silent", -math.inf),
        ("ArrowUp", "-119.0 dB", -119.0),
    ):
        page.keyboard.press(key)
        wait_text(page, "vocals fader", text)
        reached(page, running, lambda gain_db=gain_db: running.node.mixer.vocals.gain_db == gain_db)


def test_a_mouse_moves_the_fader_without_a_jump(open_page, running):
    page = open_page()
    box = slider(page, "drums fader").bounding_box()
    x, top = box["x"] + box["width"] / 2, box["y"] + 10
    page.mouse.move(x, top)  # far from the thumb
    page.mouse.down()
    page.wait_for_timeout(100)
    assert running.call(lambda: running.node.mixer.drums.gain_db) == 0.0
    travel = box["height"] - 44
    page.mouse.move(x, top + travel / 8, steps=5)
    wait_text(page, "drums fader", "-6.0 dB")
    page.mouse.up()
    reached(page, running, lambda: running.node.mixer.drums.gain_db == pytest.approx(-6.0))
    page.mouse.dblclick(x, top)
    reached(page, running, lambda: running.node.mixer.drums.gain_db == 0.0)
    wait_text(page, "drums fader", "0.0 dB")


def test_a_held_fader_waits_with_others_moves(open_page, running):
    page = open_page()
    box = slider(page, "bass fader").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    force(running, stem__bass__gain_db=-20.0, stem__other__gain_db=-3.0)
    wait_text(page, "other fader", "-3.0 dB")
    assert slider(page, "bass fader").get_attribute("aria-valuetext") == "0.0 dB"
    page.mouse.up()
    wait_text(page, "bass fader", "-20.0 dB")


def test_touch_moves_and_double_tap_resets(open_page, running):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    box = slider(page, "vocals fader").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    hand = page.context.new_cdp_session(page)

    def touch(kind, at_y):
        points = [] if kind == "touchEnd" else [{"x": x, "y": at_y}]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", y)
    for part in range(1, 6):
        touch("touchMove", y + part * (box["height"] - 44) / 40)
    touch("touchEnd", y)
    reached(page, running, lambda: running.node.mixer.vocals.gain_db == pytest.approx(-6.0, abs=0.3))
    assert page.evaluate("scrollY") == 0
    page.touchscreen.tap(x, y)
    page.touchscreen.tap(x, y)
    reached(page, running, lambda: running.node.mixer.vocals.gain_db == 0.0)


def test_two_pages_stay_in_step(open_page):
    one, other = open_page(), open_page(viewport=PHONE)
    slider(one, "drums fader").press("PageDown")
    wait_text(other, "drums fader", "-6.0 dB")
    other.get_by_role("button", name="Solo bass").click()
    one.wait_for_selector('button[aria-label="Solo bass"][aria-pressed=true]')
    assert "unheard" in one.locator(".strip.drums").get_attribute("class")
    slider(other, "other pan").press("Home")
    wait_text(one, "other pan", "100 % left")
    other.get_by_role("button", name="Record").click()
    one.wait_for_selector("button.record[aria-pressed=true]")


def test_scenes_are_stored_recalled_in_part_and_deleted(open_page, running):
    page = open_page()
    force(running, stem__bass__gain_db=-9.0, stem__drums__gain_db=-9.0)
    wait_text(page, "bass fader", "-9.0 dB")
    page.get_by_label("Name").fill("Verse <1>")
    page.get_by_role("button", name="Store").click()
    recall = page.get_by_role("button", name="Recall Verse <1>")
    recall.wait_for()
    force(running, stem__bass__gain_db=0.0, stem__drums__gain_db=0.0)
    page.get_by_role("group", name="Only these stems").get_by_role("button", name="bass").click()
    page.get_by_label("Fade, s").fill("1.5")
    recall.click()
    wait_text(page, "bass fader", "-9.0 dB")
    assert running.node.mixer.bass.ramp_ms == 1500.0
    assert slider(page, "drums fader").get_attribute("aria-valuetext") == "0.0 dB"
    page.get_by_role("button", name="Delete Verse <1>").click()
    page.get_by_role("button", name="Really delete Verse <1>?").click()
    recall.wait_for(state="detached")


def test_presets_are_recalled_and_stay_as_they_are(open_page, running):
    page = open_page()
    page.get_by_role("button", name="Recall karaoke").click()
    wait_text(page, "vocals fader", "-24.0 dB")
    page.get_by_role("button", name="FX 1: other effects").wait_for()
    assert page.get_by_role("button", name="Delete karaoke").count() == 0
    page.get_by_label("Name").fill("karaoke")
    page.get_by_role("button", name="Store").click()
    page.locator("#alert", has_text="'karaoke' is a preset and stays as it is").wait_for()
    assert running.call(lambda: running.node.kept_scenes) == []


def test_a_refusal_is_said_aloud(open_page):
    page = open_page()
    page.get_by_label("Name").fill("x" * 64)
    store = page.get_by_role("button", name="Store")
    store.click()
    page.get_by_role("button", name="Recall x").wait_for()
    page.get_by_label("Name").fill(" ")
    store.click()
    alert = page.get_by_role("alert")
    assert alert.inner_text() == "Give the scene a name first."
    page.get_by_label("Fade, s").fill("90")
    page.get_by_role("button", name="Recall x").click()
    page.locator("#alert", has_text="60000 ms").wait_for()


def test_learning_chooses_a_control_instead_of_moving_it(open_page, running):
    page = open_page()
    page.get_by_role("button", name="MIDI learn").click()
    slider(page, "vocals fader").press("Enter")
    reached(page, running, lambda: running.node.learned == ["stem/vocals/gain_db"])
    running.call(lambda: running.node.board.change({"midi/learning": "stem/vocals/gain_db"}, "midi"))
    page.get_by_text("Move the MIDI control that shall move vocals fader.").wait_for()
    page.get_by_role("button", name="Forget its MIDI controls").click()
    page.get_by_role("button", name="Mute bass").click()
    reached(page, running, lambda: running.node.learned[-1] == "stem/bass/mute")
    assert running.call(lambda: running.node.mixer.bass.mute) is False
    assert running.node.unlearned == ["stem/vocals/gain_db"]
    page.keyboard.press("Escape")
    reached(page, running, lambda: running.node.learned[-1] == "")


def test_a_device_is_set_by_its_own_button(open_page, running):
    page = open_page(role="admin")
    page.get_by_label("device output", exact=True).select_option("out b")
    assert running.node.changes == []
    page.get_by_role("button", name="Set device output").click()
    reached(page, running, lambda: running.node.board.values["device/output"] == "out b")


def test_a_viewer_sees_all_and_moves_nothing(open_page, running):
    page = open_page(role="viewer")
    assert page.locator("#role").inner_text() == "view only"
    fader = slider(page, "vocals fader")
    assert fader.get_attribute("aria-disabled") == "true"
    fader.press("ArrowDown")
    page.locator('button[aria-label="Mute vocals"]').click(force=True)  # aria-disabled: not waited for
    force(running, stem__vocals__gain_db=-4.0)
    wait_text(page, "vocals fader", "-4.0 dB")
    assert running.call(lambda: len(running.node.mixers)) == 0


def test_an_operator_cannot_set_what_is_the_admins(open_page):
    page = open_page()
    assert page.get_by_label("device output", exact=True).is_disabled()
    assert slider(page, "vocals fader").get_attribute("aria-disabled") == "false"


def test_meters_health_and_events(open_page, running):
    page = open_page()
    page.wait_for_selector('[role=meter][aria-label="drums level"]:not([aria-valuetext="silent"])')
    running.node.counts["xruns"] = 7
    running.call(lambda: running.node.board.change({"engine/state": "wet", "engine/latency_ms": 58.05}, "n"))
    running.call(lambda: running.node.say("late-hop", n=3, total=9))
    page.get_by_text("late hop (n 3, total 9)").wait_for()
    page.locator(".facts div", has_text="Xruns").locator("dd", has_text="7").wait_for()
    facts = " ".join(page.locator(".facts").inner_text().split())
    assert "Sound stems Latency 58 ms" in facts.replace("58.0 ms", "58 ms").replace("58.1 ms", "58 ms")
    running.node.makes_sound = False
    page.wait_for_selector('[role=meter][aria-label="drums level"][aria-valuetext="silent"]')


def test_resumes_after_a_restart_with_the_same_state(open_page, running):
    page = open_page()
    page.evaluate("window.kept = document.querySelector('.strip')")
    running.stop()
    page.wait_for_selector("body[data-state=waiting]")
    assert page.title() == "no connection · stemrack"
    said = page.locator("#connection").inner_text()
    assert said == "no connection, trying again. The node has stopped."
    assert slider(page, "bass fader").get_attribute("aria-disabled") == "true"
    force(running, stem__bass__gain_db=-5.0)
    running.start()
    page.wait_for_selector("body[data-state=connected]")
    wait_text(page, "bass fader", "-5.0 dB")
    assert page.evaluate("window.kept.isConnected"), "nothing was built anew"
    slider(page, "bass fader").press("ArrowUp")
    reached(page, running, lambda: running.node.mixer.bass.gain_db == -4.0)


def test_takes_a_snapshot_of_a_new_life_of_the_node(open_page, running):
    page = open_page()
    slider(page, "drums fader").press("PageDown")
    wait_text(page, "drums fader", "-6.0 dB")
    running.restart(LivelyNode(epoch="e2"))
    wait_text(page, "drums fader", "0.0 dB")
    page.wait_for_selector("body[data-state=connected]")
    slider(page, "drums fader").press("ArrowUp")
    reached(page, running, lambda: running.node.mixer.drums.gain_db == 1.0)


def test_a_wrong_token_is_asked_for_and_not_tried_again(open_page, running):
    page = open_page(role="wrong", is_ready=False)
    page.get_by_role("heading", name="This page is not let in").wait_for()
    tries = running.counted["connections"]
    page.wait_for_timeout(2_500)
    assert running.counted["refused_token"] == 1
    assert running.counted["connections"] == tries
    page.get_by_label("Token").fill(TOKENS["operator"])
    page.get_by_role("button", name="Connect").click()
    page.wait_for_selector("body[data-state=connected] .strip")
