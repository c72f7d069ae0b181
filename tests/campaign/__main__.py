"`python -m tests.campaign --minutes 20`"

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

from reidnb.core.files import clear_leftovers
from reidnb.runs.datasets import draw_all, drawn_folder
from reidnb.runs.presets import load_preset

from .counts import BAD, Counts
from .mutations import mutate
from .stores import FAULTS, reference


def arguments():
    parser = argparse.ArgumentParser("tests.campaign", description="Faults by the thousand, and what came of them.")
    parser.add_argument("--minutes", type=float, default=20, help="how long (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    names = [fault.__name__ for fault in FAULTS]
    parser.add_argument(
        "--only", choices=["mutate", *names], nargs="*", default=["mutate", *names], help="which faults"
    )
    return parser.parse_args()


def draw(folder: Path) -> Path:
    "The data of the smoke preset."
    smoke = load_preset("smoke").model_copy(update=dict(store=str(folder)))
    draw_all(smoke, jobs=2)
    clear_leftovers(folder)
    return drawn_folder(smoke)


def main() -> int:
    args, counts = arguments(), Counts()
    warnings.simplefilter("ignore")
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = draw(folder / "data")
        whole = reference(folder / "whole", drawn)
        faults = [fault for fault in FAULTS if fault.__name__ in args.only]
        for number in itertools.count():
            if time.monotonic() > end:
                break
            if "mutate" in args.only:
                mutate(folder, args.seed * 1_000_000 + number, 900, counts)
            for fault in faults:
                place = folder / f"{fault.__name__}-{number}"
                rng = random.Random(f"{args.seed}-{number}-{fault.__name__}")
                fault(place, drawn, whole, rng=rng, counts=counts)
                shutil.rmtree(place, ignore_errors=True)
            print(counts.table(), flush=True)
    return 1 if any(counts.total(what) for what in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
