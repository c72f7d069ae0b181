"`reidnb book`: pages of everything that has been run, and with --pages the executed notebooks that their numbers link to."

from pathlib import Path
from typing import Any

from reidnb.cli.arguments import add_command, add_preset, add_seeds


def add_to(commands):
    text = "All tables and findings that have been run, on pages that open from a folder."
    command = add_command(commands, "book", run, text=text)
    add_preset(command)
    add_seeds(command)
    pages = "execute the notebooks that numbers link to, where they are missing or old"
    command.add_argument("--pages", action="store_true", help=pages)
    beside = "another preset, e.g. mini-real, whose numbers get a column"
    command.add_argument("--beside", default="", help=beside)


def run(args):
    from tqdm.auto import tqdm

    from reidnb.book.pages import write_book
    from reidnb.catalogue.experiments import table_slugs
    from reidnb.runs.plan import parse_seeds
    from reidnb.runs.presets import load_preset

    preset = load_preset(args.preset)
    seeds = parse_seeds(args.seeds)
    store = Path(preset.store)
    if args.pages:
        _render_outdated(preset, seeds, args.seeds)
    beside = load_preset(args.beside) if args.beside else None
    options: dict[str, Any] = {"executed": store / "tables" / preset.name, "beside": beside}
    with tqdm(total=len(table_slugs()), desc="writing", unit=" tables", leave=False) as bar:
        index = write_book(preset, seeds, store / "book" / preset.name, progress=bar.update, **options)
    print(f"book   {index}")


def _render_outdated(preset, seeds, text):
    from tqdm.auto import tqdm

    from reidnb.book.notebooks import render_table
    from reidnb.book.pages import outdated_pages

    for slug in tqdm(outdated_pages(preset, seeds), desc="executing notebooks", unit=" tables"):
        render_table(slug, preset, text)
