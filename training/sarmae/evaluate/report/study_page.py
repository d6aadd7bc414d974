"""Writes the tables and the page of a study, from the scores that are kept."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sar1m.store import settings
from sar1m.store.durable import write_durably
from sarmae.evaluate.extra_packages import extra_package
from sarmae.evaluate.overhead_table import overhead_table
from sarmae.evaluate.report.study_plots import StudyPlot, plots_of
from sarmae.evaluate.report.study_tables import Table, check_table, rank_table, result_table, setting_tables
from sarmae.evaluate.score_files import SCORES_FILE, ScoreFiles, scores_csv
from sarmae.evaluate.summary import ArmResult, main_questions, summarise

REPORT_FILE: Final = "report.html"
SUMMARY_FILE: Final = "summary.md"
DECIDING: Final = ("sar1m", "torch", "timm", "numpy")  # versions that decide figures


def write_report(files: ScoreFiles, failures: Sequence[str]) -> Path:
    """Writes scores.csv, summary.md and report.html into the study's folder. Returns the path of the page.

    The first two are the same for every run of the study: they hold no times and no paths. Raises OutputError.
    """
    rows, results = list(files.rows()), summarise(files)
    tables = list(_tables(files, results))
    write_durably(files.folder / SCORES_FILE, [scores_csv(rows)])
    write_durably(files.folder / SUMMARY_FILE, [_markdown(files, tables, failures).encode()])
    page = files.folder / REPORT_FILE
    write_durably(page, [_page(files, tables, plots_of(results), failures).encode()])
    return page


def _tables(files: ScoreFiles, results: Sequence[ArmResult]) -> Iterable[Table]:
    for task in main_questions(results):
        yield result_table(task, results)
        yield from setting_tables(task, results)
    for table in (rank_table(results), check_table(files)):
        if table is not None:
            yield table


def _facts(files: ScoreFiles) -> str:
    study = files.study
    versions = ", ".join(f"{name} {version(name)}" for name in DECIDING)
    return (
        f"{len(study.arms)} encoders, {len(study.tasks)} tasks, seeds {', '.join(map(str, study.seeds))}; "
        f"device {study.device}; Python {platform.python_version()}, {versions}."
    )


def _notes(files: ScoreFiles) -> list[tuple[str, tuple[str, ...]]]:
    """The notes on every task's images: what they are and what was left out."""
    return [(task.name, notes) for task in files.study.tasks if (notes := files.notes(task))]


def _markdown(files: ScoreFiles, tables: Sequence[Table], failures: Sequence[str]) -> str:
    parts = [f"# {files.study.name}", _facts(files)]
    parts += [f"No scores: {failure}" for failure in failures]
    for table in tables:
        lines = [_markdown_row(table.head), _markdown_row(["---"] * len(table.head)), *map(_markdown_row, table.rows)]
        parts += [f"## {table.title}", table.note, "\n".join(lines)]
    for task, notes in _notes(files):
        parts += [f"## The images: {task}", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(files: ScoreFiles, tables: Sequence[Table], plots: Sequence[StudyPlot], failures: Sequence[str]) -> str:
    jinja2 = extra_package("jinja2", REPORT_FILE)
    environment = jinja2.Environment(loader=jinja2.PackageLoader("sarmae.evaluate.report", "."), autoescape=True)
    template = environment.get_template("page.html.j2")
    overhead = overhead_table(files)
    return str(
        template.render(
            study=files.study,
            facts=_facts(files),
            tables=[*tables, *([] if overhead is None else [overhead])],
            plots=plots,
            failures=failures,
            notes=_notes(files),
            config=settings.to_toml(files.study),
            style=(Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        )
    )
