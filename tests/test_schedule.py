"""The schedule decides when steps run, never which or in what order."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from seal_env.student.scheduler import Lane, Scheduler, StepShape

STEPS = st.builds(
    lambda rows, length: StepShape(rows, length, rows * length),
    st.integers(1, 3),
    st.integers(16, 400),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=12), min_size=1, max_size=12), st.booleans())
def test_every_lane_takes_its_own_steps_in_order(plans, more_to_come):
    scheduler = Scheduler(max_tokens=512, overhead_tokens=50, length_class=lambda length: length > 256)
    for i, plan in enumerate(plans):
        scheduler.add(Lane(i, slot=i, steps=deque(plan)))
    taken: list[list[StepShape]] = [[] for _ in plans]
    while scheduler.lanes:
        group = scheduler.next_group(more_to_come)
        steps = [lane.steps[0] for lane in group]
        assert len({id(lane) for lane in group}) == len(group) > 0
        assert len({(step.rows, step.length > 256) for step in steps}) == 1
        assert len(group) == 1 or len(group) * steps[0].rows * max(s.length for s in steps) <= 512
        for lane, step in zip(group, steps):
            taken[lane.job].append(step)
        scheduler.advance(group)
    assert taken == plans


def test_uneven_lengths_are_batched_with_little_padding():
    lengths = [20, 30, 40, 25, 180, 35, 22, 60]
    scheduler = Scheduler(max_tokens=768, overhead_tokens=110)
    for i in range(64):
        order = lengths[i % 8 :] + lengths[: i % 8]
        scheduler.add(Lane(i, slot=i, steps=deque(StepShape(1, n, n) for n in order * 3)))
    useful = padded = 0
    while scheduler.lanes:
        group = scheduler.next_group()
        useful += sum(lane.steps[0].tokens for lane in group)
        padded += len(group) * max(lane.steps[0].length for lane in group)
        scheduler.advance(group)
    assert useful == 64 * 3 * sum(lengths)
    assert useful / padded > 0.9  # in lock-step it would be 0.29
