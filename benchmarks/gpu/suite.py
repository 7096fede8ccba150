"""Run stages in order within a time limit, and write a JSON line for each when it ends.

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
