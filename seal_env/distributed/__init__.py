"""Updates on several workers, with the same results: processes of this machine, any executor, or Ray.

A worker holds a student and knows nothing of tasks, graders or API keys. It receives update requests and returns update results
(:mod:`seal_env.student.requests`). Every chunk of requests names the student and the version of its base weights, and a worker
that cannot provide them raises :class:`WorkerMismatch`. A result is a function of its request and that student, so it does not
matter which worker runs it, or how often.
"""

from seal_env.distributed.dispatcher import Dispatcher, chunked
from seal_env.distributed.lifetime import exit_with_parent
from seal_env.distributed.pools import EXECUTORS, ExecutorName, ExecutorPool, ProcessPool, WorkerPool, WorkersLost, shared_pool
from seal_env.distributed.worker import StudentSpec, WorkerMismatch, init_worker

__all__ = [
    "EXECUTORS",
    "Dispatcher",
    "ExecutorName",
    "ExecutorPool",
    "ProcessPool",
    "StudentSpec",
    "WorkerMismatch",
    "WorkerPool",
    "WorkersLost",
    "chunked",
    "exit_with_parent",
    "init_worker",
    "shared_pool",
]
