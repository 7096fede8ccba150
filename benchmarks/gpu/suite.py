"""Run stages one after the other within a time limit, and keep a JSON line of each as soon as it ends.

A run that is cut keeps the stages that were done, and the next run with the same folder goes on with the others.
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
    """What stages are given.

    Attributes:
        device: where they run.
        tiny: whether a dry run is wanted: the smallest models and numbers, without bars on speed.
        out: the folder for files besides the JSON line.
        folder: a model with trained weights, or None.
        deadline: ``time.perf_counter()`` when the running stage has to end; it looks between repeats.
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
        """Of the models that are measured."""
        return "float32" if self.tiny else "bfloat16"

    def model(self, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """``shape:NAME`` with random weights, or a folder; it stays on the device until another one is asked for.

        No token ends what it writes, so that all answers are of one length.
        """
        if self._model is None or self._model[0] != name:
            self.forget()
            if name.startswith("shape:"):
                dtype = getattr(torch, self.dtype)
                model, tokenizer = random_model(shape_config(name), self.device, dtype), byte_tokenizer()
            else:
                model, tokenizer = load_base(name, self.device, self.dtype)
            tokenizer.eos_token = None
            model.generation_config.eos_token_id = None
            self._model = name, model, tokenizer
        return self._model[1:]

    def forget(self) -> None:
        """Free the model."""
        self._model = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Stage:
    """One part of the suite.

    Attributes:
        name: of its line.
        run: returns what is recorded; ``checks`` among it, a list of ``{name, value, bar, passed}``, is what the table judges.
        seconds: what it needs on a GPU; with less left it is skipped.
        limit: most seconds that it may take.
    """

    name: str
    run: Callable[[Context], dict[str, Any]]
    seconds: float
    limit: float


def check(name: str, value: float, *, most: float | None = None, least: float | None = None) -> Check:
    """An entry of ``checks``: ``value`` may be at most, or must be at least, so much."""
    if most is not None:
        return {"name": name, "value": value, "bar": f"<= {most:g}", "passed": bool(value <= most)}
    return {"name": name, "value": value, "bar": f">= {least:g}", "passed": bool(value >= (least or 0.0))}


class Records:
    """The lines of a folder, ``stages.jsonl``.

    Args:
        folder: it is made if it is not there. A torn last line, of a run that was killed, is removed.
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
    """The lines of a file, without a last one that is torn; none where there is no such file.

    Raises:
        ValueError: another line is no JSON.
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
                raise ValueError(f"{path}, line {number} is not JSON: take another --out, or remove the line") from error
    return lines


def run_stages(stages: Sequence[Stage], context: Context, header: Mapping[str, Any], minutes: float) -> Records:
    """Run what is not done yet, in order, and stop beginning stages when the time is up.

    Raises:
        ValueError: the folder holds the lines of another machine or of other options.
    """
    records, end = Records(context.out), time.perf_counter() + 60 * minutes
    if not records.lines:
        records.add({"stage": HEADER, "status": "done", **header})
    for name in ("device", "card", "tiny", "model"):
        if (before := records.lines[0].get(name)) != header[name]:
            raise ValueError(f"{records.path} was begun with {name}={before!r}, not {header[name]!r}: take another --out")
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
        except Exception:  # whatever it was, the other stages can still tell something
            line |= {"status": "failed", "error": traceback.format_exc().strip().splitlines()[-12:]}
            print("\n".join(line["error"]), flush=True)
            context.forget()  # the memory may be full
        line["seconds"] = round(time.perf_counter() - started, 2)
        records.add(line)
        print(f"{stage.name}: {line['status']} in {line['seconds']:.1f} s", flush=True)
    return records


def _finite(tree: Any) -> Any:
    """``tree`` without what JSON has no word for: NaN and infinity become None."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    if isinstance(tree, float) and not abs(tree) < float("inf"):
        return None
    return tree
