"""Rewards on several workers of this machine, measured: ``python -m benchmarks.measure_scale --out FOLDER``.

Scores edits that `seal-nano` wrote in this process, on two spawned processes and on Ray with two workers, and compares the
outcomes line by line; then with one and with two workers in turn, and with portions of several sizes; then with a worker killed
in the middle of every batch.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import psutil
import torch

import seal_env  # noqa: F401  registers the environments
from agents import Policy
from seal_env.distributed import EXECUTORS
from seal_env.files import write_json
from seal_env.student.requests import run_updates

ENV = "SEAL-SQuAD-v0"
BATCH = 24  # edits scored together where a worker is killed


class Edits:
    """The same edits, scored as often as they are wanted.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        policy, env = Policy.from_pretrained("seal-nano"), self.env()
        observations, _ = env.reset(seed=0)
        self.texts = [one.text for one in policy.sample(list(observations["instruction"]), list(range(count)))]

    def env(self, places: int | None = None, **where: Any) -> Any:
        """An environment for all edits, or for so many of them."""
        return gym.make_vec(ENV, num_envs=places or self.count, **where).unwrapped

    def score(self, env: Any, first: int = 0) -> tuple[float, list[str]]:
        """Seconds of the step that scores edits ``first`` and on, one a place, and a line for each: reward, info, adapter."""
        env.reset(seed=first)
        started = time.perf_counter()
        _, rewards, _, _, infos = env.step(self.texts[first : first + env.num_envs])
        seconds, final, lines = time.perf_counter() - started, infos["final_info"], []
        for place in range(env.num_envs):
            info = {name: repr(values[place]) for name, values in sorted(final.items()) if not name.startswith("_")}
            adapter = infos["final_obs"][place]["adapter"].tobytes().hex()
            lines.append(json.dumps({"reward": float(rewards[place]), **info, "adapter": adapter}))
        return seconds, lines


def identical(edits: Edits, executors: list[str]) -> dict[str, Any]:
    """Whether two workers of these executors give the lines of this process."""
    _, expected = edits.score(edits.env())
    found: dict[str, Any] = {"edits": len(expected)}
    for executor in executors:
        _, lines = edits.score(edits.env(executor=executor, workers=2))
        found[executor] = {"lines": len(lines), "different": sum(a != b for a, b in zip(lines, expected, strict=True))}
        print(f"{executor}: {found[executor]['different']} of {len(lines)} lines differ from those of this process", flush=True)
    return found


def speedup(edits: Edits, executor: str, repeats: int) -> dict[str, Any]:
    """Seconds of all edits with one and with two single-threaded workers, taking turns."""
    if executor == "ray":
        from seal_env.distributed.ray_pool import connect

        connect(cpus=3)  # of which never more than two have something to do
    envs = {workers: edits.env(executor=executor, workers=workers) for workers in (1, 2)}
    for env in envs.values():
        edits.score(env)  # workers begin, load their base, and un-updated answers are known
    turns = [{workers: edits.score(env)[0] for workers, env in envs.items()} for _ in range(repeats)]
    ratios = [turn[1] / turn[2] for turn in turns]
    print(f"{executor}: two workers are {statistics.median(ratios):.2f} times as fast as one  {[round(r, 2) for r in ratios]}")
    return {"seconds": turns, "ratios": ratios, "median": statistics.median(ratios)}


def chunks(edits: Edits) -> dict[str, Any]:
    """Seconds an edit in this process, by how many are done together, and of all that is not done by a student."""
    env, found = edits.env(48), {}
    taken = dict[str, Any]()

    def caught(student: Any, requests: Any, generation: Any, *, progress: bool = False) -> Any:
        started = time.perf_counter()
        done = run_updates(student, requests, generation)
        taken.update(seconds=time.perf_counter() - started, call=(student, requests, generation))
        return done

    env.engine.scorer._run_updates = caught
    edits.score(env)  # un-updated answers are known
    besides = (edits.score(env)[0] - taken["seconds"]) / env.num_envs
    student, requests, generation = taken["call"]
    for size in (1, 2, 4, 8, 16, 48):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            for first in range(0, len(requests), size):
                run_updates(student, requests[first : first + size], generation)
            times.append((time.perf_counter() - started) / len(requests))
        found[size] = statistics.median(times)
        print(f"portions of {size:>2}: {found[size]:.3f} s an edit", flush=True)
    print(f"besides, in the driver: {besides:.4f} s an edit")
    return {"seconds_per_edit": found, "driver_seconds_per_edit": besides}


def kills(edits: Edits, executor: str, count: int) -> dict[str, Any]:
    """A worker is killed in the middle of each of so many batches."""
    starts = range(0, edits.count - BATCH + 1, BATCH)
    here = edits.env(BATCH)
    expected = {first: edits.score(here, first)[1] for first in starts}
    env = edits.env(BATCH, executor=executor, workers=2)
    edits.score(env)
    usual, rng = edits.score(env)[0], random.Random(0)
    killed = different = outcomes = 0

    def kill() -> None:
        nonlocal killed
        os.kill(rng.choice(_workers(executor)).pid, signal.SIGKILL)
        killed += 1

    for i in range(count):
        first = starts[i % len(starts)]
        timer = threading.Timer(rng.uniform(0.2, 0.7) * usual, kill)
        timer.start()
        _, lines = edits.score(env, first)
        timer.join()
        outcomes += len(lines)
        different += sum(a != b for a, b in zip(lines, expected[first], strict=True))
        print(f"{executor}: batch {i + 1}, {killed} killed, {outcomes} outcomes, {different} different", flush=True)
    return {"batches": count, "killed": killed, "outcomes": outcomes, "different": different}


def _workers(executor: str) -> list[psutil.Process]:
    """Processes that this one has work done by."""
    mark = "ray::Worker" if executor == "ray" else "spawn_main"
    return [one for one in psutil.Process().children(recursive=True) if mark in " ".join(one.cmdline())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help="portions, identical, speedup, kills; by default all of them")
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=list(EXECUTORS))
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5, help="of one and two workers in turn")
    parser.add_argument("--kills", type=int, default=20, help="batches in which a worker is killed, of each executor")
    parser.add_argument("--out", type=Path, help="write measures.json into this folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    edits = Edits(arguments.edits)
    steps: dict[str, Callable[[], Any]] = {
        "portions": lambda: chunks(edits),
        "identical": lambda: identical(edits, arguments.executors),
        "speedup": lambda: {name: speedup(edits, name, arguments.repeats) for name in arguments.executors},
        "kills": lambda: {name: kills(edits, name, arguments.kills) for name in arguments.executors},
    }
    if unknown := sorted(set(arguments.steps) - set(steps)):
        parser.error(f"there is no {', '.join(unknown)}: choose from {', '.join(steps)}")
    record = {name: step() for name, step in steps.items() if name in (arguments.steps or steps)}
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out / "measures.json", record)


if __name__ == "__main__":
    main()
