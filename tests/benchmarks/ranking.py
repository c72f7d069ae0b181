"""Evaluation and re-ranking against peers' algorithms, as ratios within one run on one thread.

    python tests/benchmarks/ranking.py [--gallery 19732] [--dim 256] [--features FILE.npz] [--peers]

The peers are restated plainly: a full argsort per query with compiled loops (what fast-reid's and torchreid's extensions do), and
layumi's k-reciprocal re-ranking with argpartition on full matrices. `--peers` runs the slow one too (about a minute, 8 GB).
`--fastreid FOLDER` measures fast-reid itself: its compiled evaluation and its Jaccard distance on faiss (with faiss-cpu installed). The folder is made outside the project:

    pip download --no-deps fastreid==1.4.0 && unzip fastreid-1.4.0-*.whl
    (cd fastreid/evaluation/rank_cylib && python setup.py build_ext --inplace)     # wants cython and a C compiler
"""

import argparse
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import time  # noqa: E402

import numpy as np  # noqa: E402
from numba import njit  # noqa: E402

from reidnb.evaluation.ranking import RetrievalLabels, rank_distances, rank_scores, ranking_factors  # noqa: E402
from reidnb.evaluation.reranking import rerank, rerank_distances  # noqa: E402
from reidnb.runs.records import peak_memory  # noqa: E402


def best(call, repeats=3):
    "Seconds of the fastest of some calls, after one that compiles."
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


@njit
def peer_loops(order, query_pids, pids, query_camids, camids):
    "What compiled extensions do with a sorted matrix."
    total, valid = 0.0, 0
    for i in range(len(order)):
        hits, rank, ap = 0, 0, 0.0
        for g in order[i]:
            if pids[g] == query_pids[i] and camids[g] == query_camids[i]:
                continue
            rank += 1
            if pids[g] == query_pids[i]:
                hits += 1
                ap += hits / rank
        if hits:
            total += ap / hits
            valid += 1
    return total / valid


def peer_rerank(qg, qq, gg, k1=20, k2=6, lam=0.3):
    "layumi's variant: argpartition for the first k1 + 1, everything else on full matrices."
    q = len(qg)
    d = np.block([[qq, qg], [qg.T, gg]]).astype(np.float32) ** 2
    d = (d / d.max(0)).T
    n = len(d)
    near = np.argpartition(d, range(k1 + 1))[:, : k1 + 1]
    v = np.zeros((n, n), np.float32)
    half = int(np.around(k1 / 2)) + 1
    reciprocal = lambda i, k: near[i, :k][(near[near[i, :k], :k] == i).any(1)]
    for i in range(n):
        own = reciprocal(i, k1 + 1)
        grown = own
        for candidate in own:
            theirs = reciprocal(candidate, half)
            if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                grown = np.append(grown, theirs)
        grown = np.unique(grown)
        weight = np.exp(-d[i, grown])
        v[i, grown] = weight / weight.sum()
    d = d[:q].copy()
    v = np.stack([v[near[i, :k2]].mean(0) for i in range(n)])
    has = [np.flatnonzero(v[:, i]) for i in range(n)]
    out = np.empty((q, n), np.float32)
    for i in range(q):
        shared = np.zeros(n, np.float32)
        for m in np.flatnonzero(v[i]):
            shared[has[m]] += np.minimum(v[i, m], v[has[m], m])
        out[i] = 1 - shared / (2 - shared)
    return (out * (1 - lam) + d * lam)[:, q:]


def fastreid_pieces(folder):
    "fast-reid's compiled evaluation and its Jaccard distance, from an unpacked package, without importing the rest of it."
    import importlib
    import sys
    import types

    sys.path.insert(0, os.path.join(folder, "evaluation", "rank_cylib"))
    package = types.ModuleType("fastreid_utils")
    package.__path__ = [os.path.join(folder, "utils")]
    sys.modules["fastreid_utils"] = package
    return importlib.import_module("rank_cy").evaluate_cy, importlib.import_module("fastreid_utils.compute_dist")


