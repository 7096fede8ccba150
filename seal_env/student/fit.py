"""The inner loop of SEAL, for many updates at once.

Every adapter gets exactly the optimizer steps it would get alone: its own examples in its own order, its own optimizer state,
step count, learning-rate schedule and gradient clipping. Only *when* each step runs depends on the others
(:mod:`seal_env.student.scheduler`). If memory runs out, fewer updates run together: a failed step has changed nothing, and an
update that loses its slot begins again from its start.
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

from seal_env.optimizers import Optimizer, StepSettings
from seal_env.student.memory import available_bytes, free_cached, is_out_of_memory
from seal_env.student.network import Network, TrainBatch
from seal_env.student.ops import TorchOps
from seal_env.student.scheduler import Scheduler, StepQueue, StepShape
from seal_env.update import Update

_log = logging.getLogger(__name__)

# Where steps are padded, batches have at least this many tokens in a row and labels: fewer fall into matrix-vector kernels.
MIN_LENGTH = 16
# An update with a weight beyond this diverged.
DIVERGED_WEIGHT = 1e3
# Floats of adapters that take a step at a time with PyTorch, which needs several times their memory.
_STEP_NUMBERS = 1 << 26


class FitStatus(StrEnum):
    """How an update ended."""

    TRAINED = "trained"
    TRUNCATED = "truncated"  # trained, with at least one example cut to the update's or the model's length
    NOTHING_TO_TRAIN = "nothing_to_train"  # no example has a token to learn; the adapter is as it started
    OUT_OF_VOCABULARY = "out_of_vocabulary"  # a token that the model has no embedding for; the adapter is as it started
    DIVERGED = "diverged"  # a loss, gradient or weight left the finite range; the adapter is as it started

    @property
    def learnt(self) -> bool:
        """Whether the adapter was trained."""
        return self in (FitStatus.TRAINED, FitStatus.TRUNCATED)


@dataclass
class FitReport:
    """What happened in one update.

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
    """Result of :meth:`InnerLoop.run`.

    Attributes:
        adapters: ``(updates, numel)`` in float32, on the CPU.
        reports: one for each update.
        useful_tokens: tokens trained on, without padding.
        padded_tokens: tokens computed, with padding.
        slots: most adapters in training at once, at the end: fewer than allowed if memory ran out.
        step_tokens: most padded tokens in a batch, at the end.
    """

    adapters: Tensor
    reports: list[FitReport]
    useful_tokens: int
    padded_tokens: int
    slots: int
    step_tokens: int


@dataclass(frozen=True)
class EncodedExample:
    """Token ids and the index of the first one to learn (at least 1: nothing predicts the first token)."""

    ids: list[int]
    first_label: int


@dataclass
class EncodedUpdate:
    """An update with its examples tokenized.

    Attributes:
        update: its examples are not used.
        examples: the sequences with a token to learn.
        status: how the update ends if all goes well.
        optimizer: made from its config.
    """

    update: Update
    examples: list[EncodedExample]
    status: FitStatus
    optimizer: Optimizer

    def __post_init__(self) -> None:
        self.steps = self.update.steps(len(self.examples))
        if self.status.learnt and not self.steps:
            self.status = FitStatus.NOTHING_TO_TRAIN
        self.report = FitReport(self.status, sequences=len(self.examples) if self.steps else 0)

    @property
    def tokens(self) -> int:
        """Tokens to train on, over all epochs."""
        return self.update.config.epochs * sum(len(example.ids) for example in self.examples)

    @property
    def optimizer_key(self) -> tuple[object, object]:
        """Equal for updates that can share a batch."""
        return self.update.config.optimizer, self.update.config.optimizer_options

    def queue(self, index: int) -> StepQueue:
        """Its steps, for the scheduler."""
        shapes: deque[StepShape] = deque()
        for step in self.steps:
            lengths = [len(self.examples[i].ids) for i in step]
            shapes.append(StepShape(len(step), max(MIN_LENGTH, *lengths), sum(lengths)))
        return StepQueue(index, shapes)


