"Files that are whole or not there, and of which damage is noticed."

# A power cut, a `kill -9` or a full disk in the middle of a write must not leave half a record that looks like a whole one. So every file of
# the workbook (records, scores, checkpoints, decoded images, pages) is written to a temporary name in the same folder, flushed to the disk,
# and moved into place in one step of the operating system. What is read back carries a checksum: a disk that loses a bit, or a hand that
# edits a number, is noticed. A damaged file is named in one line and treated as missing.

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "DamagedFile",
    "HashedFile",
    "clear_leftovers",
    "content_digest",
    "disk_errors",
    "is_sound",
    "leftovers",
    "notice",
    "read_json",
    "write_atomically",
    "write_json",
    "write_text",
]

NO_SPACE = "no space left on the disk; free some and give the same command again, it goes on where it stopped"
DAY = 24 * 3600  # seconds
_CHECKSUM = re.compile(r',\n "checksum": "([0-9a-f]{32})"\n}\n\Z')  # the last line of a file of `write_json`


class DamagedFile(ValueError):
    "A file of the workbook that does not hold what was written; the message names it."


_noticed: set[str] = set()


def notice(text: str):
    "A line where errors go, once a process: something was mended."
    if text not in _noticed:
        _noticed.add(text)
        print(f"reidnb: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def disk_errors(
    path: str | os.PathLike,  # what is being written
) -> Iterator[None]:
    "A full disk says what to do, and which file is missing (`OSError`)."
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.ENOSPC, NO_SPACE, str(path)) from None


# ---- writing


def write_atomically(
    path: str | os.PathLike,  # where the file shall be
    write: Callable[[str], object],  # called with a temporary path in the same folder
):
    "Write a file so that at any moment there is the old one, the new one, or none; never a part (`OSError` where the disk is full)."
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".unfinished-{os.getpid()}-", suffix=path.suffix)
        os.close(handle)
        try:
            write(unfinished)
            with open(unfinished, "r+b") as file:  # Windows flushes only what is open for writing
                os.fsync(file.fileno())
            os.chmod(unfinished, 0o644)
            os.replace(unfinished, path)
        finally:
            Path(unfinished).unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str):
    "A text file, atomically."
    write_atomically(path, lambda unfinished: Path(unfinished).write_text(text, encoding="utf8"))


def write_json(path: str | os.PathLike, content: dict):
    "A JSON file with a checksum, atomically; a line per key keeps git's differences short."
    lines = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        lines.append(f" {json.dumps(key)}: {text}")
    start = "{\n" + ",\n".join(lines)
    separator = ",\n" if lines else ""
    write_text(path, f'{start}{separator} "checksum": "{content_digest(start)}"\n}}\n')


# ---- reading


def content_digest(content: str | bytes) -> str:  # 32 hexadecimal digits
    "The checksum of a file's content."
    data = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_json(path: str | os.PathLike) -> dict:
    "What `write_json` wrote (`DamagedFile`; a file without a checksum, of an earlier version, only has to be JSON)."
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf8")
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a whole JSON file ({error})") from None
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: holds {type(content).__name__}, expected an object")
    _check_digest(path, text, content)
    content.pop("checksum", None)
    return content


def _check_digest(path, text, content):
    "Refuse a file whose checksum is another; it stands in the last line."
    line = _CHECKSUM.search(text)
    if not line:
        if "checksum" in content:
            raise DamagedFile(f"{path}: its checksum is not in the last line, where it was written")
        return
    if content_digest(text[: line.start()]) != line[1]:
        raise DamagedFile(f"{path}: its content does not fit to its checksum; it was damaged or edited")


_sound: set = set()  # path, size and time of the files that this process has found sound


def is_sound(
    path: Path,  # of a file that is there
    check: Callable[[], bool],  # reads the file, and says whether it holds what was written
) -> bool:
    "Whether a file passes its check, which reads it once a process as long as it stays the same."
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns)
    if key not in _sound and check():
        _sound.add(key)
    return key in _sound


class HashedFile:
    "A file opened for writing whose last 16 bytes are a checksum of all before."

    def __init__(self, file: BinaryIO):
        self.file = file
        self.digest = hashlib.blake2b(digest_size=16)

    def write(self, data) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def finish(self):
        "Write the checksum."
        self.file.write(self.digest.digest())


# ---- left-overs: what a killed process could not remove


def _process_of(path: Path) -> int | None:
    "The process that was writing a file or drawing a folder, from its name."
    match = re.match(r"\.unfinished-(\d+)-", path.name) or re.match(r"[0-9a-f]{16}\.(\d+)$", path.name)
    return int(match[1]) if match else None


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's, or not to be known
    return True


def leftovers(
    store: str | os.PathLike,  # the folder of everything that can be made again
    age: float = DAY,  # seconds since they were touched
) -> list:  # of Path
    "Unfinished files and half-drawn folders whose process is gone."
    names = [*Path(store).rglob(".unfinished-*"), *Path(store, "drawn").glob("*.*")]
    abandoned = []
    for path in sorted(names):
        process = _process_of(path)
        is_named = process is not None or path.name.startswith(".unfinished-")
        if is_named and not (process and _is_running(process)) and _age(path) >= age:
            abandoned.append(path)
    return abandoned


def _age(path):
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return -1.0  # gone in the meantime


def clear_leftovers(store: str | os.PathLike) -> int:  # of files and folders
    "Remove what killed processes left behind more than a day ago."
    abandoned = leftovers(store)
    for path in abandoned:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(abandoned)
