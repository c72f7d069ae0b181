"Claims compare what their words say, and what the audit says of numbers is computed."

import re

import pytest
from conftest import ROOT

from reidnb.catalogue.documents import documented_tables
from reidnb.catalogue.experiments import load_table
from reidnb.results.audit import audit, written_audit
from reidnb.results.findings import _cells_of, read_findings

FINDINGS = read_findings()
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
SUPERLATIVE = re.compile(r"\b(best|weakest|closest|hardest)\b")


def cells_of(finding):
    "The distinct cells that a finding compares, with their tables."
    operands = [operand for pair in finding.pairs() for operand in pair]
    return {(slug, cell) for operand in operands for slug, cell in _cells_of(operand, finding)}


def said_count(claim: str) -> int:
    "How many things a superlative says that it compares; 0 where it names no number."
    listed = re.search(r"best of (\d+(?:, \d+)+)", claim)
    if listed:
        return len(listed[1].split(", "))
    counted = re.search(r"(?:best|hardest) of (?:the |all )?(\w+)", claim)
    if not counted:
        return 0
    return int(counted[1]) if counted[1].isdigit() else NUMBERS[counted[1]]


@pytest.mark.parametrize("finding", [f for f in FINDINGS if said_count(f.claim)], ids=lambda f: f.claim)
def test_the_best_of_several_is_compared_with_all_of_them(finding):
    assert len(cells_of(finding)) == said_count(finding.claim)


def test_counts_in_claims_are_read():
    assert said_count("IBN-a is the best of the six (ResNet-50)") == 6
    assert said_count("ResNeXt-101 with IBN-a is the best of all 26") == 26
    assert said_count("Metric weight 2 is the best of 1, 2, 5, 10") == 4
    assert said_count("The best pad test comes from occluded training alone") == 0


@pytest.mark.parametrize(
    "finding",
    [f for f in FINDINGS if SUPERLATIVE.search(f.claim) and not said_count(f.claim) and f.pairs()],
    ids=lambda f: f.claim,
)
def test_a_superlative_leaves_out_no_row_that_has_a_number(finding):
    compared = cells_of(finding)
    tested = {(cell.protocol, cell.metric) for _, cell in compared}
    if "at its best" in finding.claim or len({slug for slug, _ in compared}) > 1:
        pytest.skip("compares across tests or tables")
    table = load_table(finding.table)
    rivals = {(finding.table, c) for c in table.cells if (c.protocol, c.metric) in tested and c.documented}
    quoted = {cell for cell in rivals if cell[1].run == "vpm"}  # a paper's number
    assert rivals - quoted == compared


def test_a_new_layer_is_compared_with_the_row_that_has_one():
    for claim in (
        "Choosing 256 dimensions beats a new layer to 256",
        "Choosing 1024 dimensions beats a new layer to 1024",
    ):
        finding = next(f for f in FINDINGS if f.claim == claim)
        smaller = [cell for operand in finding.than for cell in _cells_of(operand, finding)]
        for slug, cell in smaller:
            layer = load_table(slug).experiments[cell.run].model.reduce
            assert layer is not None, f"{claim}: {cell.run} has no layer"


# ---- what the audit and the plans say of numbers

NOTES = documented_tables()
ENTRIES = written_audit()
TEXTS = {path.name: path.read_text(encoding="utf8") for path in (ROOT / "data").rglob("*.toml")}


def numbers_of(slug: str, row: int) -> list[float]:
    "The numbers of a documented row, in their order."
    text = " ".join(NOTES[slug].body[row])
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def entry(document: str, line: int, words: str = ""):
    (found,) = [e for e in ENTRIES if (e.document, e.line) == (document, line) and words in e.says]
    return found


def test_what_is_called_no_multiple_is_none():
    claims = []
    for name, text in TEXTS.items():
        for share, queries in re.findall(r"(\d+\.\d) (?:is|are) no multiple of 1/(\d+)", text):
            claims.append(name)
            possible = {round(100 * hits / int(queries), 1) for hits in range(int(queries) + 1)}
            assert float(share) not in possible, f"{name}: {share} is a multiple of 1/{queries}"
    assert {"audit.toml", "vpm-partial.toml"} <= set(claims)
    assert 67.7 in {round(100 * hits / 300, 1) for hits in range(301)}  # VPM's, which is one


