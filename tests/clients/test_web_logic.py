"""The browser mixer's logic, tested by node's own test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("web_logic.test.mjs")
NODE = shutil.which("node")


def node(*arguments):
    return subprocess.run([NODE, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_logic_of_the_mixer():
    major = int(node("--version").stdout[1:].partition(".")[0])
    if major < 20:
        pytest.skip(f"node {major} is older than 20: its test runner cannot mock timers")
    done = node("--test", "--test-reporter=tap", str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line for line in done.stdout.splitlines() if line.startswith("# pass ")]
    assert ran, done.stdout
    assert int(ran[0].split()[-1]) == TESTS.read_text(encoding="utf-8").count('\ntest("')
