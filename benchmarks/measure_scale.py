"""Measure scoring on several workers of this machine: ``python -m benchmarks.measure_scale --out FOLDER``.

Scores edits that ``seal-nano`` wrote in this process, on two spawned processes and on two Ray actors, and compares the outcomes
line by line. Measures the time with one and with two workers, and with chunks of several sizes. Kills a worker during every
batch.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import psutil
import torch

import seal_env  # noqa: F401  registers the environments
from agents import Policy
from seal_env.distributed import EXECUTORS
from seal_env.evaluation.scoring import Scorer
from seal_env.files import write_json
from seal_env.student.requests import UpdateResult, run_updates

ENV = "SEAL-SQuAD-v0"
BATCH = 24  # edits scored together while a worker is killed


class Edits:
    """The same edits, to score repeatedly.

    Args:
        count: number of edits.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        policy, env = Policy.from_pretrained("seal-nano"), self.make_env()
        observations, _ = env.reset(seed=0)
        completions = policy.sample(list(observations["instruction"]), list(range(count)))
        self.texts = [completion.text for completion in completions]

    def make_env(self, num_envs: int | None = None, **options: Any) -> Any:
        """A vector environment, by default with a sub-environment for each edit."""
        return gym.make_vec(ENV, num_envs=num_envs or self.count, **options).unwrapped

    def score(self, env: Any, first: int = 0) -> tuple[float, list[str]]:
        """Score edits from ``first`` on, one per sub-environment.

        Returns:
            Seconds of the step, and a JSON line for each edit with reward, info and adapter.
        """
        env.reset(seed=first)
        start = time.perf_counter()
        _, rewards, _, _, infos = env.step(self.texts[first : first + env.num_envs])
        seconds, final, lines = time.perf_counter() - start, infos["final_info"], []
        for i in range(env.num_envs):
            info = {name: repr(values[i]) for name, values in sorted(final.items()) if not name.startswith("_")}
            adapter = infos["final_obs"][i]["adapter"].tobytes().hex()
            lines.append(json.dumps({"reward": float(rewards[i]), **info, "adapter": adapter}))
        return seconds, lines


def measure_identity(edits: Edits, executors: list[str]) -> dict[str, Any]:
    """Number of lines that differ between two workers of each executor and this process."""
    _, expected = edits.score(edits.make_env())
    record: dict[str, Any] = {"edits": len(expected)}
    for executor in executors:
        _, lines = edits.score(edits.make_env(executor=executor, workers=2))
        different = _differences(lines, expected)
        record[executor] = {"lines": len(lines), "different": different}
        print(f"{executor}: {different} of {len(lines)} lines differ from those of this process", flush=True)
    return record


def measure_speedup(edits: Edits, executor: str, repeats: int) -> dict[str, Any]:
    """Seconds for all edits with one and with two single-threaded workers, in turn."""
    if executor == "ray":
        from seal_env.distributed.ray_pool import connect

        connect(cpus=3)  # at most two are busy at a time
    envs = {workers: edits.make_env(executor=executor, workers=workers) for workers in (1, 2)}
    for env in envs.values():
        edits.score(env)  # start the workers and cache the answers before updates
    turns = [{workers: edits.score(env)[0] for workers, env in envs.items()} for _ in range(repeats)]
    ratios = [turn[1] / turn[2] for turn in turns]
    print(f"{executor}: two workers are {statistics.median(ratios):.2f} times as fast as one  {[round(r, 2) for r in ratios]}")
    return {"seconds": turns, "ratios": ratios, "median": statistics.median(ratios)}


class TimedUpdates:
    """:func:`run_updates` in this process, with the seconds and the arguments of the last call."""

    def __call__(self, student: Any, requests: Any, generation: Any, *, progress: bool = False) -> list[UpdateResult]:
        start = time.perf_counter()
        results = run_updates(student, requests, generation)
        self.seconds, self.arguments = time.perf_counter() - start, (student, requests, generation)
        return results


def measure_chunks(edits: Edits) -> dict[str, Any]:
    """Seconds per edit in this process, by chunk size, and the seconds per edit that are not the student's."""
    env, timed, seconds_per_edit = edits.make_env(48), TimedUpdates(), {}
    env.engine.scorer = Scorer(env.engine.student, env.engine.domain.evaluator, timed)
    edits.score(env)  # cache the answers before updates
    driver_seconds = (edits.score(env)[0] - timed.seconds) / env.num_envs
    student, requests, generation = timed.arguments
    for size in (1, 2, 4, 8, 16, 48):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            for first in range(0, len(requests), size):
                run_updates(student, requests[first : first + size], generation)
            times.append((time.perf_counter() - start) / len(requests))
        seconds_per_edit[size] = statistics.median(times)
        print(f"chunks of {size:>2}: {seconds_per_edit[size]:.3f} s per edit", flush=True)
    print(f"driver: {driver_seconds:.4f} s per edit")
    return {"seconds_per_edit": seconds_per_edit, "driver_seconds_per_edit": driver_seconds}


def measure_kills(edits: Edits, executor: str, batches: int) -> dict[str, Any]:
    """Outcomes that differ if a worker is killed during each of a number of batches."""
    starts = range(0, edits.count - BATCH + 1, BATCH)
    local = edits.make_env(BATCH)
    expected = {first: edits.score(local, first)[1] for first in starts}
    env = edits.make_env(BATCH, executor=executor, workers=2)
    edits.score(env)
    seconds, rng = edits.score(env)[0], random.Random(0)
    killed: list[int] = []
    different = outcomes = 0
    for i in range(batches):
        first = starts[i % len(starts)]
        timer = threading.Timer(rng.uniform(0.2, 0.7) * seconds, _kill_worker, (executor, rng, killed))
        timer.start()
        _, lines = edits.score(env, first)
        timer.join()
        outcomes += len(lines)
        different += _differences(lines, expected[first])
        print(f"{executor}: batch {i + 1}, {len(killed)} killed, {outcomes} outcomes, {different} different", flush=True)
    return {"batches": batches, "killed": len(killed), "outcomes": outcomes, "different": different}


def _kill_worker(executor: str, rng: random.Random, killed: list[int]) -> None:
    """Kill one of the worker processes of this process, and add its id to ``killed``."""
    command = "ray::Worker" if executor == "ray" else "spawn_main"
    children = psutil.Process().children(recursive=True)
    worker = rng.choice([child for child in children if command in " ".join(child.cmdline())])
    worker.kill()
    killed.append(worker.pid)


def _differences(lines: Sequence[str], expected: Sequence[str]) -> int:
    return sum(line != other for line, other in zip(lines, expected, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help="chunks, identical, speedup, kills; by default all of them")
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=list(EXECUTORS))
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5, help="repetitions with one and with two workers")
    parser.add_argument("--kills", type=int, default=20, help="batches during which a worker is killed, for each executor")
    parser.add_argument("--out", type=Path, help="write measures.json into this folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    edits = Edits(arguments.edits)
    executors = arguments.executors
    steps: dict[str, Callable[[], Any]] = {
        "chunks": lambda: measure_chunks(edits),
        "identical": lambda: measure_identity(edits, executors),
        "speedup": lambda: {name: measure_speedup(edits, name, arguments.repeats) for name in executors},
        "kills": lambda: {name: measure_kills(edits, name, arguments.kills) for name in executors},
    }
    if unknown := sorted(set(arguments.steps) - set(steps)):
        parser.error(f"no step {', '.join(unknown)}: choose from {', '.join(steps)}")
    record = {name: step() for name, step in steps.items() if name in (arguments.steps or steps)}
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out / "measures.json", record)


if __name__ == "__main__":
    main()
