"""Load a frozen base model and its tokenizer by name."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seal_env.models import bundled_folder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_base(
    name: str, device: str | torch.device = "cpu", dtype: str = "float32", trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the causal LM ``name``: bundled (``seal-nano``), a folder on disk or a hub id. Weights are safetensors only.

    Raises:
        ValueError: no such model, no safetensors weights, unknown ``dtype`` or a device that this machine lacks.
    """
    torch_dtype = check_dtype(dtype)
    target = check_device(device)
    bundled = bundled_folder(name)
    if bundled is not None:
        name = str(bundled)
    if not Path(name).expanduser().is_dir() and Path(name).is_absolute():
        raise ValueError(f"model {name!r}: there is no such folder; give a folder with a config.json or a hub id")
    source = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch_dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"model {name!r} could not be loaded ({reason}); give a folder that holds config.json, tokenizer and"
            " *.safetensors, or the hub id of a causal LM that is reachable or already in the local cache"
        ) from error
    return model.to(target), tokenizer


def check_dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return DTYPES[dtype]


def check_device(device: str | torch.device) -> torch.device:
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is not one that torch knows; use 'cpu' or 'cuda'") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r}: torch sees no CUDA device here; use device='cpu'")
    return target
