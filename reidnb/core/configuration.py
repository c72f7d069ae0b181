"Small typed models, without torch."

# Each package describes what it can do in small models of its own: a loss has a `kind` and a margin, a schedule its milestones. They are read
# from TOML, checked by pydantic, and hashed into a run's identity. None of them imports torch, so the command line can plan forty tables in a
# second.

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

__all__ = [
    "PLAIN_NAME",
    "Configuration",
    "ConfigurationError",
    "describe",
    "is_plain_name",
    "nearest",
    "read_entries",
    "read_toml",
    "refuse_unused",
    "short_hash",
    "validate",
]

Model = TypeVar("Model", bound=BaseModel)


class Configuration(BaseModel):
    "A description that refuses unknown keys and never changes."

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def edition(self) -> int:
        """Which version of its computation a description means.

        Whoever changes a default, or what is computed, raises it: runs of earlier editions are then other runs."""
        return 1

    @model_validator(mode="wrap")
    @classmethod
    def _of_this_edition(cls, value: Any, build: Any) -> Any:
        "Read what `describe` wrote; the edition is no field, but another one than this code's is refused."
        if not isinstance(value, dict) or "edition" not in value:
            return build(value)
        fields = {key: field for key, field in value.items() if key != "edition"}
        configuration = build(fields)
        if value["edition"] != configuration.edition:
            computes = f"this version of the code computes edition {configuration.edition}"
            raise ValueError(f"edition {value['edition']} of {cls.__name__}: {computes}")
        return configuration


class ConfigurationError(ValueError):
    "A setting that cannot be used; the message names the file, the key and what is allowed."


PLAIN_NAME = "expected a plain name: letters, digits, - and _, because it becomes part of a path"


def is_plain_name(name: str) -> bool:
    "Whether a name can be part of a path without leading anywhere else."
    return isinstance(name, str) and bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", name))


def nearest(
    word: str,  # what was written
    valid: Iterable,  # names that exist
) -> str:  # " (did you mean …?)" or ""
    "A suggestion for a misspelt name."
    names = [str(name) for name in valid]
    close = difflib.get_close_matches(str(word), names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _first_error(
    error: ValidationError,  # of pydantic: several lines, in terms of types
    model: type[BaseModel],  # the description that was expected
) -> str:
    "One sentence for the first mistake that pydantic found: where, what was written, what is allowed."
    first = error.errors()[0]
    location = first["loc"]
    key = ".".join(str(part) for part in location)
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    if first["type"] == "extra_forbidden":
        return _unknown_key(location, model)
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    assignment = f"{key} = " if key else ""
    return f"{assignment}{first['input']!r}: {message}"


def _unknown_key(location, model) -> str:
    "A sentence on a key that a description does not have; names the allowed ones where they are known."
    key = ".".join(str(part) for part in location)
    valid = tuple(model.model_fields) if len(location) == 1 else ()
    suggestion = nearest(location[-1], valid)
    allowed = f"; allowed: {', '.join(valid)}" if valid else ""
    return f"unknown key {key!r}{suggestion}{allowed}"


def read_toml(path: Path) -> dict:
    "A TOML file (`ConfigurationError` names it)."
    try:
        return tomllib.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path.name}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path.name}: {error}") from None


def read_entries(
    path: Path,  # a TOML file
    key: str,  # of its list of tables
) -> list[dict]:
    "The tables `[[key]]` of a TOML file that holds nothing else (`ConfigurationError`)."
    content = read_toml(path)
    entries = content.get(key)
    if set(content) != {key} or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        keys = ", ".join(content) or "nothing"
        raise ConfigurationError(f"{path.name}: expected tables [[{key}]] and nothing else, found {keys}")
    return entries


def validate(
    model: type[Model],  # which description
    values: dict,  # what was written
    where: str,  # file and section, for the message
) -> Model:
    "Read a description, or say in one line what is wrong with it (`ConfigurationError`)."
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {_first_error(error, model)}") from None


@lru_cache(None)
def _defaults(model: type[BaseModel]) -> dict:
    "Field name → default; cached, because pydantic copies a default each time."
    fields = model.model_fields
    return {name: field.get_default(call_default_factory=True) for name, field in fields.items()}


def refuse_unused(
    configuration: BaseModel,
    names: Iterable[str],  # of its fields
    needs: str,  # what they would take effect with
):
    "Refuse options that would have no effect; a value at its default is none (`ValueError`)."
    defaults = _defaults(type(configuration))
    for name in names:
        value = getattr(configuration, name)
        if value != defaults[name]:
            raise ValueError(f"{name} = {_as_written(value)} has no effect: expected {needs}, or leave it out")


def _as_written(value) -> str:
    "A value as TOML has it."
    return json.dumps(value)


def describe(configuration: BaseModel) -> dict:
    "The fields that differ from their defaults; a `kind` is always among them, and an edition above the first."
    description: dict = {}
    if _edition(configuration) > 1:
        description["edition"] = _edition(configuration)
    for name, default in _defaults(type(configuration)).items():
        value = getattr(configuration, name)
        if name == "kind" or value != default or _edition(value) > 1:
            description[name] = _describe_value(value)
    return description


def _edition(value) -> int:
    return getattr(value, "edition", 1)


def _describe_value(value):
    "A field's value: descriptions, alone or in a tuple, become dicts."
    if isinstance(value, BaseModel):
        return describe(value)
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return [_describe_value(item) for item in value]
    return value


def short_hash(
    *parts,  # configurations, dicts, strings or numbers
    digest_size: int = 6,  # bytes
) -> str:  # hexadecimal digits, 12 by default
    """A short hash of descriptions.

    Equal descriptions have equal hashes. Values at their default are left out before hashing, so a new option with a default
    leaves the hashes of all earlier runs alone. Published file names hold these digests: they must never change.
    """
    plain = [describe(part) if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=digest_size).hexdigest()
