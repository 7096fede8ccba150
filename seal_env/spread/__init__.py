"""Rewards on many workers, with the same numbers: processes of this machine, any executor, or Ray.

A worker holds a student and knows nothing of tasks, exams or keys: it gets plans and prompts, and gives back what was written
(:mod:`seal_env.work`). What is sent says which student with which base weights must do it, and a worker that has another
refuses; an outcome is a function of all that, so that whoever does it, and how often, changes nothing.
"""

from seal_env.spread.crew import Borrowed, Crew, Processes, WorkersLost
from seal_env.spread.lifeline import end_with_parent
from seal_env.spread.schedule import chunked
from seal_env.spread.shared import EXECUTORS, ExecutorName, shared_crew
from seal_env.spread.spread import Spread
from seal_env.spread.worker import Recipe, Refused, begin, fingerprint

__all__ = [
    "EXECUTORS",
    "Borrowed",
    "Crew",
    "ExecutorName",
    "Processes",
    "Recipe",
    "Refused",
    "Spread",
    "WorkersLost",
    "begin",
    "chunked",
    "end_with_parent",
    "fingerprint",
    "shared_crew",
]
