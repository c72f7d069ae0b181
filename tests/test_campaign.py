"A short campaign with fixed seeds; `python -m tests.campaign --minutes 20` is the long one."

import random
import warnings

import pytest
from campaign import counts, mutations, stores


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawn):
    return stores.reference(tmp_path_factory.mktemp("whole"), drawn)


def test_mutated_inputs(tmp_path):
    counted = counts.Counts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mutations.mutate(tmp_path, 0, 900, counted)
    assert counted.total("tried") == 900
    assert not any(counted.total(what) for what in counts.BAD), counted.table()


@pytest.mark.parametrize("fault", [stores.kill, stores.damage], ids=lambda fault: fault.__name__)
def test_faults_in_a_store(fault, tmp_path, drawn, whole):
    counted = counts.Counts()
    fault(tmp_path / "place", drawn, whole, rng=random.Random(1), counts=counted)
    assert counted.total("tried") and not any(counted.total(what) for what in counts.BAD), counted.table()


def test_the_table_counts():
    counted = counts.Counts()
    counted.tried("x")
    counted.bad("x", "lost", "an example")
    assert "1" in counted.table().splitlines()[-2] and "x, lost: an example" in counted.table()
