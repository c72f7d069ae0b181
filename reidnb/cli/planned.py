"What `reidnb plan` and `reidnb batch` share: the tables that were named, and what they would run."

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reidnb.runs.presets import Preset


@dataclass(frozen=True)
class Plan:
    "Tables under a preset."

    preset: "Preset"
    seeds: tuple
    tables: list  # of PlannedTable
    published: bool  # whether published records count as done

    @cached_property
    def jobs(self) -> list:  # of Job, equal runs once
        "What can run."
        from reidnb.runs.plan import merged_jobs

        return merged_jobs([job for table in self.tables for job in table.jobs])

    @cached_property
    def missing(self) -> list:  # of Job, equal runs once
        "What would run."
        from reidnb.runs.plan import merged_jobs

        return merged_jobs([job for table in self.tables for job in missing_jobs(table)])

    @cached_property
    def records(self) -> list:
        "All records of the preset that count."
        from reidnb.runs.records import Archive

        return Archive(self.preset, published=self.published).records()

    @cached_property
    def seconds(self) -> float:
        "How long what would run may take in one process; nan when nothing ran before."
        from reidnb.runs.plan import estimate_seconds

        return estimate_seconds(self.missing, self.preset, self.records)


def missing_jobs(table) -> list:  # of Job
    "The jobs that one table would run."
    return [job for job in table.jobs if job.run in table.missing]


def plan_named_tables(args) -> Plan:
    "The tables that were named, or all of them, with what they would run."
    from reidnb.catalogue.experiments import load_table, table_slugs
    from reidnb.runs.plan import parse_seeds, plan_tables
    from reidnb.runs.presets import load_preset

    preset = load_preset(args.preset)
    seeds = parse_seeds(args.seeds)
    slugs = args.tables or table_slugs()
    for slug in slugs:
        load_table(slug)  # a wrong name is refused before anything is planned
    published = not args.local
    tables = plan_tables(slugs, preset, seeds, published=published)
    return Plan(preset, seeds, tables, published)
