"""The workers of this process, by what was asked for: environments that ask for the same share them."""

from __future__ import annotations

import weakref
from typing import Literal, get_args

from seal_env.spread.crew import Crew, Processes

ExecutorName = Literal["spawn", "ray"]
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)

_CREWS: weakref.WeakValueDictionary[tuple[str, int | None, str], Crew] = weakref.WeakValueDictionary()


def shared_crew(executor: ExecutorName, workers: int | None, device: str) -> Crew:
    """The workers of this kind; they end when nobody uses them any more.

    Args:
        executor: ``spawn``, processes of this machine, or ``ray``.
        workers: how many; by default one for each GPU, on a CPU one for each thread that torch uses here or CPU that Ray has.
        device: of each worker.

    Raises:
        ImportError: Ray is not installed.
        ValueError: more workers than there are GPUs or CPUs.
    """
    key = (executor, workers, device)
    crew = _CREWS.get(key)
    if crew is None:
        if executor == "ray":
            from seal_env.spread.ray_crew import RayCrew

            crew = RayCrew(workers, device)
        else:
            crew = Processes(workers, device)
        _CREWS[key] = crew
    return crew
