"""Where the project is: the notebooks, tables and records belong to a clone, not to the installed package."""

import configparser
import os
from functools import lru_cache
from pathlib import Path

from reidnb.core.configuration import ConfigurationError


def _candidates() -> list[Path]:
    "Folders that may be the clone: the one that REIDNB_HOME names, else those above the current folder and this file."
    home = os.environ.get("REIDNB_HOME")
    if home:
        return [Path(home)]
    here, package = Path.cwd().resolve(), Path(__file__).resolve().parent
    return [here, *here.parents, package, *package.parents]


def project_root() -> Path:
    "The nearest folder that holds settings.ini and nbs (`ConfigurationError` when there is none)."
    for folder in _candidates():
        if (folder / "settings.ini").is_file() and (folder / "nbs").is_dir():
            return folder
    searched = os.environ.get("REIDNB_HOME") or Path.cwd()
    expected = "a folder with settings.ini and nbs"
    raise ConfigurationError(f"{searched}: no clone of reidnb here ({expected}); change into it or set REIDNB_HOME")


def parse_settings(
    path: Path,  # of a settings file
) -> configparser.ConfigParser:
    "Sections and values as written (`ConfigurationError` where it cannot be read)."
    parser = configparser.ConfigParser(inline_comment_prefixes="#", interpolation=None)
    try:
        if not parser.read(path, encoding="utf8"):
            raise ConfigurationError(f"{path}: no such file")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except configparser.Error as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from None
    return parser


def extension_folders() -> list[Path]:
    "The folders with extensions that REIDNB_EXTENSIONS or settings.ini names (`ConfigurationError` where one is missing)."
    try:
        settings = project_root() / "settings.ini"
    except ConfigurationError:
        return []  # no clone here
    return list(_named_folders(settings, os.environ.get("REIDNB_EXTENSIONS")))


@lru_cache(8)
def _named_folders(settings: Path, from_environment: str | None) -> tuple[Path, ...]:
    names = from_environment
    if names is None:
        names = parse_settings(settings).defaults().get("extensions", "")
    folders = [settings.parent / Path(name).expanduser() for name in names.split(os.pathsep) if name.strip()]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(f"extensions = {folder}: no such folder; expected one with .py or .ipynb files")
    return tuple(folders)
