"Agreement with independent references: known features, a naive implementation, pinned bytes."

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidnb.cli import main
from reidnb.data.datasets import drawn_names
from reidnb.data.samples import DataError
from reidnb.evaluation.ranking import RetrievalLabels, distance_block, rank_distances, rank_scores
from reidnb.evaluation.reranking import rerank, rerank_distances, rerank_top
from reidnb.synthetic.drawn import Scale, draw_data, drawing_of, drawn_fingerprint

HERE = Path(__file__).parent


def test_golden_features():
    "Features of a public model with the scores that its authors and two other implementations report."
    data = np.load(HERE / "data" / "pku_sketch_lightres56.npz")
    expected = json.loads((HERE / "data" / "pku_sketch_lightres56.json").read_text())
    q, g = data["split"] == "query", data["split"] == "gallery"
    features, pids, camids = data["features"].astype(np.float64), data["pids"], data["camids"]
    labels = RetrievalLabels(pids[q], pids[g], camids[q], camids[g])
    scores = rank_scores(features[q], features[g], labels)
    assert np.allclose(scores.ap, expected["per_query"]["ap_plain"], atol=1e-9)
    assert scores.mAP == pytest.approx(expected["computed"]["over_valid"]["mAP_plain"], abs=1e-9)
    assert scores.mAP_trapezoid == pytest.approx(expected["computed"]["over_valid"]["mAP_trapezoid"], abs=1e-9)
    assert [scores.cmc(k) for k in (1, 5, 10)] == pytest.approx([0.14, 0.36, 0.48])


def naive_scores(distances, query_pid, query_camid, pids, camids):
    "One query by the book: sort, drop, walk."
    ranking = sorted(range(len(pids)), key=lambda i: (distances[i], i))
    ranking = [i for i in ranking if pids[i] != -1 and not (pids[i] == query_pid and camids[i] == query_camid)]
    hits, precisions, first = 0, [], 0
    for rank, i in enumerate(ranking, 1):
        if pids[i] == query_pid:
            hits += 1
            precisions.append(hits / rank)
            first = first or rank
    return (sum(precisions) / hits if hits else None), first


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 12),
    gallery=st.integers(1, 40),
    people=st.integers(1, 6),
    levels=st.integers(1, 5),
    cameras=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_ranking_is_the_naive_one(seed, queries, gallery, people, levels, cameras, dtype):
    "Random sizes, junk, queries without a match, one camera, and ties: few levels collide, one level ties everything."
    rng = np.random.default_rng(seed)
    q, g = (rng.integers(0, levels, (n, 2)).astype(dtype) for n in (queries, gallery))
    qp, gp = rng.integers(0, people, queries), rng.integers(-1, people, gallery)
    gp[0] = 0  # something to rank
    qc, gc = rng.integers(0, cameras, queries), rng.integers(0, cameras, gallery)
    distances = distance_block(q, g, "euclidean").astype(dtype)
    labels = RetrievalLabels(qp, gp, qc, gc)
    for scores in (
        rank_scores(q, g, labels, metric="euclidean", block=5),
        rank_distances(distances, labels, block=3, threads=2),
    ):
        for i in range(queries):
            ap, first = naive_scores(distances[i], qp[i], qc[i], gp, gc)
            assert scores.first[i] == first
            assert np.isnan(scores.ap[i]) if ap is None else scores.ap[i] == pytest.approx(ap, abs=1e-12)


def test_what_cannot_be_ranked_is_refused_by_name():
    q, g, one, many = np.ones((1, 4)), np.ones((5, 4)), np.zeros(1, int), np.zeros(5, int)
    for changed, message in (
        (dict(gallery=g[:0], labels=RetrievalLabels(one, many[:0], one, many[:0])), "1 queries and 0 gallery images"),
        (dict(labels=RetrievalLabels(one, many - 1, one, many + 1)), "0 gallery images without junk"),
        (dict(queries=q * np.nan), "query features: row 0 holds NaN"),
        (dict(gallery=g * [[1], [1], [0], [1], [1]]), "gallery features: row 2 is all zeros"),
    ):
        arguments = dict(queries=q, gallery=g, labels=RetrievalLabels(one, many, one, many + 1))
        with pytest.raises(DataError, match=message):
            rank_scores(**(arguments | changed))
    alone = rank_scores(q, g, RetrievalLabels(one, many, one, many))  # one camera: no query has a relevant image
    assert alone.unmatched == 1 and np.isnan(alone.mAP)


