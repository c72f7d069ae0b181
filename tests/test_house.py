"How the code is written: words, density, lengths, keywords. The bounds are those of well-kept notebooks (fastcore, execnb)."

import ast
import json
import re
import statistics
import tomllib

import pytest
from conftest import ROOT

MODULES = sorted(path for path in (ROOT / "reidnb").rglob("*.py") if path.name != "_modidx.py")
NOTEBOOKS = [path for folder in ("nbs", "reports") for path in sorted((ROOT / folder).rglob("*.ipynb"))]
PRIVATE = set(  # what must not name anything; the field's term is in CONTRIBUTING.md
    "town towns dream dreams dreamer nobody stranger strangers nought naught taps told asked found seen known wanted "
    "kept believed critic critics unnamed maker people".split()
)
ALLOWED = {"PatchPool.seen"}  # a name in checkpoints: how many images the pool has taken
HOOKS = ("__torch_function__", "_enter", "_leave")  # torch calls them by position
DRAWING = ("plots", "synthetic")  # a figure's call has many arguments


def names_of(tree):
    "Everything that a module gives a name to: variables, parameters, functions, classes, attributes."
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


def words_of(name):
    return set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def test_identifiers_have_no_private_words():
    allowed = {name.split(".")[1] for name in ALLOWED}
    private = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in MODULES
        for name in names_of(ast.parse(path.read_text(encoding="utf8")))
        if words_of(name) & PRIVATE and name not in allowed
    }
    assert not private


def keys_of(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def test_settings_and_plans_have_no_private_words():
    keys = {key for path in (ROOT / "data").rglob("*.toml") for key in keys_of(tomllib.loads(path.read_text()))}
    settings = re.findall(r"^(\w+) =", (ROOT / "settings.ini").read_text(), re.M)
    lifelong = {"seen"}  # lifelong learning tests seen and unseen domains
    assert not {key for key in (*keys, *settings) if words_of(key) & (PRIVATE - lifelong)}


PROSE = re.compile(
    r"\b(towns?|dreams?|dreamers?|nobody|strangers?|nought|taps|critics?|unnamed|somebody|eyes of|in the light of)\b",
    re.IGNORECASE,
)


def test_prose_has_no_private_words():
    texts = {path: path.read_text(encoding="utf8") for path in ROOT.glob("*.md")}
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        texts[path] = "\n".join("".join(cell["source"]) for cell in cells)
    for path in [ROOT / "data" / "findings.toml", ROOT / "data" / "audit.toml", *MODULES]:
        texts[path] = path.read_text(encoding="utf8")
    found_at = {path.relative_to(ROOT).as_posix(): PROSE.findall(text) for path, text in texts.items()}
    assert not {path: words for path, words in found_at.items() if words}


COMPOUND = (ast.FunctionDef, ast.ClassDef, ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Import, ast.ImportFrom)


def simple_statements(tree):
    "Statements without a body, but for imports and docstrings."
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not isinstance(node, COMPOUND) and not is_docstring:
            yield node


def test_one_thought_a_statement():
    nodes, longest = [], {}
    for path in MODULES:
        for statement in simple_statements(ast.parse(path.read_text(encoding="utf8"))):
            count = sum(1 for _ in ast.walk(statement))
            nodes.append(count)
            if count > 80 and path.parts[-2] not in DRAWING:
                longest[path.name, statement.lineno] = count
    assert not longest
    assert statistics.mean(nodes) <= 15 and sorted(nodes)[int(0.9 * len(nodes))] <= 27


def test_functions_fit_on_a_screen():
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 45:
                long[path.name, node.name] = node.end_lineno - node.lineno + 1
    assert not long


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_export_cells_are_short(path):
    for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
        source = "".join(cell["source"])
        if source.startswith(("#| export", "#| options")):
            assert source.count("\n") < 50, source.splitlines()[1]


def test_keywords_after_the_third_parameter():
    "Compiled kernels aside, which numba calls by position."
    positional = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if not isinstance(node, ast.FunctionDef) or any("jit" in ast.unparse(d) for d in node.decorator_list):
                continue
            if node.name in HOOKS:
                continue
            parameters = [p.arg for p in (*node.args.posonlyargs, *node.args.args) if p.arg not in ("self", "cls")]
            if len(parameters) > 3:
                positional[path.relative_to(ROOT).as_posix(), node.name] = parameters[3:]
    assert not positional
