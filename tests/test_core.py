"Configuration, hashes, files and keyed random numbers."

import errno
import json
from pathlib import Path
from typing import Literal

import pytest

from reidnb.core.configuration import Configuration, ConfigurationError, describe, short_hash, validate
from reidnb.core.files import read_json, write_atomically, write_json
from reidnb.core.random import named_rng


class Toy(Configuration):
    margin: float = 0.3
    steps: int = 5


class A(Configuration):
    kind: Literal["a"] = "a"
    margin: float = 0.3


class B(Configuration):
    kind: Literal["b"] = "b"
    margin: float = 0.3


class Holder(Configuration):
    loss: A | B = A()
    several: tuple[A | B, ...] = ()


def refusal(values, model=Toy):
    with pytest.raises(ConfigurationError) as caught:
        validate(model, values, "toy.toml [loss]")
    return str(caught.value)


def test_values_are_read():
    assert validate(Toy, dict(margin="0.5"), "toy.toml").margin == 0.5


def test_errors_name_file_key_and_what_is_allowed():
    unknown = "toy.toml [loss]: unknown key 'margni' (did you mean 'margin'?); allowed: margin, steps"
    assert refusal(dict(margni=1)) == unknown
    assert refusal(dict(steps="many")).startswith("toy.toml [loss]: steps = 'many': should be a valid integer")


def test_equal_descriptions_have_equal_hashes():
    assert short_hash(Toy()) == short_hash(Toy(margin=0.3)) != short_hash(Toy(margin=0.4))
    assert short_hash(Toy(), 0) != short_hash(Toy(), 1)


def test_kinds_with_the_same_numbers_differ():
    "Two kinds with the same numbers are two things, and a default kind that is spelt out is still the default."
    assert short_hash(Holder(loss=A(margin=0.5))) != short_hash(Holder(loss=B(margin=0.5)))
    assert short_hash(Holder(loss=B())) != short_hash(Holder()) == short_hash(Holder(loss=A()))
    assert describe(Holder(loss=B(margin=0.5))) == dict(loss=dict(kind="b", margin=0.5))
    assert describe(Holder()) == {}
    assert describe(Holder(several=(A(), B(margin=0.5)))) == dict(several=[dict(kind="a"), dict(kind="b", margin=0.5)])


class Second(Configuration):
    "A description whose computation has changed once, where the margin is used."

    margin: float = 0.3

    @property
    def edition(self):
        return 2 if self.margin else 1


class Around(Configuration):
    inner: Second = Second()


def test_another_edition_is_another_description():
    "Runs of an earlier computation are other runs, also where every value is a default."
    assert describe(Second()) == dict(edition=2) and describe(Around()) == dict(inner=dict(edition=2))
    assert describe(Second(margin=0)) == dict(margin=0)
    assert Around.model_validate(describe(Around())) == Around()
    assert "edition 1 of Second: this version of the code computes edition 2" in refusal(dict(edition=1), Second)


def test_digests_do_not_change():
    "Published file names hold them."
    holder = Holder(loss=B(margin=0.5), several=(A(), B()))
    assert short_hash("run", holder, dict(b=1, a=[2, 3]), 7) == "60dfbd9cc61a"
    assert short_hash(holder, digest_size=3) == "d0fc60"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    "A write that fails half way: the old file stays, nothing is left over, and the error says what to do."
    file = tmp_path / "record.json"
    write_json(file, dict(seed=0, mAP=0.5))
    assert read_json(file) == dict(seed=0, mAP=0.5)

    def write_until_full(path):
        Path(path).write_text("half a rec")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="free some and give the same command again"):
        write_atomically(file, write_until_full)
    assert json.loads(file.read_text())["mAP"] == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_random_numbers_depend_on_their_key_alone():
    assert named_rng("a", 1).random() == named_rng("a", 1).random()
    assert named_rng("a", 1).random() != named_rng("a", 2).random()
    assert named_rng("market", "identity", 7).integers(2**32) == 2944132184
