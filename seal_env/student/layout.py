"""The weights of an adapter, and their offsets in its flat vector.

PEFT itself decides what a ``LoraConfig`` adapts and how it is scaled: the configuration is applied to a copy of the model
on the meta device. An adapter is then one float32 vector: for each parent module in the model's order
(``...layers.0.self_attn``, ``...layers.0.mlp``, ...), the A matrices of its adapted linear layers, then their B matrices,
transposed so that all rows are long. Projections that share an input have adjacent A matrices, so that one product computes all
of them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_log = logging.getLogger(__name__)

# Options of peft.LoraConfig that the student supports; any other option must have its default value.
SUPPORTED_LORA_OPTIONS = frozenset({
    "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "rank_pattern", "alpha_pattern", "fan_in_fan_out",
})  # fmt: skip
# Parts of the name of a module that only some tokens pass through.
_EXPERTS = re.compile(r"(?!shared_).*experts?")
# Fields that describe the checkpoint and change nothing about training.
_DESCRIPTIVE_OPTIONS = frozenset({
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "runtime_config",
})  # fmt: skip


@dataclass(frozen=True)
class LoraTarget:
    """One adapted linear layer: ``y = W x + scaling * B (A x)`` with A ``(r, in)`` and B ``(out, r)``."""

    name: str
    in_features: int
    out_features: int
    r: int
    scaling: float
    a_offset: int
    b_offset: int

    @property
    def a_numel(self) -> int:
        return self.r * self.in_features

    @property
    def b_numel(self) -> int:
        return self.out_features * self.r

    def a(self, flat: Tensor) -> Tensor:
        """A of every adapter in ``flat: (n, numel)``, as a view ``(n, r, in)``."""
        return flat[:, self.a_offset : self.a_offset + self.a_numel].unflatten(1, (self.r, self.in_features))

    def b(self, flat: Tensor) -> Tensor:
        """B of every adapter in ``flat: (n, numel)``, as a view ``(n, out, r)``; it is stored transposed."""
        return self.b_t(flat).transpose(1, 2)

    def b_t(self, flat: Tensor) -> Tensor:
        """B of every adapter, transposed, as a view ``(n, r, out)`` whose rows are contiguous."""
        return flat[:, self.b_offset : self.b_offset + self.b_numel].unflatten(1, (self.r, self.out_features))


@dataclass(frozen=True)
class AdapterLayout:
    """The targets of one (model, LoraConfig), and the size ``numel`` of a flat adapter."""

    targets: tuple[LoraTarget, ...]
    numel: int
    lora: LoraConfig  # as PEFT resolved it

    @cached_property
    def by_name(self) -> dict[str, LoraTarget]:
        return {target.name: target for target in self.targets}

    def split(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """A ``(n, r, in)`` and transposed B ``(n, r, out)`` of every adapter in ``flat: (n, numel)``, by name of the target.

        These are views. Their gradients are joined by one operation, where those of single slices are added up at full size.
        """
        starts = sorted(offset for target in self.targets for offset in (target.a_offset, target.b_offset))
        parts = dict(zip(starts, flat.split([end - start for start, end in pairwise([*starts, self.numel])], dim=1)))
        return {
            target.name: (
                parts[target.a_offset].unflatten(1, (target.r, target.in_features)),
                parts[target.b_offset].unflatten(1, (target.r, target.out_features)),
            )
            for target in self.targets
        }

    def init(self, seeds: list[int]) -> Tensor:
        """Initial adapters ``(len(seeds), numel)`` as in PEFT: A Kaiming-uniform with ``a = sqrt(5)``, B zero."""
        flat = torch.zeros(len(seeds), self.numel)
        for row, seed in zip(flat, seeds):
            generator = torch.Generator().manual_seed(seed)
            for target in self.targets:
                bound = target.in_features**-0.5
                row[target.a_offset : target.a_offset + target.a_numel].uniform_(-bound, bound, generator=generator)
        return flat


def adapter_layout(model: PreTrainedModel, lora: LoraConfig) -> AdapterLayout:
    """The layout of the adapters that ``lora`` configures for ``model``.

    ``target_modules=None`` is PEFT's default for the architecture, ``"all-linear"`` are the linear layers of the text decoder
    without the head. Layers that only some tokens pass through (routed experts, their routers) and other towers (vision, audio)
    are never adapted.

    Raises:
        ValueError: an option of ``lora`` is not supported, the architecture has no default targets, or a target is not a linear
            layer inside the decoder; the message names it, and the names that this model has.
    """
    _check_options(lora)
    decoder, adaptable = _adaptable_layers(model)
    requested, lora = lora.target_modules, copy.deepcopy(lora)
    all_linear = isinstance(requested, str) and requested.lower() == "all-linear"
    lora.target_modules = set(adaptable) if all_linear else requested or _default_targets(model, adaptable, lora)
    try:
        layers, resolved = _adapted_layers(model, lora)
        if wrong := [name for name in layers if name not in adaptable and (name.startswith(decoder) or name == _head(model))]:
            raise ValueError(f"{wrong[0]!r} is not a linear layer inside the decoder that every token passes through")
        if not any(name in adaptable for name in layers):
            raise ValueError("none of them is inside the text decoder")
    except ValueError as error:
        accepted = _accepted(model, adaptable, lora)
        if not all_linear or not accepted or len(accepted) == len(adaptable):
            what_works = _what_works(model, accepted)
            raise ValueError(f"target_modules={requested!r}: {str(error).rstrip('.')}. {what_works}") from error
        return adapter_layout(model, _with_targets(lora, accepted))
    if outside := layers.keys() - set(adaptable):
        _log.info("%s: %d layers outside the text decoder are not adapted", type(model).__name__, len(outside))
        return adapter_layout(model, _with_targets(lora, [name for name in layers if name not in outside]))
    offset, targets = 0, []
    for _, group in groupby(layers.items(), key=lambda item: item[0].rpartition(".")[0]):
        members = [(name, layer.in_features, layer.out_features, layer.r["default"], layer) for name, layer in group]
        b_offset = offset + sum(r * in_features for _, in_features, _, r, _ in members)
        for name, in_features, out_features, r, layer in members:
            targets.append(LoraTarget(name, in_features, out_features, r, float(layer.scaling["default"]), offset, b_offset))
            offset += r * in_features
            b_offset += out_features * r
        offset = b_offset
    return AdapterLayout(tuple(targets), offset, resolved)


def _adapted_layers(model: PreTrainedModel, lora: LoraConfig) -> tuple[dict[str, LoraLayer], LoraConfig]:
    """The layers that PEFT adapts in a copy of ``model`` without weights, by name, and the configuration that PEFT resolved."""
    with torch.device("meta"):
        skeleton = type(model)(copy.deepcopy(model.config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's note that it sets fan_in_fan_out for GPT-2's Conv1D itself
        adapted = get_peft_model(skeleton, copy.deepcopy(lora))
    layers = {name: module for name, module in adapted.get_base_model().named_modules() if isinstance(module, LoraLayer)}
    resolved = adapted.peft_config["default"]
    resolved.target_parameters = resolved.target_parameters or None  # an empty set, for some mixtures of experts
    return layers, resolved


def _adaptable_layers(model: PreTrainedModel) -> tuple[str, list[str]]:
    """The prefix of all names in the text decoder, and the names of its linear layers that every token passes through."""
    decoder, head = model.get_decoder(), _head(model)
    names = (name for name, module in model.named_modules() if module is decoder and isinstance(module, PreTrainedModel))
    prefix = f"{name}." if (name := next(names, "")) else ""
    return prefix, [
        name
        for name, module in model.named_modules()
        if _is_linear(module)
        and name != head
        and name.startswith(prefix)
        and not any(_EXPERTS.fullmatch(part) for part in name.split("."))
    ]


@torch.no_grad()
def _is_linear(module: nn.Module) -> bool:
    """Whether the output is a vector for each input vector; a router may be a subclass of Linear that returns something
    else.
    """
    if type(module).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    if not isinstance(module, nn.Linear):
        return False
    try:
        output = module(module.weight.new_zeros(1, 2, module.in_features))
    except (RuntimeError, TypeError, ValueError):
        return False
    return isinstance(output, Tensor) and output.shape == (1, 2, module.out_features)


def _head(model: PreTrainedModel) -> str | None:
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), None)


def _default_targets(model: PreTrainedModel, adaptable: list[str], lora: LoraConfig) -> set[str]:
    """PEFT's default for the architecture."""
    for config in (model.config, model.config.get_text_config(decoder=True)):
        if names := TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(config.model_type):
            return set(names)
    raise ValueError(
        f"PEFT has no default target_modules for {type(model).__name__} (model_type {model.config.model_type!r})."
        f" {_what_works(model, _accepted(model, adaptable, lora))}"
    )


