"""From one GPU to a cluster, by arithmetic and simulation: ``python -m benchmarks.measurements.scale --lengths SEAL_RUNS --out
FOLDER``.

Simulates, event by event, workers that score a round under several schedules, with the lengths of recorded self-edits, and
says how busy they are; and works out how long the paper's two rounds take on so many GPUs, and what that costs. Seconds an
update are one unless you give what you measured (`seal-bench speed` on one GPU) as ``--seconds-per-update``.
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
CONTEXTS, SAMPLES, EVALUATIONS = 50, 5, 3  # of a round of the paper's, 750 updates
Portions = list[list[int]]


@dataclass(frozen=True)
class Machines:
    """What portions of work cost.

    Attributes:
        update: seconds of the mean update, where a worker has many to do together.
        half: updates in a portion with which a worker is half as fast as with many.
        portion: seconds a portion takes besides: to be sent, unpacked, and sent back.
        driver: seconds in which the driver sends out, takes back and marks one update; it does one thing at a time.
    """

    update: float = 1.0
    half: float = 0.4
    chunk: float = 0.02
    driver: float = 0.0012

    def seconds(self, costs: Sequence[float]) -> float:
        """Of a portion of updates that cost so much of the mean each."""
        return self.chunk + self.update * sum(costs) * (len(costs) + self.half) / len(costs)


@dataclass(frozen=True)
class Simulated:
    """How a round went.

    Attributes:
        seconds: until the last update was scored.
        busy: share of all workers' time in which they had a portion.
        utilisation: share of it that the work would have taken had every worker always had many updates at once.
    """

    seconds: float
    busy: float
    utilisation: float


def simulate(costs: Sequence[float], workers: int, chunks: Portions, machines: Machines) -> Simulated:
    """Workers pull portions in their order whenever they are free, from a driver that serves one at a time.

    Args:
        costs: of each update, in means.
        workers: how many.
        portions: indices of updates.
        machines: what they take.
    """
    free = [(0.0, i) for i in range(workers)]  # when, who
    heapq.heapify(free)
    driver, busy, end = 0.0, 0.0, 0.0
    for chunk in chunks:
        at, worker = heapq.heappop(free)
        begun = driver = max(at, driver) + machines.driver * len(chunk)
        taken = machines.seconds([costs[i] for i in chunk])
        busy += taken
        end = max(end, begun + taken)
        heapq.heappush(free, (begun + taken, worker))
    return Simulated(end, busy / (workers * end), machines.update * sum(costs) / (workers * end))


def _split(count: int, size: int) -> Portions:
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


SCHEDULES: dict[str, Callable[[Sequence[float], int], Portions]] = {
    "equal shares, dealt out at the start": lambda costs, workers: _split(len(costs), -(-len(costs) // workers)),
    "one update at a time, as they come": lambda costs, workers: _split(len(costs), 1),
    "portions of 16, as they come": lambda costs, workers: _split(len(costs), 16),
    "ours: shrinking portions, longest first": lambda costs, workers: chunked(costs, workers),
}
RUNS = (1, 8, 64)  # that have an equal part of the workers each, and a driver of their own


def round_costs(lengths: str) -> list[float]:
    """Of the updates of one round of the paper's, in means: every edit is learnt three times."""
    edits = [float(sum(edit)) for edit in edit_lengths(lengths, CONTEXTS * SAMPLES, 0)]
    mean = sum(edits) / len(edits)
    return [tokens / mean for tokens in edits for _ in range(EVALUATIONS)]


def utilisation(lengths: str, machines: Machines) -> Iterator[dict[str, Any]]:
    """Of every number of runs, schedule and number of workers, in a round of the paper's."""
    costs = round_costs(lengths)
    for runs, (name, schedule), workers in product(RUNS, SCHEDULES.items(), WORKERS):
        own = max(1, workers // runs)
        found = simulate(costs, own, schedule(costs, own), machines)
        yield {"runs": runs, "schedule": name, "workers": workers, "workers_of_a_run": own, **asdict(found)}


def most_workers(lengths: str, machines: Machines, least: float = 0.9, most: int = 128) -> dict[str, int]:
    """With how many workers a round of the paper's is still scored with that utilisation, by schedule; 0: with none."""
    costs, found = round_costs(lengths), dict.fromkeys(SCHEDULES, 0)
    for (name, schedule), workers in product(SCHEDULES.items(), range(1, most + 1)):
        if simulate(costs, workers, schedule(costs, workers), machines).utilisation >= least:
            found[name] = workers
    return found


def capacity(lengths: str, machines: Machines, dollars: float) -> Iterator[dict[str, Any]]:
    """What so many GPUs do in one run: edits an hour, and what scoring takes in the paper's two rounds."""
    costs = round_costs(lengths)
    for gpus in (1, 2, 8, 64):
        found = simulate(costs, gpus, chunked(costs, gpus), machines)
        hours = 2 * found.seconds / 3600
        edits = CONTEXTS * SAMPLES * 3600 / found.seconds
        yield {"gpus": gpus, "edits_per_hour": edits, "two_rounds_hours": hours, "dollars": hours * gpus * dollars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lengths", default="seal", help="'seal' (like the published edits), or a folder of SEAL's recorded runs"
    )
    parser.add_argument("--seconds-per-update", type=float, default=1.0, help="measured where many are done together")
    parser.add_argument("--half", type=float, default=Machines.half, help="updates in a portion at half the speed of many")
    parser.add_argument("--driver", type=float, default=Machines.driver, help="seconds of the driver an update")
    parser.add_argument("--dollars", type=float, default=3.0, help="a GPU and hour")
    parser.add_argument("--out", type=Path, help="write scale.json into this folder")
    arguments = parser.parse_args()
    machines = Machines(arguments.seconds_per_update, arguments.half, driver=arguments.driver)
    rows = list(utilisation(arguments.lengths, machines))
    print(f"utilisation, %, by workers{'':<40}" + "".join(f"{workers:>7}" for workers in WORKERS))
    for runs in RUNS:
        for name in SCHEDULES:
            own = [row["utilisation"] for row in rows if (row["runs"], row["schedule"]) == (runs, name)]
            print(f"{runs:>3} runs, {name:<56}" + "".join(f"{100 * value:7.1f}" for value in own))
    limits = most_workers(arguments.lengths, machines)
    print("\nmost workers for 90 %: " + "; ".join(f"{name}: {count}" for name, count in limits.items()))
    table = list(capacity(arguments.lengths, machines, arguments.dollars))
    print("\nGPUs  edits/hour  hours for two rounds  dollars")
    for row in table:
        print(f"{row['gpus']:>4}  {row['edits_per_hour']:>10.0f}  {row['two_rounds_hours']:>20.2f}  {row['dollars']:>7.2f}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        found = {"machines": asdict(machines), "utilisation": rows, "most_workers": limits, "capacity": table}
        write_json(arguments.out / "scale.json", found)


if __name__ == "__main__":
    main()
