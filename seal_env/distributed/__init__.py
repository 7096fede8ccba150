"""Rewards on many workers, with the same numbers: processes of this machine, any executor, or Ray.

A worker holds a student and knows nothing of tasks, exams or keys: it gets updates and prompts, and gives back what was written
(:mod:`seal_env.student.requests`). What is sent says which student with which base weights must do it, and a worker that has
another refuses; an outcome is a function of all that, so that whoever does it, and how often, changes nothing.
"""

from seal_env.distributed.chunks import chunked
from seal_env.distributed.dispatcher import Dispatcher
from seal_env.distributed.lifeline import end_with_parent
from seal_env.distributed.pools import ExecutorPool, ProcessPool, WorkerPool, WorkersLost
from seal_env.distributed.shared_pools import EXECUTORS, ExecutorName, shared_pool
from seal_env.distributed.worker import Recipe, Refused, begin, fingerprint

__all__ = [
    "EXECUTORS",
    "Dispatcher",
    "ExecutorName",
    "ExecutorPool",
    "ProcessPool",
    "Recipe",
    "Refused",
    "WorkerPool",
    "WorkersLost",
    "begin",
    "chunked",
    "end_with_parent",
    "fingerprint",
    "shared_pool",
]
