"`reidnb score`: score features from any framework."

import json

from reidnb.cli.arguments import add_command, add_json
from reidnb.cli.output import number_or_none

METRICS = ("mAP", "R1", "R5", "R10", "mINP", "mAP_trapezoid")


def add_to(commands):
    text = "Score features from any framework: an .npz with features, pids, camids and split."
    command = add_command(commands, "score", run, text=text)
    features = "the .npz file; several are an ensemble by the sum of cosine distances"
    command.add_argument("features", nargs="+", help=features)
    metrics = ("cosine", "euclidean")
    command.add_argument("--metric", choices=metrics, default="cosine", help="distance (default cosine)")
    command.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking first (20, 6, 0.3)")
    device = "torch's name of a device that computes the distances, e.g. cuda (default: numpy on the processor)"
    command.add_argument("--device", help=device)
    add_json(command, "one JSON object, fractions instead of per cent")


def run(args):
    from reidnb.evaluation.features import read_ensemble, score_features

    _, summary = score_features(read_ensemble(args.features), args.metric, args.rerank, device=args.device)
    if args.json:
        print(json.dumps({name: number_or_none(value) for name, value in summary.items()}))
        return
    method = f"{args.metric}, re-ranked" if args.rerank else args.metric
    images = f"{summary['queries']} queries, {summary['gallery']} gallery images"
    print(f"{images}, {method}, {summary['seconds']} s")
    values = "   ".join(f"{name} {100 * summary[name]:.2f}" for name in METRICS)
    print(f"{values}   (per cent)")
