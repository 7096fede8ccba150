"""Models with random weights, to measure speed and exactness without trained weights.

``shape:NAME`` is one of :data:`SHAPES`. The tokenizer has a token for each byte, 258 in all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

_QWEN = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rms_norm_eps": 1e-6}
_LLAMA_ROPE = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def model_config(
    kind: type[PretrainedConfig], vocabulary: int, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, **more: Any
) -> PretrainedConfig:
    """A configuration with tied embeddings and 4,096 positions, unless ``more`` says otherwise."""
    sizes = {"vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return kind(**{"max_position_embeddings": 4096, "tie_word_embeddings": True, **sizes, **more})


SHAPES: dict[str, PretrainedConfig] = {
    "llama-2m": model_config(LlamaConfig, 2048, 256, 768, 2, 4, 4),
    "llama-2m-deep": model_config(LlamaConfig, 2048, 192, 512, 4, 3, 3),
    "qwen2-3m": model_config(Qwen2Config, 2048, 256, 768, 4, 4, 2),
    "qwen2.5-0.5b": model_config(Qwen2Config, 151936, 896, 4864, 24, 14, 2, max_position_embeddings=32768, **_QWEN),
    "qwen2.5-7b": model_config(
        Qwen2Config, 152064, 3584, 18944, 28, 28, 4, max_position_embeddings=131072, tie_word_embeddings=False, **_QWEN
    ),
    "llama-3.2-1b": model_config(
        *(LlamaConfig, 128256, 2048, 8192, 16, 32, 8),
        head_dim=64,
        max_position_embeddings=131072,
        rope_parameters={**_LLAMA_ROPE, "original_max_position_embeddings": 8192},
        rms_norm_eps=1e-5,
    ),
}


def random_model(
    config: PretrainedConfig, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> PreTrainedModel:
    """A model of ``config`` with random weights, the same for the same seed and device."""
    torch.manual_seed(seed)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer with a token for every byte, ``<s>`` (0) and ``</s>`` (1)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def save_random_model(config: PretrainedConfig, folder: str | Path, seed: int = 0) -> None:
    """Save a random model and the byte tokenizer as a Hugging Face folder (safetensors)."""
    random_model(config, seed=seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def shape_config(name: str) -> PretrainedConfig:
    """The configuration of ``shape:NAME`` (with or without the prefix).

    Raises:
        ValueError: there is no such shape.
    """
    key = name.removeprefix("shape:")
    if key not in SHAPES:
        raise ValueError(f"unknown shape {name!r}; there are: {', '.join('shape:' + shape for shape in SHAPES)}")
    return SHAPES[key]
