"Descriptions of several kinds, their implementations, and the extensions that add to them. Without torch."

# A *choice* is a typed description with a `kind` (a loss, a method). It names its implementation as "module:name", so that descriptions are
# read, checked and hashed without torch; the implementation is imported where something is trained. The project's own choices stand in
# modules that end in `_options`; anybody's own stand in extensions: a folder that settings.ini names (`extensions = …`), or an entry point of
# the group `reidnb.extensions`.

import functools
import importlib
import importlib.metadata
import json
import pkgutil
import sys
import types
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from .configuration import Configuration, ConfigurationError, nearest
from .project import extension_folders

OPTIONS = "_options"  # modules with this ending hold descriptions and import no torch
ENTRY_POINTS = "reidnb.extensions"


class Choice(Configuration):
    "One of several kinds of description; a subclass that names an implementation is found by its `kind`."

    kinds: ClassVar[dict[str, type["Choice"]]] = {}  # of a family; each family has its own
    package: ClassVar[str] = ""  # whose `_options` modules hold the family's kinds
    implementation: ClassVar[str] = ""  # "module:name"

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs):
        if cls.implementation:  # others are bases
            cls.kinds[cls.model_fields["kind"].default] = cls

    def check(self, experiment: Any):
        "Raise `ValueError` where the rest of an experiment does not fit."

    def implemented(self) -> Any:
        "The function or class that this description is of."
        return imported(self.implementation)


@functools.cache
def imported(
    path: str,  # "module:name"
) -> Any:
    "What a description names (`ConfigurationError` where it is not there)."
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"implementation {path!r}: {error}; expected 'module:name' of something there"
        ) from error


def read_choice(family: type[Choice], value: Any) -> Any:
    'A description of a family\'s kind from what was written; "none" is None, since TOML has no null.'
    if value is None or isinstance(value, family):
        return value
    if value == "none":
        return None
    kind = value.get("kind", family.model_fields["kind"].default) if isinstance(value, dict) else value
    kinds = family.kinds if kind in family.kinds else all_kinds(family)
    if kind not in kinds:
        raise ValueError(f"kind {kind!r}{nearest(kind, kinds)}; expected one of {', '.join(sorted(kinds))}")
    values = value if isinstance(value, dict) else {}
    return kinds[kind].model_validate(values)


def all_kinds(family: type[Choice]) -> dict[str, type[Choice]]:
    "Every kind of a family, the extensions' included."
    import_options(family.package)
    load_extensions()
    return family.kinds


@functools.cache
def import_options(package: str):
    "Import the modules of a package that hold descriptions."
    folder = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(folder, f"{package}."):
        if module.name.endswith(OPTIONS):
            importlib.import_module(module.name)


def one_of(
    family: type[Choice],
    optional: bool = False,  # "none" leaves the field out
) -> Any:
    "The type of a field that holds a description of any kind of a family."
    allowed: Any = family | None if optional else family
    return Annotated[allowed, BeforeValidator(functools.partial(read_choice, family)), SerializeAsAny()]


# ---- extensions

_loaded: set[Path] = set()  # files that were executed


def load_extensions():
    "Execute each extension once: installed ones, then the folders' files in the order of their names."
    _installed_extensions()
    for folder in extension_folders():
        for path in sorted([*folder.glob("*.py"), *folder.glob("*.ipynb")]):
            if path not in _loaded:
                _loaded.add(path)
                _load_file(path)


@functools.cache
def _installed_extensions():
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()


def _load_file(path):
    "A file as the module `reidnb_extensions.<stem>`; of a notebook, the cells that begin with `#| export`."
    name = f"reidnb_extensions.{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(_source(path), str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise ConfigurationError(f"extension {path}: {type(error).__name__}: {error}") from error


def _source(path):
    text = path.read_text(encoding="utf8")
    if path.suffix == ".py":
        return text
    cells = ("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n\n".join(cell for cell in cells if cell.startswith(("#| export", "#| options")))
