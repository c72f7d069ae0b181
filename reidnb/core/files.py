"Files that are whole or not there."

# A power cut, a `kill -9` or a full disk in the middle of a write must not leave half a record that looks like a whole one. So every file of
# the workbook (records, scores, checkpoints, decoded images, pages) is written to a temporary name in the same folder, flushed to the disk,
# and moved into place in one step of the operating system.

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_atomically", "write_text", "write_json"]

NO_SPACE = "no space left on the disk; free some and give the same command again, it goes on where it stopped"


def write_atomically(
    path: str | os.PathLike,  # where the file shall be
    write: Callable[[str], object],  # called with a temporary path in the same folder
):
    "Write a file so that at any moment there is the old one, the new one, or none; never a part (`OSError` where the disk is full)."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-", suffix=path.suffix)
    os.close(handle)
    try:
        write(unfinished)
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.ENOSPC, NO_SPACE, str(path)) from None
    finally:
        Path(unfinished).unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str):
    "A text file, atomically."
    write_atomically(path, lambda unfinished: Path(unfinished).write_text(text, encoding="utf8"))


def write_json(path: str | os.PathLike, content: dict):
    "A JSON file, atomically; a line per key keeps git's differences short."
    lines = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        lines.append(f" {json.dumps(key)}: {text}")
    body = ",\n".join(lines)
    write_text(path, f"{{\n{body}\n}}\n")
