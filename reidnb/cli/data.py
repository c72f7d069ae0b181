"`reidnb data`: draw or find a preset's data sets and count them."

from reidnb.cli.arguments import add_command, add_preset


def add_to(commands):
    text = "Draw the data of a preset, or find the real sets, and count them."
    command = add_command(commands, "data", run, text=text)
    add_preset(command)
    command.add_argument("--jobs", type=int, default=1, help="processes that draw (default 1)")


def run(args):
    from reidnb.data.datasets import readable_names
    from reidnb.data.samples import DataError
    from reidnb.runs.presets import load_preset

    preset = load_preset(args.preset)
    names = readable_names()
    missing = 0
    for name in names:
        try:
            _print_counts(name, preset, args.jobs)
        except DataError as error:
            print(f"{name:14} {error}")
            missing += 1
    return 1 if missing == len(names) else 0


def _print_counts(name, preset, jobs):
    "A data set's images and people by split (`DataError` where it is not on this machine)."
    from reidnb.data.datasets import dataset
    from reidnb.runs.datasets import dataset_root, draw_all, samples_of

    if preset.data == "drawn":
        draw_all(preset, (name,), jobs=jobs)
    samples, root = samples_of(name, preset), dataset_root(name, preset)
    counts = []
    for split, part in samples.groupby("split", sort=False):
        identities = part["pid"][part["pid"] >= 0].nunique()
        counts.append(f"{split} {len(part)} images of {identities} identities")
    version_of = dataset(name).version
    edition = f" ({version_of(root)})" if version_of else ""
    print(f"{name + edition:14} {', '.join(counts)}   {root}")
