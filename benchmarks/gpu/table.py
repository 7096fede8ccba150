"""The table of a run, from its JSON lines only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.suite import HEADER

_LONGEST = 160  # characters of a cell


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown: the machine, every check with its bar, the speeds, and stages that were skipped or failed."""
    header = next((line for line in lines if line["stage"] == HEADER), {})
    stages = {line["stage"]: line for line in lines if line["stage"] != HEADER}  # the last line of each
    machine = ", ".join(f"{name} {header[name]}" for name in header if name not in ("stage", "status"))
    parts = [f"Machine: {machine}", _bars(stages), _speeds(stages), _details(stages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bars(stages: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, line in stages.items():
        if line["status"] == "failed":
            rows.append((name, "it failed", line["error"][-1][:_LONGEST], "", "no"))
        elif line["status"] == "skipped":
            rows.append((name, "skipped", line["reason"], "", "-"))
        else:
            rows += [
                (name, entry["name"], _number(entry["value"]), entry["bar"], "yes" if entry["passed"] else "no")
                for entry in line.get("checks", [])
            ]
    checks = [entry for line in stages.values() for entry in line.get("checks", [])]
    met = sum(entry["passed"] for entry in checks)
    return f"{met} of {len(checks)} bars met.\n\n" + _markdown(("stage", "what", "value", "bar", "met"), rows)


def _speeds(stages: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            line["model"],
            line["adapter"],
            timing["method"],
            *(_number(timing.get(name)) for name in ("fit", "answer", "answer_static", "write", "start")),
            *(_number(timing.get(name)) for name in ("fit_answer", "edits_per_second", "tokens_per_second")),
            _share(timing.get("peak_share")),
            _share(timing.get("waiting")),
            _number(timing.get("peak_gib")),
        )
        for line in stages.values()
        for timing in line.get("timings", [])
    ]
    head = ["model", "adapter", "method", "fit s", "answer s", "static s", "write s", "start s", "fit + answer s"]
    head += ["edits/s", "tokens/s", "of peak", "GPU waits", "GiB"]
    return "Seconds an edit:\n\n" + _markdown(head, rows) if rows else ""


def _details(stages: dict[str, dict[str, Any]]) -> str:
    rows = [
        (name, key, _number(value))
        for name, line in stages.items()
        for key, value in line.get("figures", {}).items()
        if not isinstance(value, (dict, list))
    ]
    return "Other figures:\n\n" + _markdown(("stage", "what", "value"), rows) if rows else ""


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, (int, float)):
        return str(value)[:_LONGEST]
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [list(head), *([cell.replace("|", "/").replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
