"""The unit of work of a student: train an adapter, then answer prompts with it.

Requests and results hold only texts, numbers and numpy arrays, so they can be sent to another process. They know nothing of
tasks or evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

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
    """One update of the student, and the prompts it answers afterwards.

    Attributes:
        prompts: answered after the update, each a text or token ids.
        update: what to learn; None trains nothing.
        adapter: ``(adapter_size,)``, where training starts; None starts from a new adapter, seeded by ``update``. Without
            ``update`` it answers the prompts as it is, and None stands for the base model.
    """

    prompts: tuple[Prompt, ...]
    update: Update | None = None
    adapter: Adapter | None = None


@dataclass(frozen=True)
class GenerationConfig:
    """How a student answers prompts, and whether results hold adapters.

    Attributes:
        max_new_tokens: maximum number of tokens generated for a prompt.
        stop: strings that end an answer.
        return_adapters: whether results hold the trained adapters.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    return_adapters: bool = True


@dataclass(frozen=True)
class UpdateResult:
    """The result of an :class:`UpdateRequest`.

    Attributes:
        texts: the text generated for each prompt; None if the update trained nothing, since the student then answers as before.
        report: of the update; None for a request without one.
        adapter: ``(adapter_size,)`` after the update; None for a request without one and without ``return_adapters``.
    """

    texts: tuple[str, ...] | None
    report: FitReport | None = None
    adapter: Adapter | None = None


def run_updates(
    student: Student, requests: Sequence[UpdateRequest], generation: GenerationConfig, *, progress: bool = False
) -> list[UpdateResult]:
    """Run all updates in one batch, then answer all prompts in one batch.

    Each result is a function of its request, ``generation`` and the student's base weights. Batching only saves time.

    Args:
        student: the model that is updated.
        requests: the updates, each with its prompts.
        generation: how prompts are answered.
        progress: whether to show a progress bar of trained tokens.
    """
    reports: list[FitReport | None] = [None] * len(requests)
    adapters = [None if request.adapter is None else adapter_tensor(request.adapter) for request in requests]
    updates = [(i, request.update) for i, request in enumerate(requests) if request.update is not None]
    if updates:
        fresh = iter(student.fresh([update.seed for i, update in updates if adapters[i] is None]))
        start = torch.stack([next(fresh) if (given := adapters[i]) is None else given for i, _ in updates])
        fitted = student.fit([update for _, update in updates], start, progress=progress)
        for (i, _), adapter, report in zip(updates, fitted.adapters, fitted.reports):
            adapters[i], reports[i] = adapter, report
    answering = [i for i, report in enumerate(reports) if report is None or report.status.learnt]
    # Requests to the base model share one adapter, so that what their prompts have in common is read once.
    groups = [[i for i in answering if adapters[i] is None], *([i] for i in answering if adapters[i] is not None)]
    groups = [group for group in groups if group]
    texts: dict[int, tuple[str, ...]] = {}
    if groups:
        answers = student.answer(
            torch.stack([student.zero()[0] if (given := adapters[group[0]]) is None else given for group in groups]),
            [[prompt for i in group for prompt in requests[i].prompts] for group in groups],
            max_new_tokens=generation.max_new_tokens,
            stop=generation.stop,
        )
        for group, group_answers in zip(groups, answers):
            remaining = iter(group_answers)
            texts |= {i: tuple(answer.text for answer in islice(remaining, len(requests[i].prompts))) for i in group}
    returned = [adapter if generation.return_adapters and report else None for adapter, report in zip(adapters, reports)]
    return [
        UpdateResult(texts.get(i), report, None if adapter is None else adapter.numpy())
        for i, (report, adapter) in enumerate(zip(reports, returned))
    ]


def adapter_tensor(adapter: Adapter) -> Tensor:
    """The adapter as a tensor. It shares the array's memory if that is writable."""
    return torch.from_numpy(np.require(adapter, requirements="W"))
