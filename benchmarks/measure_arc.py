"""How good `seal-nano-arc` is, and the landscape that a policy learns in: ``python -m benchmarks.measure_arc --out FOLDER``.

Success on single rules, which it was trained on, and on compositions, which it never saw, in context and after an update with
the setting that was chosen by hand; then success over learning rate and epochs with basic augmentations and without any, as a
heat map (``landscape.svg``) and as figures (``measures.json``). ``--search`` tries settings on training tasks instead, and
``--filter`` says which tasks `mini-arc-filtered` is made of.
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

import gymnasium as gym
import numpy as np

import seal_env  # noqa: F401  registers the environments
from benchmarks.reports.intervals import Estimate, paired_difference
from seal_env.domains.arc import ArcConfig
from seal_env.edits import ToolEdit
from seal_env.evaluation.scoring import ScoreRequest
from seal_env.files import write_json
from seal_env.plots import plot_success
from seal_env.tasks.arc import ArcTask, MiniArc
from seal_env.tasks.arc.mini import draw_pairs
from seal_env.tasks.arc.rules import KNOWN, draw_rule

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EPOCHS = (1, 2, 4, 8)
CHOICES = {"no augmentations": (False, False, False, False), "basic augmentations": (True, False, False, False)}
OUTPUTS = "train_using_output_tokens"


class Bench:
    """A student of few-shot tasks, updated and asked as in ``SEAL-ARC-v0`` with these options."""

    def __init__(self, **options: Any) -> None:
        env = gym.make_vec("SEAL-ARC-v0", num_envs=1, **options).unwrapped
        self.engine, self.config = env.engine, env.config  # type: ignore[attr-defined]
        assert isinstance(self.config, ArcConfig)

    def solved(self, tasks: Sequence[ArcTask], edit: ToolEdit | None = None) -> list[float]:
        """Whether each task was solved, 0 or 1, after an update as ``edit`` says; None: in context."""
        text = edit.text() if edit else ""
        requests = [ScoreRequest((task,), self.engine.domain.parse(text, task, seed).update) for seed, task in enumerate(tasks)]
        return [outcome.score for outcome in self.engine.scorer.score(requests)]


def compositions(split: str, count: int) -> list[ArcTask]:
    """The first tasks of a split."""
    mini = MiniArc()
    return [mini.task(split, i) for i in range(count)]


def single_rules(count: int) -> list[ArcTask]:
    """Tasks of one rule each, all kinds equally often."""
    rng, found = random.Random("single rules"), list[ArcTask]()
    while len(found) < count:
        pairs = draw_pairs(rng, (draw_rule(rng, KNOWN[len(found) % len(KNOWN)]),), 4, 3, 3)
        if pairs is not None:
            found.append(ArcTask.of(f"single-{len(found)}", pairs[:3], pairs[3:]))
    return found


def measure(bench: Bench, count: int) -> dict[str, Any]:
    """Success of the student on tasks that it knows and on tasks that it does not, printing each row as it is known."""
    rows = {}
    test, oracle = compositions("test", count), bench.config.oracle()
    for name, tasks, edit in (
        ("single rules, in context", single_rules(count), None),
        ("single rules, hand-made setting", single_rules(count), oracle),
        ("compositions, in context", test, None),
        ("compositions, hand-made setting", test, oracle),
    ):
        found = _mean(bench.solved(tasks, edit))
        rows[name] = {"mean": found.value, "interval": [found.low, found.high]}
        print(f"{name:<44} {_shown(found)}", flush=True)
    return {"tasks": count, "oracle": json.loads(oracle.text()), "success": rows}


def landscape(bench: Bench, count: int) -> dict[str, list[list[float]]]:
    """Success over learning rate (rows) and epochs (columns) for each of :data:`CHOICES`, on test tasks."""
    tasks, found = compositions("test", count), {}
    for name, switches in CHOICES.items():
        found[name] = [
            [float(np.mean(bench.solved(tasks, ToolEdit(*switches, OUTPUTS, rate, epochs)))) for epochs in EPOCHS]
            for rate in RATES
        ]
        print(name, *(f"{rate:g}: {row}" for rate, row in zip(RATES, found[name])), sep="\n  ", flush=True)
    return found


def search(bench: Bench, count: int) -> Iterator[dict[str, Any]]:
    """Success and cost of one setting after another on training tasks."""
    tasks = compositions("train", count)
    groups = [(basic, False, False, repeat) for basic, repeat in product((True, False), repeat=2)]
    for switches, rate, epochs in product([*groups, (True, True, True, True)], (1e-3, 3e-3, 1e-2), (2, 4, 8)):
        edit = ToolEdit(*switches, OUTPUTS, rate, epochs)
        started = time.perf_counter()
        scores = bench.solved(tasks, edit)
        seconds = (time.perf_counter() - started) / count
        print(f"{_shown(_mean(scores))}  {seconds:5.2f} s  {edit.text()}", flush=True)
        yield {"edit": json.loads(edit.text()), "success": float(np.mean(scores)), "seconds_per_edit": seconds}


def solvable(bench: Bench, count: int) -> dict[str, list[int]]:
    """By split, which of the first tasks are not solved in context and are solved after the hand-made update."""
    found = {}
    for split in ("train", "test"):
        tasks = compositions(split, count)
        before, after = bench.solved(tasks), bench.solved(tasks, bench.config.oracle())
        found[split] = [i for i, (was, now) in enumerate(zip(before, after)) if now > was]
        print(f"{split}: {len(found[split])} of {count}; in context {_shown(_mean(before))}, updated {_shown(_mean(after))}")
    return found


def _mean(scores: Sequence[float]) -> Estimate:
    return paired_difference(scores, [0.0] * len(scores))


def _shown(found: Estimate) -> str:
    low, high = found.low or 0.0, found.high or 0.0
    return f"{100 * found.value:5.1f} %   [{100 * low:5.1f}, {100 * high:5.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="seal-nano-arc", help="bundled name or folder")
    parser.add_argument("--tasks", type=int, default=200, help="of each row")
    parser.add_argument("--map-tasks", type=int, default=100, help="of each field of the heat map; 0: no map")
    parser.add_argument("--search", action="store_true", help="instead: success and cost of settings, on training tasks")
    parser.add_argument("--filter", action="store_true", help="instead: which of the first tasks of each split are solvable")
    parser.add_argument("--out", type=Path, help="write figures and picture into this folder")
    arguments = parser.parse_args()
    bench = Bench(model=arguments.model, grid_text="labelled")
    if arguments.search:
        record: dict[str, Any] = {"search": list(search(bench, arguments.tasks))}
    elif arguments.filter:
        record = solvable(bench, arguments.tasks)
    else:
        record = measure(bench, arguments.tasks)
        if arguments.map_tasks:
            maps = landscape(bench, arguments.map_tasks)
            record["landscape"] = {"learning_rates": RATES, "epochs": EPOCHS, "tasks": arguments.map_tasks, "success": maps}
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        name = "search.json" if arguments.search else "filtered.json" if arguments.filter else "measures.json"
        write_json(arguments.out / name, record)
        if "landscape" in record:
            plot_success(record["landscape"]["success"], RATES, EPOCHS, arguments.out / "landscape.svg")


if __name__ == "__main__":
    main()
