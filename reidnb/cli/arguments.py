"Arguments that several commands share."

import argparse
from collections.abc import Callable


def add_command(
    commands,  # of argparse
    name: str,
    function: Callable,  # called with the parsed arguments; gives the exit code, or None for 0
    *,
    text: str,  # what it does, for --help
) -> argparse.ArgumentParser:
    "A command without arguments."
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(function=function)
    return command


def add_preset(command: argparse.ArgumentParser):
    text = "section of settings.ini: smoke, mini, mini-real or full (default mini)"
    command.add_argument("--preset", default="mini", help=text)


def add_tables(command: argparse.ArgumentParser):
    command.add_argument("tables", nargs="*", metavar="TABLE", help="names of tables (default: all)")


def add_seeds(command: argparse.ArgumentParser, default: str = "0,1,2"):
    text = f"seeds with commas between them (default {default})"
    command.add_argument("--seeds", default=default, help=text)


def add_jobs(command: argparse.ArgumentParser):
    command.add_argument("--jobs", type=int, default=0, help="runs side by side (default: one per core)")


def add_local(command: argparse.ArgumentParser):
    command.add_argument("--local", action="store_true", help="count only what this machine trained")


def add_json(command: argparse.ArgumentParser, text: str = "for a script"):
    command.add_argument("--json", action="store_true", help=text)
