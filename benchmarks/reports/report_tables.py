"""The figures of a benchmark as tables: for a terminal, Markdown, CSV and the page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.reports.intervals import FEW, Estimate
from benchmarks.reports.run_records import Records
from benchmarks.reports.summary import MEASURES, Row, Summary, summarise


@dataclass(frozen=True)
class Cell:
    """What a table shows of one figure.

    Attributes:
        text: the figure.
        detail: its interval, or what it counts.
        value: what tables sort by; None: unknown, last.
    """

    text: str
    detail: str = ""
    value: float | str | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Column:
    """A column: short for the terminal, with a sentence for the page."""

    head: str
    about: str
    cells: tuple[Cell, ...]


def table_text(records: Records | Summary) -> str:
    """The table for a terminal, and what readers must know."""
    summary = summarise(records) if isinstance(records, Records) else records
    columns = [column for column in table_columns(summary) if column.head not in _NOT_IN_TERMINALS]
    tables = [_table_text(columns)]
    if summary.forgetting:
        tables.append("passages learnt one after the other:\n" + _table_text(forgetting_columns(summary)))
    notes = [f"({note})" for note in [_KEY, *summary.notes]]
    return "\n".join(["\n\n".join(tables), *notes])


def _table_text(columns: Sequence[Column]) -> str:
    rows = [[column.head for column in columns]]
    rows += [[str(column.cells[i]) for column in columns] for i in range(len(columns[0].cells))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


_NOT_IN_TERMINALS = ("area", "tokens", "seconds", "edits", "student")  # too wide
_KEY = "percent; means over seeds with 95 % t intervals over seeds, differences with 95 % bootstrap intervals over tasks"


def table_markdown(summary: Summary) -> str:
    """The table in Markdown."""
    tables = [table_columns(summary), *([forgetting_columns(summary)] if summary.forgetting else [])]
    notes = "\n".join(f"- {_markdown(note)}" for note in [_KEY, *summary.notes])
    return "\n\n".join([*map(_table_markdown, tables), notes]) + "\n"


def _table_markdown(columns: Sequence[Column]) -> str:
    lines = [[column.head for column in columns], ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [[str(column.cells[i]) for column in columns] for i in range(len(columns[0].cells))]
    return "\n".join(f"| {' | '.join(line if n == 1 else map(_markdown, line))} |" for n, line in enumerate(lines))


def _markdown(text: str) -> str:
    for character in "\\|`*<>&":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def table_columns(summary: Summary) -> list[Column]:
    """The table, column by column."""
    rows, reference, target = summary.rows, summary.reference, summary.target
    ends = "at the end of training"
    columns = [
        Column("agent", "label in the benchmark", tuple(Cell(row.label, value=row.label) for row in rows)),
        Column("score", f"test questions answered right {ends}, percent", tuple(percent(row.score) for row in rows)),
    ]
    if reference is not None:
        about = f"percentage points above {reference}, mean over the same tasks; the interval resamples tasks"
        cells = tuple(percent(row.difference, signed=True) for row in rows)
        columns.append(Column(f"vs {reference}", about, cells))
    listed = all(len(row.seeds) <= FEW for row in rows) and any(len(row.seeds) > 1 for row in rows)
    if listed:
        columns.append(Column("each seed", "score of each seed, percent", tuple(map(_each_seed, rows))))
    columns.append(Column("area", "mean height of the learning curve, percent", tuple(percent(row.area) for row in rows)))
    if target is not None:
        about = f"scored edits until {100 * target:.1f} % was first reached: median over seeds, and how many seeds did"
        columns.append(Column(f"to {100 * target:.1f}", about, tuple(map(_reached, rows))))
    collapse = f"{100 * summary.collapse:g} points"
    if not listed:
        columns.append(
            Column("worst", "score of the worst seed, percent", tuple(_number(100 * row.worst, ".1f") for row in rows))
        )
    return [
        *columns,
        Column("collapsed", f"seeds that end more than {collapse} below their best evaluation", tuple(map(_collapsed, rows))),
        Column(
            "coverage",
            f"gold answers that occur in the edit {ends}, percent",
            tuple(_number(None if row.coverage is None else 100 * row.coverage, ".1f") for row in rows),
        ),
        Column("length", f"characters of an edit {ends}", tuple(_number(row.length, ",.0f") for row in rows)),
        Column("edits", "scored edits of a run", tuple(_number(row.edits, ",d") for row in rows)),
        Column("tokens", "trained on in the inner loop, mean of the runs", tuple(_cost(row, row.tokens) for row in rows)),
        Column("seconds", "of training, mean of the runs", tuple(_cost(row, row.seconds) for row in rows)),
        Column(
            "tuned on",
            "scored edits that were spent on choosing the agent's settings, over all rejected ones; ?: not known",
            tuple(Cell("?") if row.tuned_on is None else _number(row.tuned_on, ",d") for row in rows),
        ),
        Column(
            "student",
            "fixed: as it was made, whatever the policy learns; policy: it becomes the policy after every round (the paper)",
            tuple(Cell("policy" if row.self_adapting else "fixed") for row in rows),
        ),
        Column("seeds", "counted, of those that were to run", tuple(map(_seeds, rows))),
    ]


def percent(found: Estimate | None, signed: bool = False) -> Cell:
    """A share with its interval."""
    if found is None:
        return Cell("-")
    kind = "+.1f" if signed else ".1f"
    interval = "" if found.low is None or found.high is None else f"[{100 * found.low:{kind}}, {100 * found.high:{kind}}]"
    return Cell(f"{100 * found.value:{kind}}", interval, found.value)


def _number(value: float | None, kind: str) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:{kind}}", value=value)


def _cost(row: Row, value: float) -> Cell:
    return _number(value if row.learns else None, ",.0f")


def _reached(row: Row) -> Cell:
    if row.edits_to_target is None:
        return Cell("-")
    known = math.isfinite(row.edits_to_target)
    text = f"{row.edits_to_target:,.0f}" if known else "never"
    return Cell(text, f"({row.reached}/{len(row.seeds)})", row.edits_to_target if known else 1e18)


def _each_seed(row: Row) -> Cell:
    return Cell(" ".join(f"{100 * score:.1f}" for score in row.scores), value=row.worst)


def _collapsed(row: Row) -> Cell:
    return Cell(f"{row.collapsed}/{len(row.seeds)}", value=row.collapsed / len(row.seeds)) if row.learns else Cell("-")


def _seeds(row: Row) -> Cell:
    text = str(len(row.seeds)) if len(row.seeds) == row.planned else f"{len(row.seeds)} of {row.planned}"
    return Cell(text, "" if row.finished else "unfinished", len(row.seeds))


def forgetting_columns(summary: Summary) -> list[Column]:
    """What becomes of passages that are learnt one after the other."""
    found = summary.forgetting
    return [
        Column("agent", "label in the benchmark", tuple(Cell(one.label, value=one.label) for one in found)),
        Column(
            "learnt",
            "right answers about a passage right after its update, percent",
            tuple(percent(one.learnt) for one in found),
        ),
        Column("kept", "right answers about all passages at the end, percent", tuple(percent(one.kept) for one in found)),
        Column(
            "forgotten", "points that earlier passages lost since their update", tuple(percent(one.forgotten) for one in found)
        ),
    ]


def table_csv(summary: Summary) -> str:
    """Every figure of the table with all its digits; shares, not percent; empty where there is none."""
    lines = []
    for row in summary.rows:
        line: dict[str, Any] = {"label": row.label, "agent": summary.records.agents[row.label].agent}
        line |= {"self_adapting": row.self_adapting, "tuned_on": row.tuned_on}
        line |= {"seeds": " ".join(map(str, row.seeds)), "planned": row.planned, "finished": row.finished, "edits": row.edits}
        line |= _spread("score", row.score) | _spread("difference", row.difference) | {"reference": summary.reference}
        line |= _spread("area", row.area) | {"target": summary.target, "reached": row.reached}
        line |= {"edits_to_target": row.edits_to_target, "worst": row.worst, "worst_seed": row.worst_seed}
        line |= {"collapsed": row.collapsed, "coverage": row.coverage, "length": row.length}
        line |= {"tokens": row.tokens, "seconds": row.seconds, "ungraded": row.ungraded}
        line |= {"scores": " ".join(map(repr, row.scores))}
        lines.append(line)
    return _csv(lines)


def curves_csv(summary: Summary) -> str:
    """The learning curves, one line a point."""
    lines = []
    for label, points in summary.curves.items():
        for point in points:
            line = {
                "label": label,
                "edits": point.edits,
                "seeds": point.seeds,
                "tokens": point.tokens,
                "seconds": point.seconds,
            }
            for name in MEASURES:
                line |= _spread(name, getattr(point, name))
            lines.append(line)
    return _csv(lines)


def forgetting_csv(summary: Summary) -> str:
    """The accuracy on each passage after each update, one line a pair."""
    return _csv(
        [
            {"label": one.label, "update": t, "passage": i, "accuracy": value}
            for one in summary.forgetting
            for t, row in enumerate(one.matrix)
            for i, value in enumerate(row[: t + 1])
        ]
    )


def _spread(name: str, found: Estimate | None) -> dict[str, Any]:
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
