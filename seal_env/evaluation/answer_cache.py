"""Answers of an unchanged base model, kept on disk: every process would generate the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from seal_env._version import __version__
from seal_env.chat import Prompt
from seal_env.files import atomic_write, cache_folder
from seal_env.student import Student
from seal_env.student.loading import fingerprint
from seal_env.student.requests import GenerationConfig

# Smaller models answer about as fast as a file is read.
LEAST_PARAMETERS = 50_000_000


class AnswerCache:
    """The texts that a base model generates for prompts, in the user's cache.

    A file is named by everything that its texts depend on: the weights, how they are computed, the settings of the generation,
    the prompts, and the version of this package. Files can be deleted at any time.

    Args:
        student: its base must be as it was loaded.
        generation: how it answers.
    """

    def __init__(self, student: Student, generation: GenerationConfig) -> None:
        self._student = student
        self._settings = [generation.max_new_tokens, list(generation.stop)]

    @cached_property
    def _folder(self) -> Path:
        return cache_folder() / "answers" / _student_key(self._student)

    @staticmethod
    def suits(student: Student) -> bool:
        """Whether a cache for ``student`` is correct and saves time."""
        return student.base_version == 0 and student.model.num_parameters() >= LEAST_PARAMETERS

    def get(self, prompts: Sequence[Prompt]) -> tuple[str, ...] | None:
        """The texts for ``prompts``, or None if they are not in the cache."""
        try:
            texts = json.loads(self._path(prompts).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        valid = isinstance(texts, list) and len(texts) == len(prompts) and all(isinstance(text, str) for text in texts)
        return tuple(texts) if valid else None

    def put(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Keep the texts for ``prompts``; where the cache cannot be written they are not kept."""
        path = self._path(prompts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(list(texts)), encoding="utf-8")
        except OSError:
            pass

    def _path(self, prompts: Sequence[Prompt]) -> Path:
        named = [self._settings, [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]]
        return self._folder / f"{_digest(json.dumps(named))}.json"


# Fingerprints take a second for a large model. A change of a weight in place changes the sum of versions.
_fingerprints: WeakKeyDictionary[PreTrainedModel, tuple[int, str]] = WeakKeyDictionary()


def _student_key(student: Student) -> str:
    """Identifies the weights of a student's base and how they are computed."""
    network, model = student.network, student.model
    versions = sum(weight._version for weight in model.state_dict().values())
    if _fingerprints.get(model, (-1, ""))[0] != versions:
        _fingerprints[model] = (versions, fingerprint(model))
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    how = [type(network).__name__, network.ops.description, str(network.dtype), device, torch.__version__, __version__]
    return _digest("\n".join([_fingerprints[model][1], *how]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