def test_ranks_are_those_of_a_stable_sort():
    "Random, coarsely quantised and all equal distances, to the last rank."
    rng = np.random.default_rng(0)
    for levels in (1, 3, 50, 10**6):
        distances = rng.integers(0, levels, (60, 500)).astype(np.float32)
        gp, gc = rng.integers(0, 9, 500), rng.integers(0, 3, 500)
        scores = rank_distances(distances, RetrievalLabels(np.arange(60) % 9, gp, np.zeros(60, int), gc))
        for i, order in enumerate(np.argsort(distances, 1, kind="stable")):
            left = order[~((gp[order] == i % 9) & (gc[order] == 0))]
            ranks = np.flatnonzero(gp[left] == i % 9) + 1
            assert scores.ap[i] == pytest.approx((np.arange(1, len(ranks) + 1) / ranks).mean(), abs=1e-15)
            assert scores.first[i] == ranks[0] and scores.inp[i] == len(ranks) / ranks[-1]


def test_reranking_from_features_and_from_distances_agree():
    "From features and from their distances, on one thread and on two: one answer."
    data = np.load(HERE / "data" / "pku_sketch_lightres56.npz")
    q, g = (data["features"][data["split"] == part].astype(np.float32) for part in ("query", "gallery"))
    x = np.concatenate([q, g])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    d = np.sqrt(np.maximum(2 - 2 * x @ x.T, 0)).astype(np.float32)
    n = len(q)
    given = rerank_distances(d[:n, n:], d[:n, :n], d[n:, n:])
    assert abs(rerank(q, g) - given).max() < 1e-5
    assert abs(rerank(q, g) - rerank(q, g, threads=2)).max() < 1e-6  # BLAS adds in another order
    index, distance = rerank_top(q, g, 7)
    assert abs(distance - np.sort(rerank(q, g), 1)[:, :7]).max() < 1e-6 and index.shape == (n, 7)
    d[3, 60] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in row 3"):
        rerank_distances(d[:n, n:], d[:n, :n], d[n:, n:])


def test_score_command(capsys, tmp_path):
    file = str(HERE / "data" / "pku_sketch_lightres56.npz")
    assert main(["score", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mAP"] == pytest.approx(0.21713655354416134, abs=1e-6)
    assert found["mAP_trapezoid"] == pytest.approx(0.17799971854428243, abs=1e-6)
    assert (found["R1"], found["R5"], found["R10"]) == pytest.approx((0.14, 0.36, 0.48))
    assert (found["queries"], found["gallery"]) == (50, 100) and set(found) == {
        *("mAP", "mAP_trapezoid", "mINP", "R1", "R5", "R10", "queries", "gallery", "seconds")
    }
    nasty = tmp_path / "nasty.npz"
    np.savez(
        nasty,
        features=np.ones((2, 2)),
        pids=np.array([print, 1], dtype=object),
        camids=[0, 1],
        split=["query", "gallery"],
    )
    assert main(["score", str(nasty)]) == 2 and "not an .npz file of plain arrays" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "none.npz")]) == 2 and "no such file" in capsys.readouterr().err


# The bytes of a small set. When a stroke changes, raise the edition of the `Drawing` in nbs/synthetic/02_drawn.ipynb and write the new hash here:
# records made with the old drawing are then no longer mistaken for records of the new one.
BYTES = {
    "market": "74364ab0ca800e32b3aab710f26e7665",
    "cuhk": "4184ce3a945be34beafb0d761eb97f77",
    "duke": "bca3eafd24a11df5b649ef25603755d8",
    "msmt": "253bfd69939c6fc02642008e2f26b7e9",
    "partial_reid": "aa2b4129405a17f7659e972c5b54e30e",
    "partial_ilids": "375f9ca7a2315c0dc78f4b1a0f8342c9",
}


def test_a_new_drawing_of_one_set_leaves_the_others_alone():
    "Fingerprints of the first edition, which published runs name; only the partial sets were drawn anew."
    published = dict(
        market="008827952c851408", cuhk="e56a6963ab8bb294", duke="6b37c768fee62b45", msmt="5f044f939270882c"
    )
    assert {name: drawn_fingerprint(name, Scale()) for name in published} == published


@pytest.mark.parametrize("name", drawn_names())
def test_drawn_bytes(name, tmp_path):
    tiny = Scale(
        identities=4, images=3, test_identities=3, distractors=4, junk=2, partial_identities=3, ilids_identities=4
    )
    about = json.loads((draw_data(name, tmp_path, tiny) / "drawn.json").read_text())
    parallel = json.loads((draw_data(name, tmp_path / "again", tiny, jobs=2) / "drawn.json").read_text())
    assert about == parallel and about["edition"] == drawing_of(name).edition
    assert about["content"] == BYTES[name]


def test_two_processes_draw_the_same_set(tmp_path):
    "Whoever is second finds the set or loses the race; nobody takes it away again."
    tiny = Scale(identities=6, images=4, test_identities=3, distractors=4, junk=2)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=draw_data, args=("market", tmp_path, tiny)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    root = draw_data("market", tmp_path, tiny)
    about = json.loads((root / "drawn.json").read_text())
    assert len(list(root.rglob("*.jpg"))) == sum(about["images"].values()) and len(list(tmp_path.iterdir())) == 1
