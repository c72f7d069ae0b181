"What several commands print."

import json
import math
import sys


def print_json(value):
    print(json.dumps(value, ensure_ascii=False, indent=1))


def print_failures(
    failures: dict,  # a job's title → reason
):
    "A line a failure, where errors go."
    for title, reason in failures.items():
        print(f"failed: {title}: {reason}", file=sys.stderr)


def number_or_none(value: float) -> float | None:
    "JSON has no NaN."
    return None if math.isnan(value) else value
