"""What the tree itself must be: sizes, names, homes of libraries, contracts, and that every test is run."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "rt", "latency", "clients")
FILE_LINES, FUNCTION_LINES = 420, 60
EVERYWHERE = {"numpy", "torch", "msgspec"}
"""The languages of the project; every other third-party library has one home file per folder."""


@cache
def tracked_files():
    """Files that are or would be tracked, relative to the root; all files where this is no git checkout."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        paths = [Path(name) for name in done.stdout.split("\0") if name]
    else:
        paths = [p.relative_to(ROOT) for p in ROOT.rglob("*") if not _hidden(p.relative_to(ROOT))]
    return sorted(p for p in set(paths) if (ROOT / p).is_file())


def _hidden(path):
    return any(part.startswith(".") or part.endswith(".egg-info") for part in path.parts)


def python_files(*folders):
    return [p for p in tracked_files() if p.suffix == ".py" and p.parts[0] in folders]


@cache
def tree_of(path):
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes_of(path):
    return list(ast.walk(tree_of(path)))


def test_files_hold_one_idea():
    long = {}
    for path in python_files(*PACKAGES, "tests"):
        n_lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        if n_lines > FILE_LINES:
            long[str(path)] = n_lines
    assert not long


def test_functions_fit_on_a_screen():
    long = {}
    for path in python_files(*PACKAGES, "tests"):
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                n_lines = node.end_lineno - first.lineno + 1
                if n_lines > FUNCTION_LINES:
                    long[f"{path}:{node.lineno} {node.name}"] = n_lines
    assert not long


def test_no_name_that_says_nothing():
    said = re.compile(r"^(utils?|helpers?|misc|common|managers?)$")
    assert not [str(p) for p in tracked_files() if said.match(p.stem) or any(map(said.match, p.parts))]


def test_no_bare_or_broad_except():
    broad = []
    for path in python_files(*PACKAGES, "tests"):
        for node in nodes_of(path):
            if isinstance(node, ast.ExceptHandler):
                caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
                names = {getattr(c, "id", getattr(c, "attr", None)) for c in caught}
                if names & {None, "Exception", "BaseException"}:
                    broad.append(f"{path}:{node.lineno}")
    assert not broad


def test_nothing_is_marked_unfinished():
    words = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    for path in python_files(*PACKAGES, "tests"):
        assert not words.search((ROOT / path).read_text(encoding="utf-8")), path


def test_public_functions_say_what_they_give():
    silent = []
    for path in python_files(*PACKAGES):
        tree = tree_of(path)
        classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        for owner in [tree, *classes]:
            for node in owner.body:
                public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
                if (
                    public
                    and not ast.get_docstring(node)
                    and not _is_protocol(owner)
                    and not node.decorator_list
                ):
                    silent.append(f"{path}:{node.lineno} {node.name}")
    assert not silent


def _is_protocol(node):
    return isinstance(node, ast.ClassDef) and any(getattr(b, "id", "") == "Protocol" for b in node.bases)


def imported_names(tree):
    """Top-level names of the modules a file imports from outside its own package, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def test_each_library_has_one_home_per_folder():
    homes = {}
    for path in python_files(*PACKAGES):
        for name in set(imported_names(tree_of(path))) - EVERYWHERE - sys.stdlib_module_names:
            homes.setdefault((str(path.parent), name), []).append(path.name)
    assert not {key: files for key, files in homes.items() if len(files) > 1}


def test_own_imports_are_relative():
    absolute = [str(p) for p in python_files(*PACKAGES) if "stemrack" in set(imported_names(tree_of(p)))]
    assert not absolute


def test_no_path_of_a_machine_and_no_address_of_a_registry():
    home = r"(?<![\w.~-])/(work|root|home/\w+|Users/\w+)/"
    registry = (
        r"https?://[\w.-]*(pypi|registry|artifactory|nexus|devpi)[\w.-]*|--(extra-)?index-url[= ]+https?:"
    )
    said = re.compile(f"{home}|{registry}")
    found = []
    for path in tracked_files():
        data = (ROOT / path).read_bytes()
        if b"\0" in data[:4096] or path.name == Path(__file__).name:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if said.search(line):
                found.append(f"{path}:{number}")
    assert not found


def stepping_classes():
    """Yield (name, whether it is a Streaming: its `init_state` takes a batch) of all that has state."""
    for path in python_files("models", "rt"):
        for node in nodes_of(path):
            if isinstance(node, ast.ClassDef) and not _is_protocol(node):
                methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
                if {"init_state", "step"} <= set(methods):
                    yield node.name, len(methods["init_state"].args.args) > 1


def names_checked(tree):
    """Names reachable from the definitions of a test file that call `check_streaming`."""
    names = {}
    for node in tree.body:
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        used |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        used |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}  # fixtures
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = used
        elif isinstance(node, ast.Assign):
            names |= {t.id: used for t in node.targets if isinstance(t, ast.Name)}
    reached = set().union(*(used for used in names.values() if "check_streaming" in used))
    while True:
        more = set().union(*(names[n] for n in reached if n in names)) - reached
        if not more:
            return reached
        reached |= more


def test_every_streaming_class_is_held_to_the_contract():
    checked = set().union(*(names_checked(tree_of(p)) for p in python_files("tests")))
    assert not {name for name, streaming in stepping_classes() if streaming} - checked


def test_every_class_that_steps_is_tested():
    text = "\n".join((ROOT / p).read_text(encoding="utf-8") for p in python_files("tests"))
    assert not [name for name, _ in stepping_classes() if not re.search(rf"\b{name}\b", text)]


def test_every_test_file_is_collected(request):
    holders = []
    for path in python_files("tests"):
        nodes = nodes_of(path)
        if any(isinstance(n, ast.FunctionDef) and n.name.startswith("test_") for n in nodes):
            assert path.name.startswith("test_"), f"{path} holds tests under a name that is not collected"
            holders.append(path)
    if request.config.invocation_params.args and any(
        not a.startswith("-") and (ROOT / a.split("::")[0]).exists()
        for a in request.config.invocation_params.args
    ):
        return  # a run of some files: what is collected says nothing
    collected = {item.path.relative_to(ROOT) for item in request.session.items}
    marked = re.compile(r"pytest\.mark\.(slow|realtime)")  # `make pytest` leaves them out, or runs them alone
    deselected = {p for p in holders if marked.search((ROOT / p).read_text(encoding="utf-8"))}
    assert set(holders) - collected <= deselected


LISTING = """
from setuptools.dist import Distribution
distribution = Distribution({"script_name": "setup.py"})
distribution.parse_config_files()
build = distribution.get_command_obj("build_py")
build.ensure_finalized()
print("\\n".join(path.removeprefix("build/lib/") for path in build.get_outputs(include_bytecode=False)))
"""


@pytest.mark.filterwarnings("ignore")
def test_wheel_equals_tree(tmp_path):
    """Every file of the packages, and nothing else, is in the wheel: asked of setuptools in an empty copy."""
    wanted = set()
    for path in tracked_files():
        if path.parts[0] in PACKAGES:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
            wanted.add(f"stemrack/{path.as_posix()}")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", LISTING], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = {line for line in done.stdout.splitlines() if line.startswith("stemrack/")}
    assert listed == wanted
