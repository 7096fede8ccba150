"""Run stages in order within a time limit, write a JSON line for each when it ends, and print these lines as a table.

A run that was interrupted is resumed by the next one with the same folder.
"""

from __future__ import annotations

import gc
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.measurements.shapes import byte_tokenizer, random_model, shape_config
from seal_env.files import atomic_write
from seal_env.student import load_base

HEADER = "header"
FILE = "stages.jsonl"
LONGEST = 160  # characters of a cell of the table
Check = dict[str, Any]  # name, value, bar, passed


@dataclass
class Context:
    """Argument of stages.

    Attributes:
        device: where they run.
        tiny: a dry run with the smallest models and sizes, without bars on speed.
        out: folder for other files than the JSON lines.
        folder: of a model with trained weights, or None.
        deadline: ``time.perf_counter()`` at which the running stage has to end; it is checked between repeats.
    """

    device: torch.device
    tiny: bool
    out: Path
    folder: str | None = None
    deadline: float = float("inf")
    _model: tuple[str, PreTrainedModel, PreTrainedTokenizerBase] | None = field(default=None, repr=False)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    @property
    def dtype(self) -> str:
        """Of the measured models."""
        return "float32" if self.tiny else "bfloat16"

    def model(self, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load ``shape:NAME`` with random weights, or a folder; it stays on the device until another one is loaded.

        It has no end token, so that all answers have the same length.
        """
        if self._model is None or self._model[0] != name:
            self.free()
            if name.startswith("shape:"):
                dtype = getattr(torch, self.dtype)
                model, tokenizer = random_model(shape_config(name), self.device, dtype), byte_tokenizer()
            else:
                model, tokenizer = load_base(name, self.device, self.dtype)
            tokenizer.eos_token = None
            model.generation_config.eos_token_id = None
            self._model = name, model, tokenizer
        return self._model[1:]

    def free(self) -> None:
        """Free the memory of the model."""
        self._model = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Stage:
    """One part of the suite.

    Attributes:
        name: of the stage, in its line.
        run: returns the record; its ``checks`` are a list of ``{name, value, bar, passed}``.
        seconds: expected duration on a GPU; the stage is skipped if less time remains.
        limit: most seconds that it may take.
    """

    name: str
    run: Callable[[Context], dict[str, Any]]
    seconds: float
    limit: float


def check(name: str, value: float, *, most: float | None = None, least: float | None = None) -> Check:
    """An entry of ``checks``: whether ``value`` is at most ``most``, or at least ``least``."""
    if most is not None:
        return {"name": name, "value": value, "bar": f"<= {most:g}", "passed": bool(value <= most)}
    return {"name": name, "value": value, "bar": f">= {least:g}", "passed": bool(value >= (least or 0.0))}


class Records:
    """The lines of ``stages.jsonl`` in a folder.

    Args:
        folder: created if it does not exist. An incomplete last line, of a run that was killed, is removed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self.lines = read_lines(self.path)
        if self.path.is_file() and not self.path.read_bytes().endswith(b"\n"):
            with atomic_write(self.path) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(_finite(line)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def done(self, stage: str) -> bool:
        return any(line["stage"] == stage and line["status"] == "done" for line in self.lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without an incomplete last line; none if there is no such file.

    Raises:
        ValueError: another line is not JSON.
    """
    if not path.is_file():
        return []
    raw = path.read_text().split("\n")
    lines = []
    for number, text in enumerate(raw, start=1):
        try:
            lines += [json.loads(text)] if text else []
        except json.JSONDecodeError as error:
            if number < len(raw):
                raise ValueError(f"{path}, line {number} is not JSON: use another --out, or remove the line") from error
    return lines


def run_stages(stages: Sequence[Stage], context: Context, header: Mapping[str, Any], minutes: float) -> Records:
    """Run the stages that are not done yet, in order, and skip those that take longer than the remaining time.

    Raises:
        ValueError: the folder has lines of another machine or of other options.
    """
    records, end = Records(context.out), time.perf_counter() + 60 * minutes
    if not records.lines:
        records.add({"stage": HEADER, "status": "done", **header})
    for name in ("device", "card", "tiny", "model"):
        if (before := records.lines[0].get(name)) != header[name]:
            raise ValueError(f"{records.path} has a run with {name}={before!r}, not {header[name]!r}: use another --out")
    for stage in stages:
        if records.done(stage.name):
            print(f"{stage.name}: done before", flush=True)
            continue
        left, needed = end - time.perf_counter(), 1.0 if context.tiny else stage.seconds
        if left < needed:
            skipped = f"it takes about {needed:.0f} s, and {max(0.0, left):.0f} s of --minutes {minutes:g} are left"
            print(f"{stage.name}: skipped, {skipped}", flush=True)
            records.add({"stage": stage.name, "status": "skipped", "reason": skipped})
            continue
        started = time.perf_counter()
        context.deadline = min(end, started + stage.limit)
        print(f"{stage.name}: begins, {left:.0f} s are left", flush=True)
        line: dict[str, Any] = {"stage": stage.name}
        try:
            line |= {"status": "done", **stage.run(context)}
        except Exception:  # of any kind: the other stages can still run
            line |= {"status": "failed", "error": traceback.format_exc().strip().splitlines()[-12:]}
            print("\n".join(line["error"]), flush=True)
            context.free()  # the memory may be full
        line["seconds"] = round(time.perf_counter() - started, 2)
        records.add(line)
        print(f"{stage.name}: {line['status']} in {line['seconds']:.1f} s", flush=True)
    return records


def _finite(tree: Any) -> Any:
    """``tree`` with None for NaN and infinity, which JSON does not have."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    if isinstance(tree, float) and not abs(tree) < float("inf"):
        return None
    return tree


# The table of a run, from its JSON lines only ------------------------------------------------------------------------------


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
            rows.append((name, "it failed", line["error"][-1][:LONGEST], "", "no"))
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
        return str(value)[:LONGEST]
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
