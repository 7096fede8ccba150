"""What runs on a worker: it makes the student that it is told of, keeps it, and does what is asked of it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from seal_env._version import __version__
from seal_env.errors import SealError
from seal_env.student import Student, load_base
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult, run_updates

_PIECE = 1 << 24  # values of a weight that are hashed at a time


class Refused(SealError):
    """A worker cannot do this as it is meant: it has another base, a later version of it, or another version of seal-env."""


class Weights(Protocol):
    """Base weights, wherever they wait to be fetched."""

    def load(self) -> Mapping[str, Tensor]:
        """The state dict."""


@dataclass(frozen=True)
class SavedWeights:
    """Base weights in a safetensors file on this machine."""

    path: Path

    def load(self) -> Mapping[str, Tensor]:
        return load_file(self.path)


@dataclass(frozen=True)
class Recipe:
    """How a worker makes its student, and what that must be.

    Attributes:
        model: a bundled name, a hub id, or a folder that workers find under the same path.
        device: of the worker.
        dtype: of the base.
        trust_remote_code: as in :func:`seal_env.student.load_base`.
        lora: options of ``peft.LoraConfig``.
        base: :func:`fingerprint` of the base weights.
        package: version of this package.
    """

    model: str
    device: str
    dtype: str
    trust_remote_code: bool
    lora: Mapping[str, Any]
    base: str
    package: str = __version__

    @cached_property
    def hash(self) -> str:
        """Of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=sorted).encode()).hexdigest()


@dataclass(frozen=True)
class BaseVersion:
    """Which weights the base has: those that were loaded (number 0), or the ``number``-th change to a driver's student.

    Attributes:
        owner: whose.
        number: counts its changes.
        weights: where they are; they are no part of what two versions are compared by.
    """

    owner: str = ""
    number: int = 0
    weights: Weights | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ChunkContext:
    """What a portion of work must be done with; the seeds are in the plans."""

    recipe: Recipe
    base: BaseVersion


@dataclass(frozen=True)
class Reply:
    """What was done, and with what: the hash of the recipe and the version of the base."""

    done: list[UpdateResult]
    settings: str
    base: BaseVersion


@dataclass
class _Held:
    """The student of this worker."""

    student: Student
    settings: str
    base: BaseVersion


_here = threading.local()  # an executor may have several threads, and a student does one thing at a time
_loading = threading.Lock()  # transformers makes one model at a time


def begin(threads: int) -> None:
    """How a process that works begins: with so many of torch's threads, and without bars of weights being loaded."""
    torch.set_num_threads(threads)
    logging.disable_progress_bar()


def do(context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig) -> Reply:
    """Do all of it with the student of the ticket.

    Raises:
        Refused: this worker cannot be, or no longer is, what the ticket says.
    """
    held = _held(context.recipe)
    _change_base(held, context)
    return Reply(run_updates(held.student, requests, generation), held.settings, held.base)


def _held(recipe: Recipe) -> _Held:
    held: _Held | None = getattr(_here, "held", None)
    if held is None or held.settings != recipe.hash:
        if recipe.package != __version__:
            raise Refused(f"this worker has seal-env {__version__}, and what sent the work {recipe.package}: install the same")
        _here.held = None  # first let go of the student that there is
        with _loading:
            model, tokenizer = load_base(recipe.model, recipe.device, recipe.dtype, recipe.trust_remote_code)
        if fingerprint(model) != recipe.base:
            raise Refused(f"{recipe.model!r} on this worker has other weights than where the work was sent from")
        held = _here.held = _Held(Student(model, tokenizer, LoraConfig(**recipe.lora)), recipe.hash, BaseVersion())
    return held


def _change_base(held: _Held, context: ChunkContext) -> None:
    base, recipe = context.base, context.recipe
    if base == held.base:
        return
    if base.owner == held.base.owner and base.number < held.base.number:
        raise Refused(f"this is for version {base.number} of the base, and this worker is at {held.base.number} by now")
    if base.weights is None:
        with _loading:
            weights = load_base(recipe.model, "cpu", recipe.dtype, recipe.trust_remote_code)[0].state_dict()
    else:
        weights = dict(base.weights.load())
    held.student.load_base(weights)
    held.base = base


@torch.no_grad()
def fingerprint(model: PreTrainedModel) -> str:
    """A hash of a base: names, shapes, types and all values of all weights."""
    found = hashlib.sha256()
    for name, weight in model.state_dict().items():
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        for piece in weight.detach().reshape(-1).split(_PIECE):
            found.update(piece.contiguous().cpu().view(torch.uint8).numpy())
    return found.hexdigest()
