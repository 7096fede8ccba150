"""Who does what, and when: small portions, the longest first, pulled by whoever is free.

A portion is as large as is good for a student, which fits several updates at a time, and no larger than a part of each worker's
fair share of what is left, so that all end at about the same time (guided self-scheduling, Polychronopoulos and Kuck 1987).
``python -m benchmarks.measurements.scale`` simulates it beside other schedules; its constants were chosen there.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 64  # in a portion: enough to fill a student's batches
LEAST = 4  # a student is slow at fewer, so that a portion may be a whole fair share to have as many
SHARES = 2  # portions that a fair share is otherwise split into


def chunked(
    costs: Sequence[float], workers: int, *, most: int = MOST, least: int = LEAST, shares: float = SHARES
) -> list[list[int]]:
    """Portions of what costs this much each, as indices, in the order in which they are to be begun.

    Args:
        costs: of each, in any unit.
        workers: how many will share them.
        most: in a portion.
        least: in a portion, unless they cost more than what is left divided by ``workers``.
        shares: of these, of what is left divided by ``workers``, is a larger portion one.
    """
    order = sorted(range(len(costs)), key=lambda i: -costs[i])
    left, start, found = float(sum(costs)), 0, list[list[int]]()
    least = max(1, min(least, len(order) // max(1, workers)))
    while start < len(order):
        fair, end, cost = left / workers, start + 1, costs[order[start]]
        while end < len(order) and end - start < most:
            more = cost + costs[order[end]]
            if more > (fair if end - start < least else fair / shares):
                break
            end, cost = end + 1, more
        found.append(order[start:end])
        start, left = end, left - cost
    return found
