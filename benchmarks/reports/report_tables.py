"""The figures of a benchmark as tables for a terminal, Markdown and CSV; every column is a metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.reports.metrics import SEQUENCE_METRICS, Metric, curve_metrics, estimate_columns, metrics
from benchmarks.reports.run_records import Records
from benchmarks.reports.summary import Row, Summary, mean_accuracy_matrix, summarise

_KEY = "percent; means over seeds with 95 % t intervals over seeds, differences with 95 % bootstrap intervals over tasks"


def visible_metrics(summary: Summary) -> list[Metric]:
    """The columns of the table for readers."""
    return [metric for metric in metrics() if metric.visible(summary)]


def table_text(records: Records | Summary) -> str:
    """The table for a terminal, with the notes."""
    summary = summarise(records) if isinstance(records, Records) else records
    columns = [metric for metric in visible_metrics(summary) if metric.terminal]
    tables = ["\n".join(aligned(_cells(columns, summary.rows)))]
    if summary.sequence_rows:
        lines = aligned(_cells(SEQUENCE_METRICS, summary.sequence_rows))
        tables.append("\n".join(["passages learnt one after the other:", *lines]))
    return "\n".join(["\n\n".join(tables), *(f"({note})" for note in (_KEY, *summary.notes))])


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The heading and the other lines of a table with aligned columns, and a rule below the heading."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    head, *others = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return [head, "-" * len(head), *others]


def _cells(columns: Sequence[Metric], rows: Sequence[Row]) -> list[list[str]]:
    """The heading and a line per row."""
    options = rows[0].options
    return [
        [options.text(metric.header) for metric in columns],
        *([str(metric.cell(row)) for metric in columns] for row in rows),
    ]


def table_markdown(summary: Summary) -> str:
    """The table in Markdown, with the notes."""
    tables = [_markdown(visible_metrics(summary), summary.rows)]
    if summary.sequence_rows:
        tables.append(_markdown(SEQUENCE_METRICS, summary.sequence_rows))
    notes = "\n".join(f"- {escape_markdown(note)}" for note in (_KEY, *summary.notes))
    return "\n\n".join([*tables, notes]) + "\n"


def _markdown(columns: Sequence[Metric], rows: Sequence[Row]) -> str:
    head, *lines = ([escape_markdown(cell) for cell in line] for line in _cells(columns, rows))
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def escape_markdown(text: str) -> str:
    """``text`` as one line that Markdown shows as it is."""
    for character in "\\|`*<>&":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def table_csv(summary: Summary) -> str:
    """Every metric with all digits; shares, not percent; empty where a value is unknown."""
    return _csv(
        {name: value for metric in metrics() for name, value in metric.csv(row.value(metric)).items()} for row in summary.rows
    )


def curves_csv(summary: Summary) -> str:
    """The learning curves, one line per point."""
    return _csv(
        {"label": label, "edits": point.edits, "seeds": point.seeds, "tokens": point.tokens, "seconds": point.seconds}
        | {
            name: value
            for metric in curve_metrics()
            for name, value in estimate_columns(metric.key, point.estimates[metric.key]).items()
        }
        for label, points in summary.curves.items()
        for point in points
    )


def sequences_csv(summary: Summary) -> str:
    """The accuracy on each passage after each update of continual sequences, one line per pair."""
    return _csv(
        {"label": row.label, "update": t, "passage": i, "accuracy": float(value)}
        for row in summary.sequence_rows
        for t, accuracies in enumerate(mean_accuracy_matrix(row))
        for i, value in enumerate(accuracies[: t + 1])
    )


def _csv(lines: Iterable[Mapping[str, Any]]) -> str:
    lines = list(lines)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
