"""Load a frozen base model and its tokenizer by name."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from seal_env.models import model_folder, model_name
from seal_env.models.gguf import load_gguf

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_HASHED_VALUES = 1 << 24  # of a weight at a time, to bound memory
_log = logging.getLogger(__name__)


def load_base(
    name: str, device: str | torch.device = "cpu", dtype: str = "float32", trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the causal LM ``name``: a named model (``seal-nano``, ``smollm2-135m``), a folder on disk, a GGUF file or a hub id.

    Weights are safetensors or GGUF only. Quantized weights of a GGUF file are loaded as ``dtype``.

    If ``name`` is a PEFT adapter (``adapter_config.json`` without a ``config.json``), it is merged, in float32, into its base
    model. The tokenizer is then the adapter's if it has one, else the base's.

    Raises:
        ValueError: there is no such model, weights are missing, unreadable or of another model (the message names the file or
            the weight), an adapter cannot be merged, or ``dtype`` or ``device`` is not available.
    """
    torch_dtype = check_dtype(dtype)
    target = check_device(device)
    model, tokenizer = _load(name, trust_remote_code, torch_dtype, ())
    return model.to(target), tokenizer


def adapter_base(folder: str | Path) -> str | None:
    """The base model of the PEFT adapter in ``folder``; None if there is no adapter, or it names no base."""
    config = Path(folder) / "adapter_config.json"
    if not config.is_file():
        return None
    recorded = str(json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
    return model_name(recorded) or recorded or None


def base_name(name: str) -> str:
    """The model that ``name`` is or was trained from: ``seal-nano`` for its folder, the base for an adapter's folder."""
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        name = model_name(name) or adapter_base(name) or name
    return name


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


@torch.no_grad()
def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over the names, shapes, dtypes and values of all weights of a model."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        for values in weight.detach().reshape(-1).split(_HASHED_VALUES):
            digest.update(values.contiguous().cpu().view(torch.uint8).numpy())
    return digest.hexdigest()


def _load(
    name: str, trust_remote_code: bool, dtype: torch.dtype, loading: tuple[str, ...]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model on the CPU; ``loading`` are the adapters that have it as their base."""
    folder = model_folder(name) or Path(name).expanduser()
    if folder.suffix == ".gguf":
        if not folder.is_file():
            raise ValueError(f"model {name!r}: there is no such GGUF file")
        return load_gguf(folder, dtype)
    if not folder.is_dir() and Path(name).is_absolute():
        raise ValueError(f"model {name!r}: there is no such folder; give a folder with a config.json or a hub id")
    source = str(folder) if folder.is_dir() else name
    try:
        adapter = find_adapter_config_file(source)
        if adapter and not Path(adapter).with_name("config.json").is_file():
            return _load_adapted(name, source, trust_remote_code, dtype, (*loading, source))
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32 if adapter else dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except _LoadingError:
        raise
    except SafetensorError as error:
        raise ValueError(f"model {name!r}: {_broken_file(folder)} is not a readable safetensors file ({error})") from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"model {name!r} could not be loaded ({_reason(error)}); give a folder that holds config.json, tokenizer and"
            " *.safetensors, or the hub id of a causal LM that is reachable or already in the local cache"
        ) from error
    _check_weights(name, model, info)
    if adapter:  # Transformers put it into the model
        _merge_layers(model)
    return model.to(dtype), tokenizer


class _LoadingError(ValueError):
    """An error whose message is complete."""


def _load_adapted(
    name: str, source: str, trust_remote_code: bool, dtype: torch.dtype, loading: tuple[str, ...]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base of the PEFT adapter ``source`` with the adapter merged into it."""
    config = PeftConfig.from_pretrained(source)
    base = adapter_base(source) if Path(source).is_dir() else config.base_model_name_or_path
    if not base:
        raise _LoadingError(f"model {name!r} is a PEFT adapter whose adapter_config.json names no base_model_name_or_path")
    if base in loading:
        raise _LoadingError(f"model {name!r} is a PEFT adapter whose base is itself: correct base_model_name_or_path")
    try:
        model, tokenizer = _load(base, trust_remote_code, torch.float32, loading)
    except ValueError as error:
        raise _LoadingError(f"model {name!r} is a PEFT adapter over {base!r}, and {error}") from error
    try:
        merged = PeftModel.from_pretrained(model, source, torch_device="cpu").merge_and_unload(safe_merge=True)
    except SafetensorError as error:
        raise _LoadingError(f"model {name!r}: {_broken_file(Path(source))} is not readable ({error})") from error
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise _LoadingError(
            f"model {name!r}: its {kind} adapter cannot be merged into {base!r} ({_reason(error)}); give a folder with a model"
        ) from error
    # An adapter that is trained on these weights must not name the base without this adapter.
    merged.config._name_or_path = merged.name_or_path = source
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError):
        _log.info("%s has no tokenizer: that of %s is used", source, base)
    return merged.to(dtype), tokenizer


def _merge_layers(model: PreTrainedModel) -> None:
    """Merge the adapter layers of ``model`` into the layers that they wrap."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
    model._hf_peft_config_loaded = False


def _check_weights(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Raise a ValueError if Transformers initialized weights that are not in the files."""
    source = f"model {name!r} ({type(model).__name__})"
    if missing := sorted(info.get("missing_keys") or ()):
        raise ValueError(
            f"{source}: its weight files lack {missing[0]!r} and {len(missing) - 1} more, which would be random: they belong to"
            " another model, or a part of them is missing"
        )
    if mismatched := sorted(map(str, info.get("mismatched_keys") or ())):
        raise ValueError(f"{source}: its weight files hold another shape than config.json says: {mismatched[0]}")
    if unexpected := sorted(info.get("unexpected_keys") or ()):
        _log.warning("%s: %d weights of its files are not used, such as %r", source, len(unexpected), unexpected[0])


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _broken_file(folder: Path) -> str:
    """The first weight file in ``folder`` that cannot be opened."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                file.keys()
        except (OSError, SafetensorError):
            return str(path)
    return str(folder)
