"""Which weights an adapter has, and where they lie in its flat vector.

PEFT itself decides what a ``LoraConfig`` adapts and how it is scaled: the configuration is applied to a copy of the model
on the meta device and the result is read off. An adapter is then one float32 vector: for each parent module in the model's
order (``...layers.0.self_attn``, ``...layers.0.mlp``, ...), the A matrices of its adapted linear layers, then their B
matrices, transposed so that all rows are long. Projections that share an input therefore have neighbouring A matrices, which
lets one product serve them all.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

# What of peft.LoraConfig the student carries out; any other option must be left at its default.
SUPPORTED_LORA_OPTIONS = frozenset(
    [
        "r",
        "lora_alpha",
        "use_rslora",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "fan_in_fan_out",
    ]
)
# Fields that describe the checkpoint and change nothing about training.
_DESCRIPTIVE_OPTIONS = frozenset(
    [
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "runtime_config",
    ]
)


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
    """The targets of one (model, LoraConfig) and their places in a flat adapter of ``numel`` floats."""

    targets: tuple[LoraTarget, ...]
    numel: int
    lora: LoraConfig  # as PEFT resolved it

    @cached_property
    def by_name(self) -> dict[str, LoraTarget]:
        return {target.name: target for target in self.targets}

    def init(self, seeds: list[int]) -> Tensor:
        """Fresh adapters ``(len(seeds), numel)`` as PEFT starts them: A Kaiming-uniform with ``a = sqrt(5)``, B zero."""
        flat = torch.zeros(len(seeds), self.numel)
        for row, seed in zip(flat, seeds):
            generator = torch.Generator().manual_seed(seed)
            for target in self.targets:
                bound = target.in_features**-0.5
                row[target.a_offset : target.a_offset + target.a_numel].uniform_(-bound, bound, generator=generator)
        return flat


def adapter_layout(config: PretrainedConfig, lora: LoraConfig) -> AdapterLayout:
    """Find what ``lora`` adapts in the causal LM that ``config`` describes.

    Raises:
        ValueError: an option of ``lora`` that the student does not carry out, or a target that is not a linear layer
            inside the decoder; the option or the module is named.
    """
    _check_options(lora)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    head = skeleton.get_output_embeddings()
    head_name = next((name for name, module in skeleton.named_modules() if module is head), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's note that it sets fan_in_fan_out for GPT-2's Conv1D itself
        adapted = get_peft_model(skeleton, copy.deepcopy(lora))
    found = []
    for name, module in adapted.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if not isinstance(module.get_base_layer(), (nn.Linear, Conv1D)) or name == head_name:
            raise ValueError(
                f"target_modules={lora.target_modules!r} reaches {name!r}, which is not a linear layer inside the decoder;"
                " name linear projections such as ['q_proj', 'v_proj'], or use 'all-linear'"
            )
        found.append((name, module.in_features, module.out_features, module.r["default"], module.scaling["default"]))
    offset, targets = 0, []
    for _, group in groupby(found, key=lambda item: item[0].rpartition(".")[0]):
        members = list(group)
        b_offset = offset + sum(r * in_features for _, in_features, _, r, _ in members)
        for name, in_features, out_features, r, scaling in members:
            targets.append(LoraTarget(name, in_features, out_features, r, float(scaling), offset, b_offset))
            offset += r * in_features
            b_offset += out_features * r
        offset = b_offset
    return AdapterLayout(tuple(targets), offset, adapted.peft_config["default"])


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
