"""How good `seal-nano-arc` is, and what a policy can learn: ``python -m benchmarks.measure_arc --out FOLDER``.

Success on single rules, which the model was trained on, and on compositions, which are new to it: in context, and after an
update with the oracle's choice of tools. Then success over learning rate and epochs, with basic augmentations and without any,
as a heat map (``landscape.svg``) and as figures (``measures.json``). ``--search`` tries settings on training tasks instead,
and ``--filter`` lists the tasks that `mini-arc-filtered` keeps.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurements.task_scores import TaskScorer, percent, print_row
from seal_env.edits import ToolEdit
from seal_env.files import write_json
from seal_env.plots import plot_success
from seal_env.tasks.arc import ArcTask, MiniArc
from seal_env.tasks.arc.mini import draw_pairs
from seal_env.tasks.arc.rules import KNOWN, draw_rule

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EPOCHS = (1, 2, 4, 8)
SWITCHES = {"no augmentations": (False, False, False, False), "basic augmentations": (True, False, False, False)}
OUTPUTS = "train_using_output_tokens"


class ArcBenchmark(TaskScorer):
    """``SEAL-ARC-v0`` with these options."""

    def __init__(self, **options: Any) -> None:
        super().__init__("SEAL-ARC-v0", **options)

    def solved(self, tasks: Sequence[ArcTask], edit: ToolEdit | None = None) -> list[float]:
        """Whether each task is solved, 0 or 1, after an update with ``edit``, or in context where ``edit`` is None."""
        text = edit.text() if edit else ""
        return self.score(tasks, [self.domain.parse(text, task, seed) for seed, task in enumerate(tasks)])


def compositions(split: str, count: int) -> list[ArcTask]:
    """The first tasks of a split."""
    mini = MiniArc()
    return [mini.task(split, i) for i in range(count)]


def single_rules(count: int) -> list[ArcTask]:
    """Tasks of one rule each, all kinds equally often."""
    rng, tasks = random.Random("single rules"), list[ArcTask]()
    while len(tasks) < count:
        pairs = draw_pairs(rng, (draw_rule(rng, KNOWN[len(tasks) % len(KNOWN)]),), 4, 3, 3)
        if pairs is not None:
            tasks.append(ArcTask.of(f"single-{len(tasks)}", pairs[:3], pairs[3:]))
    return tasks


def measure(benchmark: ArcBenchmark, count: int) -> dict[str, Any]:
    """Success on ``count`` single rules and ``count`` compositions, in context and updated; prints each row."""
    rows = {}
    oracle: ToolEdit = benchmark.config.oracle()
    for kind, tasks in (("single rules", single_rules(count)), ("compositions", compositions("test", count))):
        for name, edit in ((f"{kind}, in context", None), (f"{kind}, oracle", oracle)):
            success = print_row(name, benchmark.solved(tasks, edit))
            rows[name] = {"mean": success.value, "interval": [success.low, success.high]}
    return {"tasks": count, "oracle": json.loads(oracle.text()), "success": rows}


def landscape(benchmark: ArcBenchmark, count: int) -> dict[str, list[list[float]]]:
    """Success over learning rate (rows) and epochs (columns) for each of :data:`SWITCHES`, on test tasks."""
    tasks, success = compositions("test", count), {}
    for name, switches in SWITCHES.items():
        success[name] = [
            [float(np.mean(benchmark.solved(tasks, ToolEdit(*switches, OUTPUTS, rate, epochs)))) for epochs in EPOCHS]
            for rate in RATES
        ]
        print(name, *(f"{rate:g}: {row}" for rate, row in zip(RATES, success[name])), sep="\n  ", flush=True)
    return success


def search(benchmark: ArcBenchmark, count: int) -> Iterator[dict[str, Any]]:
    """Success and cost of one setting after another on training tasks."""
    tasks = compositions("train", count)
    groups = [(basic, False, False, repeat) for basic, repeat in product((True, False), repeat=2)]
    for switches, rate, epochs in product([*groups, (True, True, True, True)], (1e-3, 3e-3, 1e-2), (2, 4, 8)):
        edit = ToolEdit(*switches, OUTPUTS, rate, epochs)
        started = time.perf_counter()
        scores = benchmark.solved(tasks, edit)
        seconds = (time.perf_counter() - started) / count
        print(f"{percent(scores)}  {seconds:5.2f} s  {edit.text()}", flush=True)
        yield {"edit": json.loads(edit.text()), "success": float(np.mean(scores)), "seconds_per_edit": seconds}


def solvable(benchmark: ArcBenchmark, count: int) -> dict[str, list[int]]:
    """By split, which of the first tasks are not solved in context and are solved after the oracle's update."""
    indices = {}
    for split in ("train", "test"):
        tasks = compositions(split, count)
        before, after = benchmark.solved(tasks), benchmark.solved(tasks, benchmark.config.oracle())
        indices[split] = [i for i in range(count) if after[i] > before[i]]
        print(f"{split}: {len(indices[split])} of {count}; in context {percent(before)}, updated {percent(after)}")
    return indices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="seal-nano-arc", help="bundled name or folder")
    parser.add_argument("--tasks", type=int, default=200, help="tasks per row")
    parser.add_argument("--map-tasks", type=int, default=100, help="tasks per cell of the heat map; 0: no map")
    parser.add_argument("--search", action="store_true", help="instead: success and cost of settings, on training tasks")
    parser.add_argument("--filter", action="store_true", help="instead: which of the first tasks of each split are solvable")
    parser.add_argument("--out", type=Path, help="write figures and heat map into this folder")
    arguments = parser.parse_args()
    benchmark = ArcBenchmark(model=arguments.model, grid_text="labelled")
    if arguments.search:
        name: str = "search.json"
        record: dict[str, Any] = {"search": list(search(benchmark, arguments.tasks))}
    elif arguments.filter:
        name, record = "filtered.json", solvable(benchmark, arguments.tasks)
    else:
        name, record = "measures.json", measure(benchmark, arguments.tasks)
        if arguments.map_tasks:
            maps = landscape(benchmark, arguments.map_tasks)
            record["landscape"] = {"learning_rates": RATES, "epochs": EPOCHS, "tasks": arguments.map_tasks, "success": maps}
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out / name, record)
        if "landscape" in record:
            plot_success(record["landscape"]["success"], RATES, EPOCHS, arguments.out / "landscape.svg")


if __name__ == "__main__":
    main()
