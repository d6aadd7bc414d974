"""Writing what a study says, of the answers that are kept."""

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
from sarmae.evaluate.report.figures import Figure, figures_of
from sarmae.evaluate.report.study_tables import Table, answer_table, check_table, rank_table, setting_tables
from sarmae.evaluate.score_files import SCORES_FILE, Kept, scores_csv
from sarmae.evaluate.summary import Line, main_questions, summarise

REPORT_FILE: Final = "report.html"
SUMMARY_FILE: Final = "summary.md"
DECIDING: Final = ("sar1m", "torch", "timm", "numpy")  # versions that decide figures


def write_report(kept: Kept, failures: Sequence[str]) -> Path:
    """Writes scores.csv, summary.md and report.html into the study's folder; gives the page's path.

    The first two hold nothing that differs from run to run: no times, no places. Raises OutputError.
    """
    rows, lines = list(kept.rows()), summarise(kept)
    tables = list(_tables(kept, lines))
    write_durably(kept.folder / SCORES_FILE, [scores_csv(rows)])
    write_durably(kept.folder / SUMMARY_FILE, [_markdown(kept, tables, failures).encode()])
    page = kept.folder / REPORT_FILE
    write_durably(page, [_page(kept, tables, figures_of(lines), failures).encode()])
    return page


def _tables(kept: Kept, lines: Sequence[Line]) -> Iterable[Table]:
    for task in main_questions(lines):
        yield answer_table(task, lines)
        yield from setting_tables(task, lines)
    for table in (rank_table(lines), check_table(kept)):
        if table is not None:
            yield table


def _facts(kept: Kept) -> str:
    study = kept.study
    versions = ", ".join(f"{name} {version(name)}" for name in DECIDING)
    return (
        f"{len(study.arms)} encoders, {len(study.tasks)} tasks, seeds {', '.join(map(str, study.seeds))}; "
        f"device {study.device}; Python {platform.python_version()}, {versions}."
    )


def _notes(kept: Kept) -> list[tuple[str, tuple[str, ...]]]:
    """What every task's images are and what was left out, by task."""
    return [(task.name, notes) for task in kept.study.tasks if (notes := kept.notes(task))]


def _markdown(kept: Kept, tables: Sequence[Table], failures: Sequence[str]) -> str:
    parts = [f"# {kept.study.name}", _facts(kept)]
    parts += [f"No answer: {failure}" for failure in failures]
    for table in tables:
        lines = [_markdown_row(table.head), _markdown_row(["---"] * len(table.head)), *map(_markdown_row, table.rows)]
        parts += [f"## {table.title}", table.note, "\n".join(lines)]
    for task, notes in _notes(kept):
        parts += [f"## The images: {task}", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(kept: Kept, tables: Sequence[Table], figures: Sequence[Figure], failures: Sequence[str]) -> str:
    jinja2 = extra_package("jinja2", REPORT_FILE)
    environment = jinja2.Environment(loader=jinja2.PackageLoader("sarmae.evaluate.report", "."), autoescape=True)
    template = environment.get_template("page.html.j2")
    overhead = overhead_table(kept)
    return str(
        template.render(
            study=kept.study,
            facts=_facts(kept),
            tables=[*tables, *([] if overhead is None else [overhead])],
            figures=figures,
            failures=failures,
            notes=_notes(kept),
            config=settings.to_toml(kept.study),
            style=(Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        )
    )