class InnerLoop:
    """Trains one adapter for each update. It runs once.

    Args:
        network: the base model.
        updates: the work; their reports are filled in.
        start: initial adapters, ``(updates, numel)``.
        max_slots: most adapters in training at once; the others wait for one to finish.
        step_tokens: padded tokens in one batch, about.
        overhead_tokens: cost of starting a batch, in tokens (see :class:`Scheduler`).
        read_every: steps after which losses and norms are read. On a GPU each reading waits for all kernels that were launched;
            an update that diverged goes on until then, which changes no result.
        on_progress: called with the number of tokens trained since the last call.
    """

    def __init__(
        self,
        network: Network,
        updates: list[EncodedUpdate],
        start: Tensor,
        max_slots: int,
        step_tokens: int,
        overhead_tokens: int,
        read_every: int = 1,
        on_progress: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        self.network, self.updates, self.read_every, self.on_progress = network, updates, read_every, on_progress
        self.start = start.detach().float()
        # Finished adapters stay on the device if there is room, so that the host does not wait for them.
        roomy = 4 * start.numel() < available_bytes(network.device) // 6
        self.adapters = self.start.to(network.device if roomy else "cpu", copy=True)
        # Optimizer by optimizer, as a batch has one; and longest first: a long update that starts last runs alone at the end.
        keys = [update.optimizer_key for update in updates]
        queues = [update.queue(i) for i, update in enumerate(updates) if update.steps]
        queues.sort(key=lambda queue: (keys.index(keys[queue.index]), -queue.tokens - overhead_tokens * len(queue.steps)))
        self.waiting = deque(queues)
        padded = max((len(example.ids) for update in updates for example in update.examples), default=0) > network.ragged
        self.scheduler = Scheduler(step_tokens, overhead_tokens, network.length_class, padded=padded)
        self.max_slots = min(max_slots, len(queues))
        self.slots: _Slots | None = None
        self.padded_tokens = self.shortages = 0
        # Steps that ran and were not read yet: queues, tokens of each, losses and norms of gradients.
        self.unread: list[tuple[list[StepQueue], list[int], Tensor, Tensor]] = []

    def run(self) -> FitResult:
        """Take all steps of all updates.

        Raises:
            torch.OutOfMemoryError: a single step of a single adapter does not fit into memory.
        """
        while self.waiting or self.scheduler.queues:
            batch: list[StepQueue] = []
            completed = False
            try:
                self._fill()
                batch = self.scheduler.next_batch(more_to_come=bool(self.waiting))
                self._step(batch)
                completed = True
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.max_slots == 1 and len(batch) <= 1:
                    step = (batch or self.waiting)[0].steps[0]
                    raise torch.OutOfMemoryError(
                        f"{self.network.device} has too little memory for one adapter of {self.adapters.shape[1]:,} parameters"
                        f" and a step of {step.tokens} tokens: use a smaller batch_size, max_length or model, or free memory"
                        f" ({error})"
                    ) from error
            if not completed:  # not in the except clause, where the traceback still holds the tensors of the failed step
                self._make_room(batch)
        if self.shortages:
            _log.warning(
                "memory ran out on %s (times: %d): adapters were trained %d at a time, at most %d tokens in a step, which"
                " changes no result; fewer updates at once or a lower max_slots avoid it",
                *(self.network.device, self.shortages, self.max_slots, self.scheduler.max_tokens),
            )
        reports = [update.report for update in self.updates]
        for i, report in enumerate(reports):
            # Also where the weight is not finite.
            if report.status.learnt and not self.adapters[i].abs().amax().item() <= DIVERGED_WEIGHT:
                report.status = FitStatus.DIVERGED
            if report.status is FitStatus.DIVERGED:
                self.adapters[i] = self.start[i]
        useful = sum(report.tokens for report in reports)
        return FitResult(self.adapters.cpu(), reports, useful, self.padded_tokens, self.max_slots, self.scheduler.max_tokens)

    def _fill(self) -> None:
        """Give free slots to updates that wait, as long as they have the same optimizer."""
        if not self.scheduler.queues and self.waiting:
            update = self.updates[self.waiting[0].index]
            if self.slots is None or self.slots.optimizer_key != update.optimizer_key:
                self.slots = None  # free the memory before it is allocated again
                self.slots = _Slots(self.max_slots, self.adapters.shape[1], self.network.device, self.network.ops, update)
        slots = self.slots
        while slots and self.waiting and slots.free:
            queue = self.waiting[0]
            if self.updates[queue.index].optimizer_key != slots.optimizer_key:
                return
            queue.slot = slots.enter(self.start[queue.index])
            self.scheduler.add(self.waiting.popleft())

    def _step(self, queues: list[StepQueue]) -> None:
        """Take the next step of each of ``queues``. If memory runs out nothing has changed."""
        slots = self.slots
        assert slots is not None
        updates = [self.updates[queue.index] for queue in queues]
        length = max(queue.steps[0].length for queue in queues) if self.scheduler.padded else 0
        batch = _batch([(update, len(update.steps) - len(queue.steps)) for update, queue in zip(updates, queues)], length)
        rows = [queue.slot for queue in queues]
        device = self.network.device
        losses, grads = self.network.train_step(
            slots.weights, torch.tensor(rows).to(device, non_blocking=True), batch.to(device)
        )
        norms = slots.step(rows, grads, updates)
        tokens = [queue.steps[0].tokens for queue in queues]
        self.padded_tokens += len(batch.tokens)
        self.unread.append((queues, tokens, losses, norms))
        for queue in self.scheduler.advance(queues):
            self.adapters[queue.index] = slots.leave(queue.slot)
        self.on_progress(sum(tokens))
        if len(self.unread) >= self.read_every or not self.scheduler.queues:
            self._read()

    def _read(self) -> None:
        """Report the steps since the last reading; an update with a loss or norm that is not finite diverged, and leaves."""
        if not self.unread:
            return
        # Without an allocation on the device, as steps that ran cannot be undone.
        numbers = [pair for *_, losses, norms in self.unread for pair in zip(losses.tolist(), norms.tolist())]
        steps = [(queue, tokens) for queues, counts, *_ in self.unread for queue, tokens in zip(queues, counts)]
        self.unread.clear()
        running = {queue.index for queue in self.scheduler.queues}
        for (queue, tokens), loss_and_norm in zip(steps, numbers):
            report = self.updates[queue.index].report
            if report.status is FitStatus.DIVERGED:
                continue
            report.losses.append(loss_and_norm[0])
            report.steps += 1
            report.tokens += tokens
            if not all(map(math.isfinite, loss_and_norm)):
                report.status = FitStatus.DIVERGED
                if queue.index in running and self.slots is not None:
                    self.scheduler.drop(queue)
                    self.slots.leave(queue.slot)

    def _make_room(self, batch: list[StepQueue]) -> None:
        """After ``batch`` ran out of memory: fewer tokens in a batch, or else fewer slots."""
        self.shortages += 1
        if len(batch) > 1:
            steps = [queue.steps[0] for queue in batch]
            tokens = sum(step.rows * step.length if self.scheduler.padded else step.tokens for step in steps)
            self.scheduler.max_tokens = max(1, tokens // 2)
        else:
            self._read()
            self.max_slots, self.slots = self.max_slots // 2, None
            for queue in self.scheduler.queues[::-1]:  # updates in training begin again
                update = self.updates[queue.index]
                self.on_progress(-update.report.tokens)
                update.report = FitReport(update.report.status, update.report.sequences)
                self.waiting.appendleft(update.queue(queue.index))
            self.scheduler.clear()
        self.network.release()
        free_cached(self.network.device)


class _Slots:
    """Adapters in training, with their optimizer state: a row of each tensor is a slot, and each slot has its own step
    number.
    """

    def __init__(self, count: int, numel: int, device: torch.device, ops: TorchOps, update: EncodedUpdate) -> None:
        self.optimizer, self.optimizer_key, self.ops = update.optimizer, update.optimizer_key, ops
        self.weights = torch.zeros(count, numel, device=device)
        self.state = {name: torch.zeros_like(self.weights) for name in self.optimizer.tensors}
        self.state |= {name: torch.zeros(count, dtype=torch.float64, device=device) for name in self.optimizer.scalars}
        self.steps_taken = [0] * count
        self.free = list(range(count))[::-1]

    def enter(self, weights: Tensor) -> int:
        """Put an adapter into a free slot, with the state of a fresh optimizer."""
        slot = self.free.pop()
        self.weights[slot] = weights
        for tensor in self.state.values():
            tensor[slot] = 0
        self.steps_taken[slot] = 0
        return slot

    def leave(self, slot: int) -> Tensor:
        """Free the slot; its weights stay readable until the next :meth:`enter`."""
        self.free.append(slot)
        return self.weights[slot]

    @torch.no_grad()
    def step(self, slots: list[int], grads: Tensor, updates: list[EncodedUpdate]) -> Tensor:
        """One step of each slot, with its row of ``grads``, clipped; returns the norms of the gradients, on their device.

        A slot whose gradient is not finite diverged: its weights are not used again. If memory runs out no slot has changed.
        """
        configs = [update.update.config for update in updates]
        totals = [len(update.steps) for update in updates]
        taken = [self.steps_taken[slot] for slot in slots]
        rates = [config.learning_rate_at(step, total) for config, step, total in zip(configs, taken, totals)]
        largest, decays = [config.max_grad_norm for config in configs], [config.weight_decay for config in configs]
        integers = torch.tensor([slots, [step + 1 for step in taken]]).to(grads.device, non_blocking=True)
        doubles = torch.tensor([largest, rates, decays], dtype=torch.float64).to(grads.device, non_blocking=True)
        norms = self.ops.grad_norms(grads)
        clips = (doubles[0] / (norms + 1e-6)).clamp_(max=1.0)
        settings = StepSettings(integers[0], integers[1], clips, doubles[1], doubles[2])
        library = self.ops.library
        if library is None or not self.optimizer.compiled_step(library, self.weights, grads, self.state, settings):
            self._torch_step(grads, settings)
        for slot in slots:
            self.steps_taken[slot] += 1
        return norms

    def _torch_step(self, grads: Tensor, settings: StepSettings) -> None:
        """The step on copies of the slots, which are written back when nothing can fail any more.

        Many slots at once: on a GPU, launching kernels slot by slot would take longer than they run. The first part is the
        largest, so that memory that is enough for it is enough for the others.
        """
        rows = max(1, _STEP_NUMBERS // grads.shape[1])
        for part, *numbers in zip(grads.split(rows), *(tensor.split(rows) for tensor in settings)):
            own = StepSettings(*numbers)
            weights = self.weights.index_select(0, own.slots)
            state = {name: tensor.index_select(0, own.slots) for name, tensor in self.state.items()}
            self.optimizer.step(weights, part * own.clips.to(part.dtype)[:, None], state, own)
            for tensor, new in zip((self.weights, *self.state.values()), (weights, *state.values())):
                tensor.index_copy_(0, own.slots, new)


def _batch(steps: list[tuple[EncodedUpdate, int]], length: int) -> TrainBatch:
    """Step ``index`` of each update as one batch on the CPU, its sequences padded to ``length`` (0: as they are)."""
    tokens: list[int] = []
    lengths: list[int] = []
    group_lengths: list[int] = []
    positions: list[int] = []
    spare: list[int] = []
    ids: list[int] = []
    weights: list[float] = []
    groups: list[int] = []
    for group, (update, index) in enumerate(steps):
        examples = [update.examples[i] for i in update.steps[index]]
        count = sum(len(example.ids) - example.first_label for example in examples)
        before = len(tokens)
        for example in examples:
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
    # Unlabelled positions with weight 0, up to MIN_LENGTH labels.
    fill = spare[: max(0, MIN_LENGTH - len(ids))] if length else []
    return TrainBatch(
        torch.tensor(tokens),
        lengths,
        group_lengths,
        torch.tensor(positions + fill),
        torch.tensor(ids + [0] * len(fill)),
        torch.tensor(weights + [0.0] * len(fill)),
        torch.tensor(groups + [0] * len(fill)),
    )
