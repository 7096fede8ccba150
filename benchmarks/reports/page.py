"""A benchmark as one HTML page that needs no network: the table, curves with tooltips, and every edit to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.reports.figures import AXES, SVG_DASHES, SVG_SHAPES, drawn_metrics, styles
from benchmarks.reports.intervals import Estimate
from benchmarks.reports.metrics import SEQUENCE_METRICS, Cell, curve_metrics, number_cell
from benchmarks.reports.report_tables import visible_metrics
from benchmarks.reports.run_records import Records, Run
from benchmarks.reports.summary import Summary, evaluated_runs, mean_accuracy_matrix

_TEMPLATE = Path(__file__).parent / "report_page.html.j2"
_WINS = "How likely a run of the agent in the row scores above one of the agent in the column; equal scores count half."
_MARGINS = "Percentage points by which the agent in the row beats the one in the column on the same tasks, mean over seeds."


def page(summary: Summary) -> str:
    """The report as one HTML file that loads nothing from elsewhere."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    records, labels, curves = summary.records, [row.label for row in summary.rows], curve_data(summary)
    matrices = [
        ("Probability of improvement", _WINS, _matrix(labels, summary.improvements, ".2f", 1)),
        ("Difference over tasks", _MARGINS, _matrix(labels, summary.differences, "+.1f", 100)),
    ]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        summary=summary,
        settings=records.settings,
        settings_text=json.dumps(records.settings, indent=1),
        tasks=len(records.tasks),
        columns=visible_metrics(summary),
        sequence_columns=SEQUENCE_METRICS,
        accuracies={row.label: mean_accuracy_matrix(row).tolist() for row in summary.sequence_rows},
        labels=labels,
        matrices=matrices if len(labels) > 1 else [],
        styles=styles(summary),
        dashes=SVG_DASHES,
        shapes=SVG_SHAPES,
        axes=AXES,
        curve_metrics=drawn_metrics(summary),
        training_metrics=sorted({name for curve in curves for name in curve["training"]}),
        about=[json.dumps(each, indent=1, sort_keys=True) for each in records.about],
        agents=json.dumps({label: vars(agent) for label, agent in records.agents.items()}, indent=1),
        curves=Markup(script_json(curves)),
        edits=Markup(script_json(edit_data(records, labels))),
        plotly=Markup(get_plotlyjs()),
    )


def script_json(data: Any) -> str:
    """JSON for a ``<script>`` element: no character of it ends the element or a line of the script."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # in ASCII, so that U+2028 is escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _matrix(
    labels: Sequence[str], estimates: Mapping[tuple[str, str], Estimate], spec: str, scale: float
) -> list[list[Cell | None]]:
    """Rows of cells; None on the diagonal."""
    return [[None if a == b else number_cell(estimates[a, b], spec, scale) for b in labels] for a in labels]


def curve_data(summary: Summary) -> list[dict[str, Any]]:
    """What the page draws: a curve for each agent, with value, low and high of each metric at each point, and its training."""
    style = styles(summary)

    def values(estimate: Estimate | None) -> list[float | None] | None:
        return None if estimate is None else [estimate.value, estimate.low, estimate.high]

    return [
        {
            "label": row.label,
            "learns": row.learns,
            **vars(style[row.label]),
            "points": [
                {name: getattr(point, name) for name in ("edits", "seeds", "tokens", "seconds")}
                | {metric.key: values(point.estimates[metric.key]) for metric in curve_metrics()}
                for point in summary.curves[row.label]
            ],
            "training": _training(evaluated_runs(summary.records, row.label)),
        }
        for row in summary.rows
    ]


def _training(runs: Sequence[Run]) -> dict[str, Any]:
    """By metric of the rounds: ``mean`` over seeds as ``[edits, mean, seeds]``, each ``single`` seed as ``[edits, value]``."""
    rounds = pd.concat([run.rounds.assign(seed=run.seed) for run in runs])
    curves = {}
    for name in rounds.columns.difference(["edits", "seed", "seconds"]):
        values = pd.to_numeric(rounds[name], errors="coerce").astype(float)
        known = rounds.assign(value=values)[values.map(math.isfinite)]
        if len(known):
            means = known.groupby("edits")["value"].agg(["mean", "count"]).reset_index()
            curves[name] = {
                "mean": [[int(edits), mean, int(count)] for edits, mean, count in means.itertuples(index=False)],
                "single": {
                    int(seed): sorted(zip(rows["edits"].tolist(), rows["value"].tolist()))
                    for seed, rows in known.groupby("seed")
                },
            }
    return curves


def edit_data(records: Records, labels: Sequence[str]) -> dict[str, Any]:
    """Everything that was evaluated, for reading: each distinct text once, and its number wherever it occurs.

    ``rows[task]`` of an evaluation is ``[edit, score, status, questions]``, a question ``[question, gold, answer before, answer
    after, correct before, correct after]``; null is the verdict on an answer that was not graded.
    """
    numbers: dict[str, int] = {}

    def number(text: Any) -> int:
        return numbers.setdefault(str(text), len(numbers))

    def question(values: Mapping[str, Any]) -> list[int | None]:
        texts = [number(values[name]) for name in ("question", "gold", "answer_before", "answer")]
        verdicts = [values[name] for name in ("correct_before", "correct")]
        return [*texts, *(None if verdict is None else int(verdict) for verdict in verdicts)]

    runs = []
    for run in (run for label in labels for run in evaluated_runs(records, label)):
        points = [
            {
                "edits": int(edits),
                "rows": {
                    row.task: [number(row.text), row.score, number(row.fit_status), list(map(question, row.questions))]
                    for row in rows.itertuples()
                },
            }
            for edits, rows in run.evaluations.groupby("edits")
        ]
        runs.append({"label": run.label, "seed": run.seed, "points": points})
    tasks = [{"task": t.index, "title": number(t.title), "context": number(t.context)} for t in records.tasks.values()]
    return {"texts": list(numbers), "tasks": tasks, "runs": runs}
