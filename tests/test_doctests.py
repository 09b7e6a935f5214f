"""The examples in docstrings and in README.md do what they say."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from control_node import TOKENS, FakeNode, start_server

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "rt", "latency", "clients")
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_docstring_examples(path):
    module = importlib.import_module(
        ".".join(("stemrack", *path.with_suffix("").parts)).removesuffix(".__init__")
    )
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0, f"{path} has examples outside docstrings"
    assert result.failed == 0


def test_readme_python(monkeypatch):
    """Where a block names the address of a node, there is one."""
    monkeypatch.chdir(ROOT)
    node = FakeNode()
    with start_server(node) as server:
        address = f"{server.http_url}/#token={TOKENS['operator']}"
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            block = block.replace("http://127.0.0.1:8137/#token=...", address)
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert node.board.values["stem/vocals/gain_db"] == -6.0


def stemrack_lines():
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    return [line for line in blocks.replace("\\\n", " ").splitlines() if line.startswith("stemrack ")]


@pytest.mark.parametrize("line", stemrack_lines())
def test_readme_commands_exist_with_these_options(line, tmp_path, monkeypatch):
    """Parse each `stemrack` line of the README as the program would, without running it."""
    import typer.main

    from stemrack.rt.app import cli

    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(cli)
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"no command '{name}'"
        command = command.commands[name]
    command.make_context("stemrack", words, resilient_parsing=False)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([\w-]+)", README, re.MULTILINE))))
def test_readme_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
