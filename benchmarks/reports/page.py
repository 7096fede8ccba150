"""A benchmark as one HTML page that needs no network: table, curves to hover, and every edit to read."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reports.figures import AXES, SVG_DASHES, SVG_SHAPES, styles
from benchmarks.reports.intervals import Estimate
from benchmarks.reports.report_tables import Cell, forgetting_columns, percent, table_columns
from benchmarks.reports.run_records import Records, Run
from benchmarks.reports.summary import MEASURES, Summary, begun

_TEMPLATE = Path(__file__).parent / "report_page.html.j2"


def page(summary: Summary) -> str:
    """The report as one HTML file with all that it needs; nothing in it is loaded from elsewhere.

    Raises:
        ImportError: Jinja or Plotly is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("reports need Jinja and Plotly: pip install 'seal-env[bench]'") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    records, labels, curves = summary.records, [row.label for row in summary.rows], curve_data(summary)
    matrices = [
        ("Probability of improvement", _WINS, _matrix(labels, summary.improvements, signed=False)),
        ("Difference over tasks", _MARGINS, _matrix(labels, summary.differences, signed=True)),
    ]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        summary=summary,
        settings=records.settings,
        settings_text=json.dumps(records.settings, indent=1),
        tasks=len(records.tasks),
        columns=table_columns(summary),
        forgetting=summary.forgetting,
        forgetting_columns=forgetting_columns(summary) if summary.forgetting else [],
        labels=labels,
        matrices=matrices if len(labels) > 1 else [],
        styles=styles(summary),
        dashes=SVG_DASHES,
        shapes=SVG_SHAPES,
        axes=AXES,
        metrics=sorted({name for curve in curves for name in curve["training"]}),
        about=[json.dumps(each, indent=1, sort_keys=True) for each in records.about],
        agents=json.dumps({label: vars(agent) for label, agent in records.agents.items()}, indent=1),
        curves=Markup(script_json(curves)),
        edits=Markup(script_json(edit_data(records, labels))),
        plotly=Markup(get_plotlyjs()),
    )


_WINS = "How likely a run of the agent in the row scores above one of the agent in the column; equal scores count half."
_MARGINS = "Percentage points by which the agent in the row beats the one in the column on the same tasks, mean over seeds."


def script_json(data: Any) -> str:
    """JSON that may stand in a ``<script>``: no character of it ends the element or a line of the script."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # in ASCII: U+2028 comes as an escape
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _matrix(labels: Sequence[str], found: Mapping[tuple[str, str], Estimate], signed: bool) -> list[list[Cell | None]]:
    """Rows of cells; None on the diagonal."""

    def cell(pair: tuple[str, str]) -> Cell | None:
        if pair[0] == pair[1]:
            return None
        one = found[pair]
        if signed:
            return percent(one, signed=True)
        interval = "" if one.low is None or one.high is None else f"[{one.low:.2f}, {one.high:.2f}]"
        return Cell(f"{one.value:.2f}", interval, one.value)

    return [[cell((one, other)) for other in labels] for one in labels]


def curve_data(summary: Summary) -> list[dict[str, Any]]:
    """What the page draws: a curve for each agent, with value, low and high of each measure at each point, and its training."""
    style = styles(summary)

    def spread(found: Estimate | None) -> list[float | None] | None:
        return None if found is None else [found.value, found.low, found.high]

    return [
        {
            "label": row.label,
            "learns": row.learns,
            **vars(style[row.label]),
            "points": [
                {name: getattr(point, name) for name in ("edits", "seeds", "tokens", "seconds")}
                | {name: spread(getattr(point, name)) for name in MEASURES}
                for point in summary.curves[row.label]
            ],
            "training": _training(begun(summary.records, row.label)),
        }
        for row in summary.rows
    ]


def _training(runs: Sequence[Run]) -> dict[str, Any]:
    """By metric of the rounds: ``mean`` over seeds as ``[edits, mean, seeds]``, and ``single`` seeds as ``[edits, value]``."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for run in runs:
        for each in run.rounds:
            for name, value in each.metrics.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    found.setdefault(name, {}).setdefault(run.seed, {})[each.edits] = value
    return {
        name: {"mean": _means([*seeds.values()]), "single": {seed: sorted(line.items()) for seed, line in seeds.items()}}
        for name, seeds in found.items()
    }


def _means(lines: Sequence[Mapping[int, float]]) -> list[tuple[int, float, int]]:
    values = {edits: [line[edits] for line in lines if edits in line] for edits in sorted({e for line in lines for e in line})}
    return [(edits, statistics.fmean(each), len(each)) for edits, each in values.items()]


def edit_data(records: Records, labels: Sequence[str]) -> dict[str, Any]:
    """Everything that was evaluated, for reading: every different text once, and its number wherever it occurs.

    ``rows[task]`` of an evaluation point is ``[edit, score, status, questions]``, a question ``[question, gold, answer before,
    answer after, right before, right after]``; null stands for the verdict on an answer that is not graded.
    """
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        return numbers.setdefault(str(text), len(numbers))

    runs = []
    for run in (run for label in labels for run in begun(records, label)):
        points = []
        for point in run.points:
            rows = {}
            for task, one in run.evaluations[point.edits].items():
                questions = []
                for each in one.questions:
                    texts = (each.question, each.gold, each.answer_before, each.answer)
                    questions.append(
                        [*map(number, texts), *(None if v is None else int(v) for v in (each.correct_before, each.correct))]
                    )
                rows[task] = [number(one.text), one.score, number(one.status), questions]
            points.append({"edits": point.edits, "rows": rows})
        runs.append({"label": run.label, "seed": run.seed, "points": points})
    tasks = [{"task": t.index, "title": number(t.title), "context": number(t.context)} for t in records.tasks.values()]
    return {"texts": list(numbers), "tasks": tasks, "runs": runs}
