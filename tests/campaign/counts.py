"What a campaign counts."

from collections import Counter
from dataclasses import dataclass, field

BAD = ("lost", "wrong", "traceback", "executed")


@dataclass
class Counts:
    "Per kind of fault: how many were tried, and what went wrong."

    kinds: dict[str, Counter] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)  # of what went wrong, to be repeated

    def tried(self, kind: str):
        self.kinds.setdefault(kind, Counter())["tried"] += 1

    def bad(self, kind: str, what: str, example: str):
        "Count something that must not be."
        assert what in BAD
        self.kinds[kind][what] += 1
        self.examples.append(f"{kind}, {what}: {example}")

    def total(self, what: str) -> int:
        return sum(counter[what] for counter in self.kinds.values())

    def table(self) -> str:
        columns = ("tried", *BAD)
        lines = ["".join(f"{name:>12}" for name in columns) + "  kind"]
        for kind, counter in self.kinds.items():
            lines.append("".join(f"{counter[name]:>12,}" for name in columns) + f"  {kind}")
        lines.append("".join(f"{self.total(name):>12,}" for name in columns) + "  all")
        return "\n".join([*lines, *self.examples[:20]])
