"""The code that runs on a worker: load the student that a chunk names, keep it, and run the chunk's updates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers.utils import logging

from seal_env._version import __version__
from seal_env.errors import SealError
from seal_env.student import Student, load_base
from seal_env.student.loading import fingerprint
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult, run_updates

LoadWeights = Callable[[], Mapping[str, Tensor]]  # loads a state dict; it is sent to workers


class WorkerMismatch(SealError):
    """A worker cannot run a chunk: it has other base weights, a later version of them, or another version of seal-env."""


@dataclass(frozen=True)
class StudentSpec:
    """How a worker loads its student, and how it checks that it has the same one.

    Attributes:
        model: a named model, a hub id, or a folder or GGUF file that workers find at the same path.
        device: the worker's device.
        dtype: of the base model.
        trust_remote_code: see :func:`seal_env.student.load_base`.
        lora: options of ``peft.LoraConfig``.
        base: :func:`fingerprint` of the base weights.
        package: version of seal-env.
    """

    model: str
    device: str
    dtype: str
    trust_remote_code: bool
    lora: Mapping[str, Any]
    base: str
    package: str = __version__


@dataclass(frozen=True)
class BaseVersion:
    """A version of the base weights: as loaded (number 0), or after the ``number``-th change to a driver's student.

    Attributes:
        owner: id of the dispatcher whose student changed.
        number: :attr:`Student.base_version` of that student.
        load: loads the weights; None for number 0. Versions are compared without it.
    """

    owner: str = ""
    number: int = 0
    load: LoadWeights | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ChunkContext:
    """The student that a chunk of requests must run on; the seeds are in the requests."""

    spec: StudentSpec
    base: BaseVersion


class _Loaded(threading.local):  # an executor may have several threads, and a student runs one chunk at a time
    """The student of this thread and how it was loaded."""

    student: Student | None = None
    spec: StudentSpec | None = None
    base = BaseVersion()


_loaded = _Loaded()
_load_lock = threading.Lock()  # transformers loads one model at a time


def init_worker(threads: int) -> None:
    """Prepare a process that runs updates: set the number of torch's threads and disable progress bars of loading."""
    torch.set_num_threads(threads)
    logging.disable_progress_bar()


def run_chunk(context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig) -> list[UpdateResult]:
    """Run updates on the student that ``context`` names.

    Raises:
        WorkerMismatch: this worker cannot provide that student.
    """
    student = _load_student(context.spec)
    if context.base != _loaded.base:
        _load_base_version(student, context)
    return run_updates(student, requests, generation)


def _load_student(spec: StudentSpec) -> Student:
    if _loaded.student is None or _loaded.spec != spec:
        if spec.package != __version__:
            raise WorkerMismatch(
                f"this worker has seal-env {__version__}, and the driver {spec.package}: install the same version"
            )
        _loaded.student = None  # free the previous student first
        with _load_lock:
            model, tokenizer = load_base(spec.model, spec.device, spec.dtype, spec.trust_remote_code)
        if fingerprint(model) != spec.base:
            raise WorkerMismatch(f"{spec.model!r} has other weights on this worker than on the driver")
        _loaded.student, _loaded.spec = Student(model, tokenizer, LoraConfig(**spec.lora)), spec
        _loaded.base = BaseVersion()
    return _loaded.student


def _load_base_version(student: Student, context: ChunkContext) -> None:
    base, loaded, spec = context.base, _loaded.base, context.spec
    if base.owner == loaded.owner and base.number < loaded.number:
        raise WorkerMismatch(f"the chunk is for version {base.number} of the base, and this worker has version {loaded.number}")
    if base.load is None:
        with _load_lock:
            weights = load_base(spec.model, "cpu", spec.dtype, spec.trust_remote_code)[0].state_dict()
    else:
        weights = dict(base.load())
    student.load_base(weights)
    _loaded.base = base
