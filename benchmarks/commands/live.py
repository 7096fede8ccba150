"""What a person sees of a benchmark while it runs: a bar with what is running on a terminal, a line an event elsewhere."""

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
    """What happened in a run.

    Attributes:
        label: of the agent.
        seed: of the run.
        what: ``started``, ``resumed``, ``complete``, or how far it is.
        edits: scored since the last event.
        reward: mean of the round; of the last evaluation where it is complete.
    """

    label: str
    seed: int
    what: str
    edits: int
    reward: float | None


class View:
    """Shows events; a context manager. ``total`` edits are to be scored in all runs, ``done`` of them already are."""

    def __init__(self, total: int, done: int, runs: int, complete: int) -> None:
        self.total, self.done, self.runs, self.complete = total, done, runs, complete

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        self.done += event.edits
        self.complete += event.what == "complete"


class Lines(View):
    """A line an event, with the time that is left as it looks by now."""

    def __enter__(self) -> Self:
        self._started, self._before = time.monotonic(), self.done
        return self

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        reward = "" if event.reward is None else f"  reward {event.reward:.3f}"
        elapsed, new = time.monotonic() - self._started, self.done - self._before
        left = f"  {_clock(elapsed / new * (self.total - self.done))} left" if new else ""
        share = f"[{self.complete}/{self.runs} runs, {self.done}/{self.total} edits, {_clock(elapsed)}{left}]"
        print(f"{event.label} seed {event.seed}: {event.what}{reward}  {share}", flush=True)


class Bar(View):
    """A progress bar and a table of the runs that are not over."""

    def __enter__(self) -> Self:
        columns = ("[bold]{task.description}",)
        self._progress = Progress(
            *(TextColumn(column) for column in columns),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("edits"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = self._progress.add_task(self._runs(), total=self.total, completed=self.done)
        self._running: dict[tuple[str, int], Event] = {}
        self._live = Live(self._table(), console=Console(), refresh_per_second=4)
        self._live.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._live.__exit__(*problem)  # type: ignore[arg-type]

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        key = (event.label, event.seed)
        if event.what == "complete":
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
        for (label, seed), event in self._running.items():
            reward = "" if event.reward is None else f"  reward {event.reward:.3f}"
            table.add_row(f"  {label} seed {seed}: {event.what}{reward}")
        return table


def make_view(total: int, done: int, runs: int, complete: int) -> View:
    """The bar on a terminal, lines elsewhere."""
    return (Bar if sys.stdout.isatty() else Lines)(total, done, runs, complete)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
