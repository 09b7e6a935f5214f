"""The browser, a node and its page, for the tests of the page."""

import pytest
from browser_rig import launched, serving, visiting


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium


@pytest.fixture
def running():
    with serving() as server:
        yield server


@pytest.fixture
def open_page(browser, running):
    with visiting(browser, running.port) as opened:
        yield opened
