"""Carry out many update plans at once: the inner loop of SEAL, for all adapters together.

Every adapter gets exactly the optimizer steps it would get alone: its own examples in its own order, its own AdamW state,
step count, learning-rate schedule and gradient clipping. Only *when* each step runs is decided together
(:mod:`seal_env.student.scheduler`). Where memory runs out, fewer of them run together: a step that failed has changed nothing,
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

from seal_env.student.memory import available_bytes, free_cached, is_out_of_memory
from seal_env.student.network import Network, TrainBatch
from seal_env.student.ops import AdamWSteps, TorchOps
from seal_env.student.scheduler import Lane, Scheduler, StepShape
from seal_env.update import UpdatePlan

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
    """What :class:`InnerLoop` returns.

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


class InnerLoop:
    """Trains one adapter a plan, from ``start: (plans, numel)``: make one and :meth:`run` it.

    Args:
        examples: of each plan, tokenized; sequences without a token to learn are left out.
        truncated: whether any example of the plan was cut.
        max_slots: adapters in training at once; others wait for one to finish.
        step_tokens: padded tokens in one batch, about.
        overhead_tokens: what starting a batch costs, in tokens (see :class:`Scheduler`).
        read_every: steps after which losses and norms are read. On a GPU each reading waits for all that was launched, so that
            it has nothing to do in the meantime; a plan that diverged goes on until then, which changes nothing.
        on_progress: called with the number of tokens trained since the last call.
    """

    def __init__(
        self,
        network: Network,
        plans: list[UpdatePlan],
        examples: list[list[EncodedExample]],
        truncated: list[bool],
        start: Tensor,
        max_slots: int,
        step_tokens: int,
        overhead_tokens: int,
        read_every: int = 1,
        on_progress: Callable[[int], object] | None = None,
    ) -> None:
        self.network, self.read_every, self.on_progress = network, read_every, on_progress
        self.start = start.detach().float()
        # Finished adapters stay on the device as long as there is room, so that none of them is waited for.
        roomy = 4 * start.numel() < available_bytes(network.device) // 6
        self.adapters = self.start.to(network.device if roomy else "cpu", copy=True)
        self.jobs: list[_Job] = []
        for plan, sequences, cut in zip(plans, examples, truncated):
            steps = plan.steps(len(sequences))
            status = FitStatus.NOTHING_TO_TRAIN if not steps else FitStatus.TRUNCATED if cut else FitStatus.TRAINED
            self.jobs.append(_Job(plan, sequences, steps, FitReport(status, sequences=len(sequences) if steps else 0)))
        # Longest first: a long plan that starts last runs alone at the end.
        lanes = [job.lane(i) for i, job in enumerate(self.jobs) if job.steps]
        lanes.sort(key=lambda lane: -sum(step.tokens + overhead_tokens for step in lane.steps))
        self.waiting = deque(lanes)
        self.padded = max((len(e.ids) for job in self.jobs for e in job.examples), default=0) > network.ragged
        self.scheduler = Scheduler(step_tokens, overhead_tokens, network.length_class, padded=self.padded)
        self.slots = min(max_slots, len(lanes))
        self.optimizer: _SlotAdamW | None = None
        self.padded_tokens = self.shortages = 0
        # Steps whose outcome is not known yet: lanes, tokens of each, losses and norms of gradients.
        self.unread: list[tuple[list[Lane], list[int], Tensor, Tensor]] = []

    def run(self) -> FitResult:
        """All steps of all plans."""
        while self.waiting or self.scheduler.lanes:
            group: list[Lane] = []
            done = False
            try:
                self._fill()
                group = self.scheduler.next_group(more_to_come=bool(self.waiting))
                self._step(group)
                done = True
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.slots == 1 and len(group) <= 1:
                    step = (group or self.waiting)[0].steps[0]
                    raise torch.OutOfMemoryError(
                        f"{self.network.device} has too little memory for one adapter of {self.adapters.shape[1]:,} parameters"
                        f" and a step of {step.tokens} tokens: use a smaller batch_size, max_length or model, or free memory"
                        f" ({error})"
                    ) from error
            if not done:  # not in the except clause, where the traceback still holds the tensors of the failed step
                self._make_room(group)
        if self.shortages:
            _log.warning(
                "memory ran out on %s (times: %d): adapters were trained %d at a time, at most %d tokens in a step, which"
                " changes no result; fewer plans at once or a lower max_slots avoid it",
                *(self.network.device, self.shortages, self.slots, self.scheduler.max_tokens),
            )
        for i in _too_large(self.adapters, [i for i, job in enumerate(self.jobs) if job.report.status.learnt]):
            self.jobs[i].report.status = FitStatus.DIVERGED
        for i, job in enumerate(self.jobs):
            if job.report.status is FitStatus.DIVERGED:
                self.adapters[i] = self.start[i]
        reports = [job.report for job in self.jobs]
        useful = sum(report.tokens for report in reports)
        return FitResult(self.adapters.cpu(), reports, useful, self.padded_tokens, self.slots, self.scheduler.max_tokens)

    def _fill(self) -> None:
        """Let plans that wait enter free slots."""
        if self.optimizer is None:
            self.optimizer = _SlotAdamW(self.slots, self.adapters.shape[1], self.network.device, self.network.ops)
        while self.waiting and self.optimizer.free:
            lane = self.waiting.popleft()
            lane.slot = self.optimizer.enter(self.start[lane.job])
            self.scheduler.add(lane)

    def _step(self, group: list[Lane]) -> None:
        """The next step of each lane of ``group``. If memory runs out nothing has changed."""
        optimizer = self.optimizer
        assert optimizer is not None
        own = [self.jobs[lane.job] for lane in group]
        length = max(lane.steps[0].length for lane in group) if self.padded else 0
        batch = _batch([(job, len(job.steps) - len(lane.steps)) for job, lane in zip(own, group)], length)
        slots = [lane.slot for lane in group]
        losses, grads = self.network.train_step(
            optimizer.weights,
            torch.tensor(slots).to(self.network.device, non_blocking=True),
            _to(batch, self.network.device),
        )
        norms = optimizer.step(slots, grads, [(job.plan, len(job.steps)) for job in own])
        tokens = [lane.steps[0].tokens for lane in group]
        self.padded_tokens += len(batch.tokens)
        self.unread.append((group, tokens, losses, norms))
        for lane in self.scheduler.advance(group):
            self.adapters[lane.job] = optimizer.leave(lane.slot)
        if self.on_progress is not None:
            self.on_progress(sum(tokens))
        if len(self.unread) >= self.read_every or not self.scheduler.lanes:
            self._read()

    def _read(self) -> None:
        """Report the steps since the last reading; lanes of which one was not finite diverged, and leave."""
        if not self.unread:
            return
        figures = torch.cat([torch.stack([losses.double(), norms]) for *_, losses, norms in self.unread], dim=1).T.tolist()
        taken = [(lane, tokens) for lanes, counts, *_ in self.unread for lane, tokens in zip(lanes, counts)]
        self.unread.clear()
        flying = {lane.job for lane in self.scheduler.lanes}
        for (lane, tokens), figure in zip(taken, figures):
            report = self.jobs[lane.job].report
            if report.status is FitStatus.DIVERGED:
                continue
            report.losses.append(figure[0])
            report.steps += 1
            report.tokens += tokens
            if not all(map(math.isfinite, figure)):
                report.status = FitStatus.DIVERGED
                if lane.job in flying and self.optimizer is not None:
                    self.scheduler.drop(lane)
                    self.optimizer.leave(lane.slot)

    def _make_room(self, group: list[Lane]) -> None:
        """After a step of ``group`` that memory ran out in: fewer tokens in a step, or else fewer slots."""
        self.shortages += 1
        if len(group) > 1:
            steps = [lane.steps[0] for lane in group]
            self.scheduler.max_tokens = max(1, sum(s.rows * s.length if self.padded else s.tokens for s in steps) // 2)
        else:
            self._read()
            self.slots, self.optimizer = self.slots // 2, None
            for lane in self.scheduler.lanes[::-1]:  # plans in flight begin again
                job = self.jobs[lane.job]
                if self.on_progress is not None:
                    self.on_progress(-job.report.tokens)
                job.report = FitReport(job.report.status, job.report.sequences)
                self.waiting.appendleft(job.lane(lane.job))
            self.scheduler.clear()
        self.network.release()
        free_cached(self.network.device)


def _too_large(adapters: Tensor, rows: list[int]) -> list[int]:
    """Those of ``rows`` with a weight that is no adapter's any more, or that is not finite."""
    if not rows:
        return []
    largest = torch.stack([adapters[i].abs().amax() for i in rows]).tolist()
    return [i for i, weight in zip(rows, largest) if not weight <= DIVERGED_WEIGHT]


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
    def step(self, slots: list[int], grads: Tensor, plans: list[tuple[UpdatePlan, int]]) -> Tensor:
        """One step of each slot with its row of ``grads``, clipped; returns the norms of the gradients, on their device.

        ``plans`` holds each slot's plan and its total number of steps. A slot whose gradient is not finite diverged: what
        becomes of its weights does not matter. If memory runs out no slot has changed.
        """
        rates = [plan.learning_rate_at(self.taken[slot], total) for slot, (plan, total) in zip(slots, plans)]
        numbers = [self.taken[slot] + 1 for slot in slots]
        most, decays = [plan.max_grad_norm for plan, _ in plans], [plan.weight_decay for plan, _ in plans]
        integers = torch.tensor([slots, numbers]).to(grads.device, non_blocking=True)
        doubles = torch.tensor([most, rates, decays], dtype=torch.float64).to(grads.device, non_blocking=True)
        norms = self.ops.grad_norms(grads)
        clips = (doubles[0] / (norms + 1e-6)).clamp_(max=1.0)
        steps = AdamWSteps(integers[0], integers[1], clips, doubles[1], doubles[2])
        self.ops.adamw_(self.weights, self.exp_avg, self.exp_avg_sq, grads, steps)
        for slot in slots:
            self.taken[slot] += 1
        return norms


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
