"The command line: what it prints, what it refuses."

import json
import subprocess
import sys

import pandas as pd
import pytest

from reidnb.catalogue.experiments import load_table
from reidnb.cli import main
from reidnb.cli.table import print_table
from reidnb.runs.presets import load_preset


def refusal(capsys, *words):
    "Exit code and the one line of a mistake."
    code = main(list(words))
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return code, line


def lines_of(capsys, *words):
    "What a command prints."
    assert main(list(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_a_mistake_is_one_line(capsys):
    code, line = refusal(capsys, "table", "market-backbone")
    assert code == 2 and line.startswith("reidnb: table 'market-backbone' (did you mean 'market-backbones'?)")
    assert refusal(capsys, "table", "market-backbones", "--preset", "minni")[0] == 2
    code, line = refusal(capsys, "table", "market-backbones", "--seeds", "x")
    assert code == 2 and "names no" not in line


def test_tables(capsys):
    assert lines_of(capsys, "tables")[-1].startswith("40 tables, 279 rows, 1126 cells planned")
    entries = json.loads("\n".join(lines_of(capsys, "tables", "--json")))
    assert {"table", "document", "line", "rows", "cells", "runs", "title"} == set(entries[0])


def test_cells_of_the_notes(capsys):
    documented = lines_of(capsys, "cells", "--documented", "--csv")
    assert documented[:2] == ["document,line,row,column,text", "000,15,0,0,VPM"]
    assert "001,140,0,3,47.0/-36.3" in documented
    assert len(lines_of(capsys, "cells", "--documented")) == 1


def test_cells_of_ours(capsys):
    planned = lines_of(capsys, "cells", "--preset", "mini", "--csv")
    assert len(planned) == 1127
    assert planned[0] == "document,line,row,column,table,label,run,protocol,metric,documented,mean,sd,seeds,unconverged"


def test_doctor_and_audit(capsys):
    assert lines_of(capsys, "doctor")[0].startswith("reidnb ")
    assert lines_of(capsys, "audit")[-1].endswith(" entries")


@pytest.mark.parametrize("preset, data", [("mini", "drawn"), ("mini-real", "real")])
def test_a_table_says_its_data_and_the_rows_that_can_be_asked_for(capsys, tmp_path, preset, data):
    cell = {"row": 0, "run": "r50-01", "name": "first", "group": "", "metric": "mAP", "unconverged": ""}
    numbers = {"documented": 85.8, "mean": 75.0, "sd": 1.25}
    second = {**cell, "row": 1, "run": "r50-02", "name": "second", "documented": "", "mean": "", "sd": ""}
    pd.DataFrame([{**cell, **numbers}, second]).to_csv(tmp_path / "cells.csv", index=False)
    print_table(load_table("market-backbones"), load_preset(preset), (0,), path=tmp_path / "cells.csv")
    _, title, _, heads, first, last = capsys.readouterr().out.splitlines()
    assert f"preset {preset} on {data} data, seeds 0; notes | ours ± sd over seeds" in title
    assert heads.split() == ["rows", "mAP"]
    assert first.split() == ["r50-01", "first", "85.8", "|", "75.0", "±", "1.2"]
    assert last.split() == ["r50-02", "second", "–", "|", "–"]


def test_tables_do_not_wait_for_torch():
    probe = "import sys; from reidnb.cli import main; main(['tables']); print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stderr
