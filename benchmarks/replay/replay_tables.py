"""Tables of published, recorded and recomputed figures, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reports.report_tables import escape_markdown

_HEAD = ("", "published", "recorded", "ours", "")


@dataclass(frozen=True)
class Figure:
    """A number as tables print it.

    Attributes:
        spec: its format.
        error: its standard error.
        interval: its 95 % interval.
        of: what a count is out of.
    """

    value: float
    spec: str = ".1f"
    error: float | None = None
    interval: tuple[float, float] | None = None
    of: int | None = None

    def __str__(self) -> str:
        text = self.number
        if self.error is not None:
            text += f" ± {self.error:{self.spec}}"
        if self.interval is not None:
            text += f" [{self.interval[0]:{self.spec}}, {self.interval[1]:{self.spec}}]"
        return text if self.of is None else f"{text} of {self.of}"

    @property
    def number(self) -> str:
        """Without error, interval and total."""
        return f"{self.value:{self.spec}}"


Cell = Figure | str | None


def count(value: int, of: int | None = None) -> Figure:
    """A count, out of ``of``."""
    return Figure(int(value), "d", of=of)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        comparable: whether the three figures should be equal; if they are not, :attr:`remark` says so.
    """

    name: str
    ours: Cell
    recorded: Cell = None
    published: Cell = None
    note: str = ""
    comparable: bool = True

    @property
    def remark(self) -> str:
        """The note, after the names of the columns whose printed number differs from ours."""
        columns = (("published", self.published), ("recorded", self.recorded)) if self.comparable else ()
        differs = [f"DIFFERS from {name}" for name, cell in columns if cell is not None and _number(cell) != _number(self.ours)]
        return "; ".join([*differs, *([self.note] if self.note else [])])

    @property
    def cells(self) -> list[str]:
        figures = ["" if cell is None else str(cell) for cell in (self.published, self.recorded, self.ours)]
        return [self.name, *figures, self.remark]


def _number(cell: Cell) -> str:
    return cell.number if isinstance(cell, Figure) else str(cell)


@dataclass(frozen=True)
class Section:
    """A table with its title; preformatted ``lines`` follow it, then ``notes``."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    lines: Sequence[str] = ()

    def __getitem__(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)


def text(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """For a terminal."""
    return "\n\n".join([*map(_section_text, sections), "\n".join(f"({note})" for note in notes)])


def _section_text(section: Section) -> str:
    rows = [list(_HEAD), *(row.cells for row in section.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [section.title, "-" * len(section.title)]
    for name, *figures, remark in rows:
        aligned = (cell.rjust(width) for cell, width in zip(figures, widths[1:]))
        lines.append("  ".join([name.ljust(widths[0]), *aligned, remark]).rstrip())
    lines += ["", *(f"  {line}" for line in section.lines), ""] if section.lines else []
    return "\n".join([*lines, *(f"({note})" for note in section.notes)])


def markdown(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """The same as Markdown."""
    blocks = ["# SEAL's recorded runs, replayed"]
    for section in sections:
        lines = [
            _HEAD,
            ("---", "---:", "---:", "---:", "---"),
            *(list(map(escape_markdown, row.cells)) for row in section.rows),
        ]
        blocks += [f"## {section.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        blocks += ["\n".join(["```", *section.lines, "```"])] if section.lines else []
        blocks += [_listed(section.notes)] if section.notes else []
    return "\n\n".join([*blocks, _listed(notes)]) + "\n"


def _listed(notes: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(note)}" for note in notes)
