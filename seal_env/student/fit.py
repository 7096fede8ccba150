"""Carry out many update plans at once: the inner loop of SEAL, for all adapters together.

Every adapter gets exactly the optimizer steps it would get alone: its own examples in its own order, its own AdamW state,
step count, learning-rate schedule and gradient clipping. Only *when* each step runs is decided together
(:mod:`seal_env.student.schedule`). Where memory runs out, fewer of them run together: a step that failed has changed nothing,
and a plan that has to make room begins again from its start.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from seal_env.plan import UpdatePlan
from seal_env.student.memory import free_cached, is_out_of_memory
from seal_env.student.network import Network, TrainBatch
from seal_env.student.ops import AdamWStep, TorchOps
from seal_env.student.schedule import Lane, Scheduler, StepShape

_log = logging.getLogger(__name__)

# Where steps are padded, rows have at least this many tokens and labels: fewer fall into matrix-vector kernels.
MIN_LENGTH = 16
# A weight of an adapter beyond this is no longer an adapter.
DIVERGED_WEIGHT = 1e3


class FitStatus(StrEnum):
    """How the update of one plan ended."""

    TRAINED = "trained"
    TRUNCATED = "truncated"  # trained, with at least one example cut to the plan's or the model's length
    NOTHING_TO_TRAIN = "nothing_to_train"  # no example has a token to learn; the adapter is as it started
    OUT_OF_VOCABULARY = "out_of_vocabulary"  # a token that the model has no embedding for; the adapter is as it started
    DIVERGED = "diverged"  # a loss, gradient or weight left the finite range; the adapter is as it started

    @property
    def learnt(self) -> bool:
        """Whether the adapter is another than it started as."""
        return self in (FitStatus.TRAINED, FitStatus.TRUNCATED)


@dataclass(frozen=True)
class EncodedExample:
    """Token ids and the index of the first one to learn (at least 1: nothing predicts the first token)."""

    ids: list[int]
    first_label: int


@dataclass
class FitReport:
    """What happened to one plan.

    Attributes:
        status: see :class:`FitStatus`.
        sequences: examples trained on in each epoch.
        steps: optimizer steps taken.
        tokens: tokens read in training, over all epochs, without padding.
        losses: mean loss of each step's learnt tokens (nats a token), in order.
    """

    status: FitStatus
    sequences: int = 0
    steps: int = 0
    tokens: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """What :func:`fit` returns.

    Attributes:
        adapters: ``(plans, numel)`` in float32, on the CPU.
        reports: one a plan.
        useful_tokens: tokens trained on, without padding.
        padded_tokens: tokens computed, with padding.
        slots: most adapters in training at once, at the end: fewer than allowed where memory ran out.
        step_tokens: the same of the padded tokens in a batch.
    """

    adapters: Tensor
    reports: list[FitReport]
    useful_tokens: int
    padded_tokens: int
    slots: int
    step_tokens: int


@dataclass
class _Job:
    """One plan on its way."""

    plan: UpdatePlan
    examples: list[EncodedExample]
    steps: list[list[int]]
    report: FitReport

    def lane(self, index: int) -> Lane:
        shapes: deque[StepShape] = deque()
        for step in self.steps:
            lengths = [len(self.examples[i].ids) for i in step]
            shapes.append(StepShape(len(step), max(MIN_LENGTH, *lengths), sum(lengths)))
        return Lane(index, slot=-1, steps=shapes)


def fit(
    network: Network,
    plans: list[UpdatePlan],
    examples: list[list[EncodedExample]],
    truncated: list[bool],
    start: Tensor,
    max_slots: int,
    step_tokens: int,
    overhead_tokens: int,
    on_progress: Callable[[int], object] | None = None,
) -> FitResult:
    """Train one adapter a plan, from ``start: (plans, numel)``.

    Args:
        examples: of each plan, tokenized; sequences without a token to learn are left out.
        truncated: whether any example of the plan was cut.
        max_slots: adapters in training at once; others wait for one to finish.
        step_tokens: padded tokens in one batch, about.
        overhead_tokens: what starting a batch costs, in tokens (see :class:`Scheduler`).
        on_progress: called with the number of tokens trained since the last call.
    """
    adapters = start.detach().clone().float()
    jobs = []
    for plan, sequences, cut in zip(plans, examples, truncated):
        steps = plan.steps(len(sequences))
        status = FitStatus.NOTHING_TO_TRAIN if not steps else FitStatus.TRUNCATED if cut else FitStatus.TRAINED
        jobs.append(_Job(plan, sequences, steps, FitReport(status, sequences=len(sequences) if steps else 0)))

    # Longest first: a long plan that starts last runs alone at the end.
    lanes = [job.lane(i) for i, job in enumerate(jobs) if job.steps]
    lanes.sort(key=lambda lane: -sum(step.tokens + overhead_tokens for step in lane.steps))
    waiting = deque(lanes)
    padded_steps = max((len(e.ids) for job in jobs for e in job.examples), default=0) > network.ragged
    scheduler = Scheduler(step_tokens, overhead_tokens, network.length_class, padded=padded_steps)
    slots, padded, shortages = min(max_slots, len(lanes)), 0, 0
    optimizer: _SlotAdamW | None = None
    while waiting or scheduler.lanes:
        group: list[Lane] = []
        outcome: tuple[int, list[float], list[bool]] | None = None
        try:
            if optimizer is None:
                optimizer = _SlotAdamW(slots, adapters.shape[1], network.device, network.ops)
            while waiting and optimizer.free:
                lane = waiting.popleft()
                lane.slot = optimizer.enter(adapters[lane.job])
                scheduler.add(lane)
            group = scheduler.next_group(more_to_come=bool(waiting))
            outcome = _step(network, optimizer, jobs, group, padded_steps)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if slots == 1 and len(group) <= 1:
                step = (group or waiting)[0].steps[0]
                raise torch.OutOfMemoryError(
                    f"{network.device} has too little memory for one adapter of {adapters.shape[1]:,} parameters and a step of"
                    f" {step.tokens} tokens: use a smaller batch_size, max_length or model, or free memory ({error})"
                ) from error
        if outcome is None:  # not in the except clause, where the traceback still holds the tensors of the failed step
            shortages += 1
            if len(group) > 1:
                sizes = [lane.steps[0].rows * lane.steps[0].length if padded_steps else lane.steps[0].tokens for lane in group]
                scheduler.max_tokens = max(1, sum(sizes) // 2)
            else:
                slots, optimizer = slots // 2, None
                for lane in scheduler.lanes[::-1]:
                    job, trained = jobs[lane.job], jobs[lane.job].report.tokens
                    job.report = FitReport(job.report.status, job.report.sequences)
                    waiting.appendleft(job.lane(lane.job))
                    if on_progress is not None:
                        on_progress(-trained)
                scheduler.clear()
            network.release()
            free_cached(network.device)
            continue
        assert optimizer is not None
        computed, losses, diverged = outcome
        padded += computed
        tokens = sum(lane.steps[0].tokens for lane in group)
        for lane, loss in zip(group, losses):
            report = jobs[lane.job].report
            report.losses.append(loss)
            report.steps += 1
            report.tokens += lane.steps[0].tokens
        finished = scheduler.advance(group)
        for lane, gone_wrong in zip(group, diverged):
            if gone_wrong or not math.isfinite(jobs[lane.job].report.losses[-1]):
                jobs[lane.job].report.status = FitStatus.DIVERGED
                if lane in finished:
                    finished.remove(lane)
                else:
                    scheduler.drop(lane)
                optimizer.leave(lane.slot)
        for lane in finished:
            weights = optimizer.leave(lane.slot).cpu()
            if bool((weights.abs() <= DIVERGED_WEIGHT).all()):  # also False for NaN
                adapters[lane.job] = weights
            else:
                jobs[lane.job].report.status = FitStatus.DIVERGED
        if on_progress is not None:
            on_progress(tokens)
    if shortages:
        _log.warning(
            "memory ran out on %s (times: %d): adapters were trained %d at a time, at most %d tokens in a step, which changes"
            " no result; fewer plans at once or a lower max_slots avoid it",
            *(network.device, shortages, slots, scheduler.max_tokens),
        )
    reports = [job.report for job in jobs]
    useful = sum(report.tokens for report in reports)
    return FitResult(adapters, reports, useful, padded, slots, scheduler.max_tokens)


def _step(
    network: Network, optimizer: _SlotAdamW, jobs: list[_Job], group: list[Lane], padded_steps: bool
) -> tuple[int, list[float], list[bool]]:
    """The next step of each lane of ``group``: tokens computed, losses, and which gradients were not finite.

    If memory runs out nothing has changed.
    """
    own = [jobs[lane.job] for lane in group]
    length = max(lane.steps[0].length for lane in group) if padded_steps else 0
    batch = _batch([(job, len(job.steps) - len(lane.steps)) for job, lane in zip(own, group)], length)
    slots = [lane.slot for lane in group]
    losses, grads = network.train_step(
        optimizer.weights, torch.tensor(slots).to(network.device, non_blocking=True), _to(batch, network.device)
    )
    values = losses.tolist()  # before the optimizer, which the device then works at while the next batch is made
    diverged = optimizer.step(slots, grads, [(job.plan, len(job.steps)) for job in own])
    return len(batch.tokens), values, diverged


class _SlotAdamW:
    """AdamW over slots ``(slots, numel)``, each slot with its own step count and settings."""

    def __init__(self, slots: int, numel: int, device: torch.device, ops: TorchOps) -> None:
        self.weights = torch.zeros(slots, numel, device=device)
        self.exp_avg = torch.zeros_like(self.weights)
        self.exp_avg_sq = torch.zeros_like(self.weights)
        self.taken = [0] * slots
        self.free = list(range(slots))[::-1]
        self.ops = ops

    def enter(self, weights: Tensor) -> int:
        slot = self.free.pop()
        self.weights[slot] = weights
        self.exp_avg[slot] = 0
        self.exp_avg_sq[slot] = 0
        self.taken[slot] = 0
        return slot

    def leave(self, slot: int) -> Tensor:
        """Free the slot; its weights stay readable until the next :meth:`enter`."""
        self.free.append(slot)
        return self.weights[slot]

    @torch.no_grad()
    def step(self, slots: list[int], grads: Tensor, plans: list[tuple[UpdatePlan, int]]) -> list[bool]:
        """One step of each slot with its row of ``grads``, clipped; returns which gradients were not finite.

        ``plans`` holds each slot's plan and its total number of steps. A slot whose gradient is not finite diverged: what
        becomes of its weights does not matter. If memory runs out no slot has changed.
        """
        norms = self.ops.grad_norms(grads)
        steps = []
        for slot, norm, (plan, total) in zip(slots, norms, plans):
            rate = plan.learning_rate_at(self.taken[slot], total)
            clip = min(1.0, plan.max_grad_norm / (norm + 1e-6))
            steps.append(AdamWStep(slot, self.taken[slot] + 1, clip, rate, plan.weight_decay))
        self.ops.adamw_(self.weights, self.exp_avg, self.exp_avg_sq, grads, steps)
        for slot in slots:
            self.taken[slot] += 1
        return [not math.isfinite(norm) for norm in norms]


def _batch(steps: list[tuple[_Job, int]], length: int) -> TrainBatch:
    """Step ``index`` of each job as one batch on the CPU, its sequences padded to ``length`` (0: as they are)."""
    tokens: list[int] = []
    lengths: list[int] = []
    group_lengths: list[int] = []
    positions: list[int] = []
    spare: list[int] = []
    ids: list[int] = []
    weights: list[float] = []
    groups: list[int] = []
    for group, (job, index) in enumerate(steps):
        sequences = [job.examples[i] for i in job.steps[index]]
        count = sum(len(example.ids) - example.first_label for example in sequences)
        before = len(tokens)
        for example in sequences:
            first, last = len(tokens), len(example.ids) - 1
            lengths.append(length or len(example.ids))
            positions += range(first + example.first_label - 1, first + last)
            spare += range(first + last, first + lengths[-1])
            spare += range(first, first + example.first_label - 1)
            ids += example.ids[example.first_label :]
            tokens += example.ids
            tokens += [0] * (lengths[-1] - last - 1)
        group_lengths.append(len(tokens) - before)
        weights += [1.0 / count] * count
        groups += [group] * count
    missing = MIN_LENGTH - len(ids) if length else 0
    for position in spare[: max(0, missing)]:  # unlabelled rows that make up the number and weigh nothing
        positions.append(position)
        ids.append(0)
        weights.append(0.0)
        groups.append(0)
    return TrainBatch(
        torch.tensor(tokens),
        lengths,
        group_lengths,
        torch.tensor(positions),
        torch.tensor(ids),
        torch.tensor(weights),
        torch.tensor(groups),
    )


def _to(batch: TrainBatch, device: torch.device) -> TrainBatch:
    if device.type == "cpu":
        return batch
    return TrainBatch(
        batch.tokens.to(device, non_blocking=True),
        batch.lengths,
        batch.group_lengths,
        *(
            tensor.to(device, non_blocking=True)
            for tensor in (batch.label_positions, batch.label_ids, batch.label_weights, batch.label_groups)
        ),
    )