def _accepted(model: PreTrainedModel, adaptable: list[str], lora: LoraConfig) -> list[str]:
    """The layers of ``adaptable`` that PEFT adapts, and no others, when it is given their last names.

    For some architectures PEFT refuses a name, or also adapts the experts' ``gate_proj``.
    """
    accepted = []
    for last in dict.fromkeys(_last(name) for name in adaptable):
        names = [name for name in adaptable if _last(name) == last]
        try:
            layers, _ = _adapted_layers(model, _with_targets(lora, names))
        except ValueError:
            continue
        if layers.keys() <= set(names):
            accepted += names
    return accepted


def _with_targets(lora: LoraConfig, names: list[str]) -> LoraConfig:
    lora = copy.deepcopy(lora)
    lora.target_modules = set(names)
    return lora


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _what_works(model: PreTrainedModel, accepted: list[str]) -> str:
    names = list(dict.fromkeys(map(_last, accepted)))
    if not names:
        return f"{type(model).__name__} has no linear layer that could be adapted"
    return f'Use lora={{"target_modules": {json.dumps(names)}}}, or some of them, or "all-linear"'


def as_trained(lora: LoraConfig) -> LoraConfig:
    """The configuration of an adapter that was trained elsewhere, without the options that only matter in training.

    These are dropout and the initialization of weights, unless it also changed the base (``pissa``, ``olora``, ``corda``,
    ``loftq``, ``lora_ga``).
    """
    lora = copy.deepcopy(lora)
    lora.lora_dropout = 0.0
    if isinstance(lora.init_lora_weights, bool) or lora.init_lora_weights in ("gaussian", "orthogonal", "eva"):
        lora.init_lora_weights = True
        lora.eva_config = None
    return lora


def _check_options(lora: LoraConfig) -> None:
    defaults = LoraConfig()
    for option in dataclasses.fields(LoraConfig):
        if option.name in SUPPORTED_LORA_OPTIONS or option.name in _DESCRIPTIVE_OPTIONS:
            continue
        value, default = getattr(lora, option.name), getattr(defaults, option.name)
        if value != default:
            raise ValueError(
                f"LoraConfig({option.name}={value!r}) is not supported by the stacked inner loop: leave it at {default!r}."
                f" Supported options: {', '.join(sorted(SUPPORTED_LORA_OPTIONS))}"
            )
    for name in ("r", "lora_alpha"):
        if getattr(lora, name) <= 0:
            raise ValueError(f"LoraConfig({name}={getattr(lora, name)}) must be positive")
