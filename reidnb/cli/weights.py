"`reidnb weights`: what each backbone starts from, and what a file of weights holds."

from pathlib import Path

from reidnb.cli.arguments import add_command


def add_to(commands):
    text = "What a file of trained weights holds and which backbone it fits; without a file, what each backbone starts from."
    command = add_command(commands, "weights", run, text=text)
    command.add_argument("file", nargs="?", type=Path, help="a safetensors or .pth file; code in it is not run")
    command.add_argument("--to", type=Path, metavar="NEW", help="write its tensors to NEW.safetensors")


def run(args):
    if args.file is None:
        _print_sources()
        return
    from reidnb.runs.weight_files import convert, describe_weight_file, read_weight_file

    print("\n".join(describe_weight_file(args.file)))
    if args.to:
        convert(read_weight_file(args.file), args.to)
        print(f"written to {args.to}")


def _print_sources():
    from reidnb.runs.doctor import starting_points

    for name, source in starting_points().items():
        print(f"{name:27} {source}")
