"All commands, in the order of `reidnb --help`."

import argparse

from reidnb.cli import audit, batch, book, cells, data, doctor, findings, plan, publish, score, table, tables, weights

COMMANDS = (tables, cells, doctor, audit, table, plan, batch, findings, book, data, weights, score, publish)


def parser() -> argparse.ArgumentParser:
    "The commands and their arguments."
    top = argparse.ArgumentParser(
        "reidnb", description="The lab notes of a person re-identification researcher, made to run."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for module in COMMANDS:
        module.add_to(commands)
    return top
