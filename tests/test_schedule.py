"""The scheduler chooses when steps run, never which steps or in what order."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from seal_env.student.scheduler import Scheduler, StepQueue, StepShape

STEPS = st.builds(
    lambda rows, length: StepShape(rows, length, rows * length),
    st.integers(1, 3),
    st.integers(16, 400),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=12), min_size=1, max_size=12), st.booleans())
def test_every_update_takes_its_own_steps_in_order(updates, more_to_come):
    scheduler = Scheduler(max_tokens=512, overhead_tokens=50, length_class=lambda length: length > 256)
    for i, update in enumerate(updates):
        scheduler.add(StepQueue(i, deque(update), slot=i))
    taken: list[list[StepShape]] = [[] for _ in updates]
    while scheduler.queues:
        batch = scheduler.next_batch(more_to_come)
        steps = [queue.steps[0] for queue in batch]
        assert len({id(queue) for queue in batch}) == len(batch) > 0
        assert len({(step.rows, step.length > 256) for step in steps}) == 1
        assert len(batch) == 1 or len(batch) * steps[0].rows * max(s.length for s in steps) <= 512
        for queue, step in zip(batch, steps):
            taken[queue.index].append(step)
        scheduler.advance(batch)
    assert taken == updates


def test_uneven_lengths_are_batched_with_little_padding():
    lengths = [20, 30, 40, 25, 180, 35, 22, 60]
    scheduler = Scheduler(max_tokens=768, overhead_tokens=110)
    for i in range(64):
        order = lengths[i % 8 :] + lengths[: i % 8]
        scheduler.add(StepQueue(i, deque(StepShape(1, n, n) for n in order * 3), slot=i))
    useful = padded = 0
    while scheduler.queues:
        batch = scheduler.next_batch()
        useful += sum(queue.steps[0].tokens for queue in batch)
        padded += len(batch) * max(queue.steps[0].length for queue in batch)
        scheduler.advance(batch)
    assert useful == 64 * 3 * sum(lengths)
    assert useful / padded > 0.9  # in lock-step it would be 0.29