def against_fastreid(folder, q, g, labels, distances, given, ranked):
    "Ratios to fast-reid's own code, in this run."
    evaluate, dist = fastreid_pieces(folder)
    call = lambda: evaluate(distances, *labels, 50)
    slow = best(call, 1)
    print(f"fast-reid's compiled evaluation given distances {slow:.2f} s = {slow / given:.0f} x")
    import torch

    torch.set_num_threads(1)
    x = torch.from_numpy(np.concatenate([q, g]))
    x = torch.nn.functional.normalize(x)
    before = peak_memory()
    began = time.perf_counter()
    dist.compute_jaccard_distance(x, search_option=3)
    slow = time.perf_counter() - began
    print(
        f"fast-reid's Jaccard distance on faiss {slow:.1f} s = {slow / ranked:.1f} x re-ranking from features; peak {peak_memory():.0f} MB (before it {before:.0f})"
    )


def drawn_features(queries, gallery, dim):
    "Features of about 27 images a person with the spread of a trained model."
    rng = np.random.default_rng(0)
    people = max(2, gallery // 27)
    pids = np.concatenate([rng.integers(0, people, queries), rng.integers(0, people, gallery)])
    centres = rng.normal(size=(people, dim)).astype(np.float32)
    features = centres[pids] + 0.9 * rng.normal(size=(len(pids), dim)).astype(np.float32)
    split = np.where(np.arange(len(pids)) < queries, "query", "gallery")
    return dict(features=features, pids=pids, camids=rng.integers(0, 6, len(pids)), split=split)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--features", help="an .npz as for 'reidnb score'; default drawn at random")
    parser.add_argument("--fastreid", help="folder of an unpacked fastreid package, with its extension built")
    parser.add_argument("--peers", action="store_true", help="the slow re-ranking peer too")
    args = parser.parse_args()
    data = dict(np.load(args.features)) if args.features else drawn_features(args.queries, args.gallery, args.dim)
    query = data["split"] == "query"
    gallery = ~query & (data["pids"] != -1)
    q, g = (np.ascontiguousarray(data["features"][part], np.float32) for part in (query, gallery))
    pids, camids = data["pids"].astype(np.int64), data["camids"].astype(np.int64)
    labels = RetrievalLabels(pids[query], pids[gallery], camids[query], camids[gallery])
    a, b = ranking_factors(q, g)
    print(
        f"{len(q)} queries, {len(g)} gallery, {q.shape[1]} dimensions, one thread; peak so far {peak_memory():.0f} MB"
    )

    product = best(lambda: a @ b.T)
    features = best(lambda: rank_scores(q, g, labels))
    print(
        f"evaluation from features {features:.3f} s = {features / product:.2f} x the bare product ({product:.3f} s); peak {peak_memory():.0f} MB"
    )
    two = best(lambda: rank_scores(q, g, labels, threads=2))
    print(f"  on two threads {two:.3f} s = {two / features:.2f} x one")
    ranked = best(lambda: rerank(q, g))
    print(f"re-ranking from features {ranked:.2f} s; peak {peak_memory():.0f} MB")
    two = best(lambda: rerank(q, g, threads=2), 2)
    print(f"  on two threads {two:.2f} s = {two / ranked:.2f} x one")
    if len(g) > 30_000:
        return
    distances = 1 + a @ b.T
    given = best(lambda: rank_distances(distances, labels))
    ours = rank_distances(distances, labels).mAP

    def peer():
        return peer_loops(np.argsort(distances, 1), *labels)

    assert abs(peer() - ours) < 1e-5
    slow = best(peer, 1)
    print(f"evaluation given distances {given:.3f} s; argsort and compiled loops {slow:.2f} s = {slow / given:.0f} x")
    if args.fastreid:
        against_fastreid(args.fastreid, q, g, labels, distances, given, ranked)
    if args.peers:
        x = np.concatenate([q, g])
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        d = np.sqrt(np.maximum(2 - 2 * x @ x.T, 0))
        n = len(q)
        parts = [np.ascontiguousarray(part) for part in (d[:n, n:], d[:n, :n], d[n:, n:])]
        del d
        given = best(lambda: rerank_distances(*parts), 1)
        began = time.perf_counter()
        theirs = peer_rerank(*parts)
        slow = time.perf_counter() - began
        print(
            f"re-ranking given distances {given:.2f} s; layumi's variant {slow:.1f} s = {slow / given:.0f} x; largest difference {abs(theirs - rerank_distances(*parts)).max():.1e}"
        )


if __name__ == "__main__":
    main()
