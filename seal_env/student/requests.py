"""What a student does for one self-edit: learn an update, then answer prompts; here or wherever there is a student.

Nothing of it knows of tasks or exams, and all of it can be sent to another process: texts, numbers, numpy arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seal_env.chat import Prompt
from seal_env.student import FitReport, Student
from seal_env.update import Update

Adapter = NDArray[np.float32]


@dataclass(frozen=True)
class UpdateRequest:
    """What is to be done.

    Attributes:
        prompts: to be answered after the update, each text or token ids.
        update: what to learn; None: nothing, the student answers as it is.
        start: adapter to go on from, ``(adapter_size,)``; by default a fresh one, seeded by the update.
    """

    prompts: tuple[Prompt, ...]
    update: Update | None = None
    start: Adapter | None = None


@dataclass(frozen=True)
class GenerationConfig:
    """How a student answers, and what is wanted back.

    Attributes:
        max_new_tokens: most tokens after a prompt.
        stop: strings that end an answer.
        adapters: whether to give the adapters back.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    adapters: bool = True


@dataclass(frozen=True)
class UpdateResult:
    """What came of a :class:`UpdateRequest`.

    Attributes:
        texts: what was written after each prompt; None where an update taught nothing, so that nobody was asked.
        report: of the update; None where there was no update.
        adapter: after the update, if it was wanted.
    """

    texts: tuple[str, ...] | None
    report: FitReport | None = None
    adapter: Adapter | None = None


def run_updates(
    student: Student, requests: Sequence[UpdateRequest], generation: GenerationConfig, *, progress: bool = False
) -> list[UpdateResult]:
    """Do all of it together, which only saves time: each result is a function of its work, ``generation`` and the student's
    base.

    Args:
        student: who does it.
        works: what is to be done.
        asking: how prompts are answered.
        progress: show a bar of tokens while adapters are trained.
    """
    reports: list[FitReport | None] = [None] * len(requests)
    adapters = [None if request.start is None else tensor(request.start) for request in requests]
    learning = [(i, request.update) for i, request in enumerate(requests) if request.update is not None]
    if learning:
        fresh = student.fresh([update.seed for _, update in learning])
        start = torch.stack([new if (own := adapters[i]) is None else own for (i, _), new in zip(learning, fresh)])
        fitted = student.fit([update for _, update in learning], start, progress=progress)
        for (i, _), adapter, report in zip(learning, fitted.adapters, fitted.reports):
            adapters[i], reports[i] = adapter, report
    asked = [i for i, report in enumerate(reports) if report is None or report.status.learnt]
    texts: dict[int, tuple[str, ...]] = {}
    if asked:
        answers = student.answer(
            torch.stack([student.zero()[0] if (own := adapters[i]) is None else own for i in asked]),
            [requests[i].prompts for i in asked],
            max_new_tokens=generation.max_new_tokens,
            stop=generation.stop,
        )
        texts = {i: tuple(answer.text for answer in written) for i, written in zip(asked, answers)}
    return [
        UpdateResult(texts.get(i), report, adapter.numpy() if generation.adapters and report and adapter is not None else None)
        for i, (report, adapter) in enumerate(zip(reports, adapters))
    ]


def tensor(adapter: Adapter) -> Tensor:
    """The adapter as a tensor, which shares its memory where that can be written to."""
    return torch.from_numpy(np.require(adapter, requirements="W"))
