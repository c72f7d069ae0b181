"Who may import whom: the package's arrows, imports inside of functions included."

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# Each package, from the bottom to the top, with the packages below it, or single modules of them, that it may import.
# `descriptions` are the options of augmentation, models, losses, evaluation, training and methods, which load without torch.
FIELD = ("core", "data")  # what augmentation, models, losses and evaluation build on
MECHANISMS = ("augmentation", "models", "losses", "evaluation", "training")
LEARNING = (*FIELD, "synthetic", *MECHANISMS, "methods")
ALLOWED = {
    "core": (),
    "data": ("core",),
    "synthetic": FIELD,
    "augmentation": FIELD,
    "models": FIELD,
    "losses": FIELD,
    "evaluation": (
        *FIELD,
        "augmentation.batch",  # images are normalised as in training, and the task "change" changes them as it does
        "models.configuration",  # stripes that are pooled at test
    ),
    "training": ("core",),  # fit knows no re-ID
    "methods": (*FIELD, *MECHANISMS),
    "plots": ("core", "losses", "training"),  # the functions that train draw their schedules
    "catalogue": (*FIELD, "descriptions"),  # an experiment is made of them
    "runs": (*LEARNING, "catalogue"),
    "results": (*FIELD, "catalogue", "runs"),
    "book": (*FIELD, "synthetic", "plots", "catalogue", "runs", "results"),
    "cli": (*FIELD, "synthetic", "evaluation", "catalogue", "runs", "results", "book"),
    "__main__": ("cli",),
}
DESCRIPTIONS = ("configuration", "description", "objective")  # names of modules; others end in `_options`
LIGHT = ("core", "catalogue")  # packages that load without torch


def modules() -> dict[str, Path]:
    "Every module of the package by its dotted name."
    paths = [path for path in (ROOT / "reidnb").rglob("*.py") if path.name != "_modidx.py"]
    return {_name_of(path): path for path in paths}


def _name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


MODULES = modules()


def imported(name: str, path: Path) -> set[str]:
    "The package's modules that a module imports anywhere."
    targets = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            targets |= {_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, path)
            targets |= {_module(f"{base}.{alias.name}") for alias in node.names}
    return {target for target in targets if target and target != name}


def _absolute(node, name, path):
    "The dotted name that an import is from; a level of 1 is the module's own package."
    if not node.level:
        return node.module
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _module(dotted):
    "The module that a dotted name is or belongs to; None for those of other packages."
    while dotted.startswith("reidnb."):
        if dotted in MODULES:
            return dotted
        dotted = dotted.rpartition(".")[0]
    return None


ARROWS = {name: imported(name, path) for name, path in MODULES.items()}


def package_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def is_allowed(name: str, target: str) -> bool:
    "Whether a module may import another one."
    package, other = package_of(name), package_of(target)
    allowed = ALLOWED[package]
    if package == other or other in allowed or target.removeprefix("reidnb.") in allowed:
        return True
    return "descriptions" in allowed and is_description(target)


def is_description(target: str) -> bool:
    "Whether a module holds options of something that learns, augments or evaluates."
    module = target.rpartition(".")[2]
    named = module in DESCRIPTIONS or module.endswith("_options")
    return named and package_of(target) in (*MECHANISMS, "methods")


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_is_below_them(package):
    names = [name for name in ARROWS if package_of(name) == package]
    arrows = [(name, target) for name in names for target in sorted(ARROWS[name])]
    assert names
    assert not [f"{name} imports {target}" for name, target in arrows if not is_allowed(name, target)]


def test_the_table_of_packages_is_whole_and_has_an_order():
    assert {package_of(name) for name in MODULES} - {""} == set(ALLOWED)
    order = list(ALLOWED)
    for package, allowed in ALLOWED.items():
        below = [other.split(".")[0] for other in allowed if other != "descriptions"]
        assert all(order.index(other) < order.index(package) for other in below), package


def test_no_module_imports_itself_through_others():
    assert not cycles(ARROWS)


def cycles(arrows: dict[str, set]) -> list:  # of lists of names
    "Modules that can be reached from themselves, one way for each."
    ways = []
    for start in sorted(arrows):
        way = _way_back(start, arrows)
        if way and start == min(way):
            ways.append(way)
    return ways


def _way_back(start, arrows):
    "The shortest way from a module to itself; None where there is none."
    ways, visited = [[start]], {start}
    for way in ways:  # grows
        for target in sorted(arrows[way[-1]]):
            if target == start:
                return way
            if target not in visited:
                visited.add(target)
                ways.append([*way, target])
    return None


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    tree = ast.parse("def f():\n    from ..core import files\n    from reidnb.core.files import write_text")
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    bases = [_absolute(node, "reidnb.runs.plan", Path("plan.py")) for node in nodes]
    assert bases == ["reidnb.core", "reidnb.core.files"]
    assert _module("reidnb.core.files.write_text") == _module("reidnb.core.files") == "reidnb.core.files"


def test_descriptions_load_without_torch():
    names = [name for name in MODULES if package_of(name) in LIGHT]
    loads = "".join(f"import {name}\n" for name in sorted(names))
    probe = f"import sys\n{loads}assert not {{'torch', 'numba'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
