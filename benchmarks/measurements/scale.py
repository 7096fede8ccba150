"""Simulate scoring on one GPU to a cluster: ``python -m benchmarks.measurements.scale --lengths SEAL_RUNS --out FOLDER``.

An event simulation of workers that score a round under several schedules, with the lengths of recorded self-edits, gives their
utilisation. It also gives the time and cost of the paper's two rounds by number of GPUs. An update takes one second unless you
pass what you measured (``seal-bench speed`` on one GPU) as ``--seconds-per-update``.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.measurements.workload import edit_lengths
from seal_env.distributed import chunked
from seal_env.files import write_json

WORKERS = (1, 8, 64, 512)
CONTEXTS, SAMPLES, EVALUATIONS = 50, 5, 3  # in a round of the paper: 750 updates
Chunks = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Machines:
    """Speed of workers and driver.

    Attributes:
        update: seconds of the mean update, in a large chunk.
        half: number of updates in a chunk at which a worker is half as fast as in a large one.
        chunk: additional seconds per chunk, to send and receive it.
        driver: seconds per update in the driver, which sends, receives and grades one update at a time.
    """

    update: float = 1.0
    half: float = 0.4
    chunk: float = 0.02
    driver: float = 0.0012

    def seconds(self, costs: Sequence[float]) -> float:
        """Seconds of a chunk of updates with these costs, in units of the mean cost."""
        return self.chunk + self.update * sum(costs) * (len(costs) + self.half) / len(costs)


@dataclass(frozen=True)
class Simulation:
    """The result of a simulated round.

    Attributes:
        seconds: until the last update is scored.
        busy: share of the workers' time in which they run a chunk.
        utilisation: share of the workers' time that the updates would take in large chunks.
    """

    seconds: float
    busy: float
    utilisation: float


def simulate(costs: Sequence[float], workers: int, chunks: Chunks, machines: Machines) -> Simulation:
    """Free workers pull chunks in order from a driver that serves one at a time.

    Args:
        costs: of each update, in units of the mean cost.
        workers: number of workers.
        chunks: indices of updates.
        machines: speed of workers and driver.
    """
    free = [(0.0, i) for i in range(workers)]  # time, worker
    heapq.heapify(free)
    driver, busy, end = 0.0, 0.0, 0.0
    for chunk in chunks:
        free_at, worker = heapq.heappop(free)
        start = driver = max(free_at, driver) + machines.driver * len(chunk)
        seconds = machines.seconds([costs[i] for i in chunk])
        busy += seconds
        end = max(end, start + seconds)
        heapq.heappush(free, (start + seconds, worker))
    return Simulation(end, busy / (workers * end), machines.update * sum(costs) / (workers * end))


def _split(count: int, size: int) -> Chunks:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


SCHEDULES: dict[str, Callable[[Sequence[float], int], Chunks]] = {
    "equal shares, assigned at the start": lambda costs, workers: _split(len(costs), -(-len(costs) // workers)),
    "one update at a time, in order": lambda costs, workers: _split(len(costs), 1),
    "chunks of 16, in order": lambda costs, workers: _split(len(costs), 16),
    "shrinking chunks, longest first (seal_env)": lambda costs, workers: chunked(costs, workers),
}
RUNS = (1, 8, 64)  # at once, each with its driver and an equal part of the workers


def round_costs(lengths: str) -> list[float]:
    """Costs of the updates in a round of the paper, in units of their mean: every edit is evaluated three times."""
    edits = [float(sum(edit)) for edit in edit_lengths(lengths, CONTEXTS * SAMPLES, 0)]
    mean = sum(edits) / len(edits)
    return [tokens / mean for tokens in edits for _ in range(EVALUATIONS)]


def utilisation(lengths: str, machines: Machines) -> Iterator[dict[str, Any]]:
    """A row for each number of runs, schedule and number of workers."""
    costs = round_costs(lengths)
    for runs, (name, schedule), workers in product(RUNS, SCHEDULES.items(), WORKERS):
        per_run = max(1, workers // runs)
        simulation = simulate(costs, per_run, schedule(costs, per_run), machines)
        yield {"runs": runs, "schedule": name, "workers": workers, "workers_of_a_run": per_run, **asdict(simulation)}


def most_workers(lengths: str, machines: Machines, least: float = 0.9, most: int = 128) -> dict[str, int]:
    """The largest number of workers, up to ``most``, with at least this utilisation, by schedule; 0 if there is none."""
    costs, limits = round_costs(lengths), dict.fromkeys(SCHEDULES, 0)
    for (name, schedule), workers in product(SCHEDULES.items(), range(1, most + 1)):
        if simulate(costs, workers, schedule(costs, workers), machines).utilisation >= least:
            limits[name] = workers
    return limits


def capacity(lengths: str, machines: Machines, dollars: float) -> Iterator[dict[str, Any]]:
    """A row for each number of GPUs: edits per hour in one run, and hours and dollars for scoring the paper's two rounds."""
    costs = round_costs(lengths)
    for gpus in (1, 2, 8, 64):
        seconds = simulate(costs, gpus, chunked(costs, gpus), machines).seconds
        hours = 2 * seconds / 3600
        edits = CONTEXTS * SAMPLES * 3600 / seconds
        yield {"gpus": gpus, "edits_per_hour": edits, "two_rounds_hours": hours, "dollars": hours * gpus * dollars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lengths", default="seal", help="'seal' (like the published edits), or a folder of SEAL's recorded runs"
    )
    parser.add_argument("--seconds-per-update", type=float, default=1.0, help="measured in large chunks")
    parser.add_argument("--half", type=float, default=Machines.half, help="updates in a chunk at half the speed of a large one")
    parser.add_argument("--driver", type=float, default=Machines.driver, help="driver seconds per update")
    parser.add_argument("--dollars", type=float, default=3.0, help="per GPU and hour")
    parser.add_argument("--out", type=Path, help="write scale.json into this folder")
    arguments = parser.parse_args()
    machines = Machines(arguments.seconds_per_update, arguments.half, driver=arguments.driver)
    rows = list(utilisation(arguments.lengths, machines))
    print(f"utilisation, %, by workers{'':<40}" + "".join(f"{workers:>7}" for workers in WORKERS))
    for runs in RUNS:
        for name in SCHEDULES:
            values = [row["utilisation"] for row in rows if (row["runs"], row["schedule"]) == (runs, name)]
            print(f"{runs:>3} runs, {name:<56}" + "".join(f"{100 * value:7.1f}" for value in values))
    limits = most_workers(arguments.lengths, machines)
    print("\nmost workers for 90 %: " + "; ".join(f"{name}: {count}" for name, count in limits.items()))
    table = list(capacity(arguments.lengths, machines, arguments.dollars))
    print("\nGPUs  edits/hour  hours for two rounds  dollars")
    for row in table:
        print(f"{row['gpus']:>4}  {row['edits_per_hour']:>10.0f}  {row['two_rounds_hours']:>20.2f}  {row['dollars']:>7.2f}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        record = {"machines": asdict(machines), "utilisation": rows, "most_workers": limits, "capacity": table}
        write_json(arguments.out / "scale.json", record)


if __name__ == "__main__":
    main()
