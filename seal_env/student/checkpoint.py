"""Save and load an adapter as a PEFT checkpoint folder (``adapter_config.json`` and ``adapter_model.safetensors``)."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seal_env.student.layout import AdapterLayout

_PREFIX = "base_model.model."


def save_adapter(layout: AdapterLayout, adapter: Tensor, folder: str | os.PathLike[str], base_model: str) -> None:
    """Save ``adapter: (numel,)`` so that ``PeftModel.from_pretrained(base, folder)`` loads it."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    flat = adapter.detach().to("cpu", torch.float32)[None]
    tensors = {}
    for t in layout.targets:
        tensors[f"{_PREFIX}{t.name}.lora_A.weight"] = t.a(flat)[0].contiguous()
        tensors[f"{_PREFIX}{t.name}.lora_B.weight"] = t.b(flat)[0].contiguous()
    config = copy.deepcopy(layout.lora)
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    config.task_type = "CAUSAL_LM"
    # Each file is written atomically.
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as temporary:
        save_file(tensors, Path(temporary) / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(temporary)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            os.replace(Path(temporary) / name, target / name)


def load_adapter(layout: AdapterLayout, folder: str | os.PathLike[str]) -> Tensor:
    """Load a PEFT LoRA checkpoint with the same targets, ranks and scalings as ``layout``, as ``(numel,)`` float32.

    Raises:
        FileNotFoundError: the folder has no PEFT checkpoint.
        ValueError: it is not a LoRA, or its targets, ranks or scaling differ; the message names the difference.
    """
    source = Path(folder)
    weights = source / "adapter_model.safetensors"
    if not (weights.is_file() and (source / "adapter_config.json").is_file()):
        raise FileNotFoundError(f"{source} holds no PEFT adapter (adapter_config.json and adapter_model.safetensors)")
    config = PeftConfig.from_pretrained(str(source))
    if not isinstance(config, LoraConfig):
        raise ValueError(f"{source} holds a {config.peft_type} adapter; only LoRA can be loaded")
    for option in ("lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"):
        theirs, ours = getattr(config, option), getattr(layout.lora, option)
        if theirs != ours:
            raise ValueError(f"{source} was trained with {option}={theirs!r}, this student uses {ours!r}")
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is not a readable safetensors file ({error})") from error
    expected = {}
    for t in layout.targets:
        expected[f"{_PREFIX}{t.name}.lora_A.weight"] = (t.a, (t.r, t.in_features))
        expected[f"{_PREFIX}{t.name}.lora_B.weight"] = (t.b, (t.out_features, t.r))
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        which = f"lacks {missing[0]}" if missing else f"also adapts {extra[0]}"
        raise ValueError(f"{source} {which}: its target modules are not this student's")
    flat = torch.empty(1, layout.numel)
    for name, (view, shape) in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{source}: {name} has shape {tuple(tensors[name].shape)}, this student needs {shape}")
        view(flat)[0].copy_(tensors[name])
    return flat[0]