def test_decimals_that_an_entry_quotes_from_a_table_stand_there():
    checked = 0
    for one in ENTRIES:
        inside = [
            t for t in NOTES.values() if t.document == one.document and t.line <= one.line <= t.line + len(t.body) + 3
        ]
        for table in inside:
            cells = " ".join([*(text for row in [table.header, *table.body] for text in row), *table.remarks])
            for number in re.findall(r"\d+\.\d+", one.says):
                checked += 1
                assert number in cells or computed_from(number, table), f"{one.document}:{one.line} says {number}"
    assert checked >= 10


def computed_from(number, table):
    "Differences that an entry computes from a table's numbers."
    values = {float(n) for row in table.body for n in re.findall(r"\d+\.\d+", " ".join(row))}
    return any(abs(a - b - float(number)) < 1e-9 for a in values for b in values)


def test_the_first_task_of_lwf_is_not_the_row_of_market_backbones():
    says = entry("001", 142, "forget").truth
    for row in range(5):
        kept, forgotten = numbers_of("lwf", row)[-3:-1]
        assert abs(kept - forgotten - 83.3) < 1e-9 and "83.3" in says
    assert NOTES["market-backbones"].body[9][0] == "ibn_b_resnet50"
    assert numbers_of("market-backbones", 9)[0] == 83.6 and "83.6" in says


def test_rows_03_and_04_of_lwf_are_equal():
    assert numbers_of("lwf", 2) == numbers_of("lwf", 3) == [48.6, -34.7, 66.6]
    assert "same three numbers" in entry("001", 145).says


def test_the_row_without_a_label():
    unlabelled, second = numbers_of("affine-fixed-backbone", 4), numbers_of("affine-fixed-backbone", 5)
    says = entry("000", 127).truth
    assert abs(unlabelled[0] - second[0]) <= 1.0 and "within a point" in says
    assert abs(unlabelled[1] - second[1]) > 1.0 and all(str(n) in says for n in (unlabelled[1], second[1]))
    assert unlabelled[2:4] == second[2:4]


def test_the_penalty_of_the_autoencoders():
    says = entry("001", 158).says
    for row, penalty, text in ((0, 0.01, "0.0184"), (1, 0.01, "0.0094"), (2, 0.1, "0.6096"), (3, 0.05, "0.0905")):
        ae, ae_l1 = numbers_of("ebll-autoencoder", row)[1:3]
        assert f"{ae_l1 - ae:.4f}" == text and text in says
        assert numbers_of("ebll-autoencoder", row)[0] == penalty


def test_cosine_attributes_cannot_learn_much():
    import math

    truth = entry("000", 424).truth
    for gap in (2, 4):
        assert f"{math.log1p(math.exp(-gap)):.3f}" in truth


def test_a_layer_and_chosen_dimensions():
    truth = entry("000", 500).truth
    assert numbers_of("attributes-strong", 5)[0] == 83.8 and numbers_of("feature-dimensions", 3)[0] == 83.0
    assert numbers_of("attributes-strong", 7)[0] == 84.5 and numbers_of("feature-dimensions", 1)[0] == 86.5
    assert all(number in truth for number in ("83.8", "83.0", "84.5", "86.5"))


def test_hard_places_are_listed():
    "Hard places of the documents, by document and line."
    listed = {(e.document, e.line) for e in audit()}
    hard = {
        "000": "15 25 29 86 95 109 123 127 134 141 172 185 208 235 278 307 312 360 375 384 424 442 451 495 500",
        "001": "50 57 61 65 72 94 103 138 142 144 145 146 158 173",
        "002": "99 108 142 184",
        "003": "41 97 114 160 344 347 354 363 499 540 571",
        "004": "13 24 55",
    }
    missing = [(document, line) for document in hard for line in hard[document].split()]
    missing = [(document, line) for document, line in missing if (document, int(line)) not in listed]
    assert not missing
