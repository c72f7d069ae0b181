"""Where the project is: the notebooks, tables and records belong to a clone, not to the installed package."""

import os
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
