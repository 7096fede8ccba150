"""Progress of a benchmark: a bar with the active runs on a terminal, one line per event elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


@dataclass(frozen=True)
class Event:
    """Progress of one run.

    Attributes:
        label: of the agent.
        seed: of the run.
        status: ``started``, ``resumed``, ``complete``, or how far the run is.
        edits: scored since the last event.
        reward: mean of the round, or of the last evaluation of a complete run.
    """

    label: str
    seed: int
    status: str
    edits: int = 0
    reward: float | None = None

    def __str__(self) -> str:
        reward = "" if self.reward is None else f"  reward {self.reward:.3f}"
        return f"{self.label} seed {self.seed}: {self.status}{reward}"


class View:
    """Progress as one line per event, with an estimate of the remaining time; a context manager.

    Args:
        total: edits to score in all runs.
        done: how many of them are scored already.
        runs: number of runs.
        complete: how many of them are complete already.
    """

    def __init__(self, total: int, done: int, runs: int, complete: int) -> None:
        self.total, self.done, self.runs, self.complete = total, done, runs, complete
        self._started, self._before = time.monotonic(), done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        self.done += event.edits
        self.complete += event.status == "complete"
        self.show(event)

    def show(self, event: Event) -> None:
        """Print an event that has been counted."""
        elapsed, new = time.monotonic() - self._started, self.done - self._before
        left = f"  {_clock(elapsed / new * (self.total - self.done))} left" if new else ""
        share = f"[{self.complete}/{self.runs} runs, {self.done}/{self.total} edits, {_clock(elapsed)}{left}]"
        print(f"{event}  {share}", flush=True)


class Bar(View):
    """A progress bar and a table of the active runs."""

    def __enter__(self) -> Self:
        counts = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("edits"))
        self._progress = Progress(*counts, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self._bar = self._progress.add_task(self._runs(), total=self.total, completed=self.done)
        self._running: dict[tuple[str, int], Event] = {}
        self._live = Live(self._table(), console=Console(), refresh_per_second=4)
        self._live.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._live.__exit__(*problem)  # type: ignore[arg-type]

    def show(self, event: Event) -> None:
        key = (event.label, event.seed)
        if event.status == "complete":
            self._running.pop(key, None)
            self._live.console.print(f"{event.label} seed {event.seed}: test reward {event.reward:.3f}", markup=False)
        else:
            self._running[key] = event
        self._progress.update(self._bar, completed=self.done, description=self._runs())
        self._live.update(self._table())

    def _runs(self) -> str:
        return f"{self.complete}/{self.runs} runs"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(self._progress)
        for event in self._running.values():
            table.add_row(f"  {event}")
        return table


def make_view(total: int, done: int, runs: int, complete: int) -> View:
    """A bar on a terminal, lines elsewhere."""
    return (Bar if sys.stdout.isatty() else View)(total, done, runs, complete)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
