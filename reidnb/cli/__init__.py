"The command line: `reidnb table market-backbones`."

# Each command is a module here: it reads its arguments, calls the workbook, and prints where the result is. torch is
# imported where something is trained and nowhere else, so `reidnb tables` answers at once. A user's mistake is one line
# and exit code 2; a run that failed is named with its reason and exit code 1.

import os
import sys

from reidnb.cli.commands import parser
from reidnb.core.configuration import ConfigurationError

__all__ = ["main", "parser"]


def main(
    arguments: list | None = None,  # default: those of the command line
) -> int:  # exit code
    "Run one command; a mistake or a failure is one line, never a traceback."
    args = parser().parse_args(arguments)
    if "REIDNB_END_WITH_PARENT" in os.environ:  # a batch has started this process
        from reidnb.runs.worker import end_with_parent

        end_with_parent()
    try:
        return args.function(args) or 0
    except (ConfigurationError, ValueError) as error:
        print(f"reidnb: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        sys.stdout = open(os.devnull, "w")
        return 0
    except (RuntimeError, OSError, MemoryError) as error:
        print(f"reidnb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reidnb: stopped; the same command goes on from the checkpoints", file=sys.stderr)
        return 130
