"""A model that is named is the model that is loaded: adapters are merged, and files that do not fit are named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model
from tiny import COMMON, GPT, HEADS, save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from agents.saved import open_policy
from benchmarks.measurements.shapes import byte_tokenizer
from seal_env import Student
from seal_env.student import load_base, native
from seal_env.student.loading import fingerprint

TOKENS = torch.tensor([[5, 60, 70, 80, 90]])
KIND: dict[str, dict[str, object]] = {"qwen2": COMMON, "qwen3": HEADS}  # with and without a network for stacked adapters


def logits(model: PreTrainedModel | PeftModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


def plain(folder: str | Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def save_adapter(base: PreTrainedModel, config: PeftConfig, folder: Path) -> Tensor:
    """A trained adapter in ``folder``, as PEFT writes it; returns what the adapted model says."""
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "modules_to_save" not in name:
                parameter.normal_(0, 0.5)
            elif parameter.requires_grad:
                parameter.mul_(1.5)
    model.save_pretrained(folder)
    return logits(model)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    paths: dict[str, str] = {}

    def of(kind: str) -> str:
        if kind not in paths:
            paths[kind] = save_tiny(tmp_path_factory.mktemp(kind), kind, **KIND[kind])
        return paths[kind]

    return of


LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@pytest.mark.parametrize("kind", KIND)
@pytest.mark.parametrize(
    "config",
    [
        LORA,
        LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1, use_rslora=True, task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules=["v_proj"], use_dora=True, task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"], task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM"),
        IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
    ],
    ids=["lora", "rslora", "dora", "modules_to_save", "pissa", "ia3"],
)
def test_an_adapters_folder_is_the_adapted_model(base, tmp_path, kind, config):
    expected = save_adapter(plain(base(kind)), config, tmp_path)
    assert (expected - logits(plain(base(kind)))).abs().max() > 0.1
    model, tokenizer = load_base(str(tmp_path))
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    assert tokenizer("Otrar")["input_ids"] == byte_tokenizer()("Otrar")["input_ids"]
    student = Student.from_pretrained(str(tmp_path), LoraConfig(r=2, target_modules="all-linear"))
    log_probs = student.network.token_log_probs(student.zero(), [0], TOKENS)
    wanted = expected.log_softmax(-1)[:, :-1].gather(2, TOKENS[:, 1:, None]).squeeze(2)
    torch.testing.assert_close(log_probs, wanted, rtol=0, atol=1e-4)


def test_a_model_with_an_adapter_beside_it_is_what_transformers_makes_of_it(base, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(base("qwen2"), folder)
    save_adapter(plain(base("qwen2")), LORA, folder)
    model, _ = load_base(str(folder))
    torch.testing.assert_close(logits(model), logits(plain(folder)), rtol=0, atol=1e-4)
    assert not any("lora" in name for name, _ in model.named_modules())


def test_an_adapter_over_an_adapter_is_both(base, tmp_path):
    save_adapter(plain(base("qwen2")), LORA, tmp_path / "first")
    first, _ = load_base(str(tmp_path / "first"))
    expected = save_adapter(first, LoraConfig(r=2, target_modules=["down_proj"], task_type="CAUSAL_LM"), tmp_path / "second")
    torch.testing.assert_close(logits(load_base(str(tmp_path / "second"))[0]), expected, rtol=0, atol=1e-4)
    # What a student of it saves names what it was trained over, and not the bare base.
    student = Student.from_pretrained(str(tmp_path / "first"), LoraConfig(r=2, target_modules=["q_proj"]))
    student.save_adapter(student.fresh([0])[0], tmp_path / "third")
    recorded = json.loads((tmp_path / "third" / "adapter_config.json").read_text())
    assert recorded["base_model_name_or_path"] == str(tmp_path / "first")


def test_adapters_that_are_no_weights_or_have_no_base_are_refused(base, tmp_path):
    save_adapter(plain(base("qwen2")), PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), tmp_path / "prompt")
    with pytest.raises(ValueError, match="PROMPT_TUNING adapter cannot be merged"):
        load_base(str(tmp_path / "prompt"))
    save_adapter(plain(base("qwen2")), LORA, tmp_path / "lora")
    config = tmp_path / "lora" / "adapter_config.json"
    recorded = json.loads(config.read_text())
    for name, message in (
        ("", "names no base_model_name_or_path"),
        (str(tmp_path / "lora"), "whose base is itself"),
        (str(tmp_path / "gone"), "no such folder"),
    ):
        config.write_text(json.dumps({**recorded, "base_model_name_or_path": name}))
        with pytest.raises(ValueError, match=message):
            load_base(str(tmp_path / "lora"))
    config.write_text(json.dumps(recorded))
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is not"):
        load_base(str(tmp_path / "lora"))


@pytest.fixture
def broken(base, tmp_path) -> Path:
    return Path(shutil.copytree(base("qwen2"), tmp_path / "broken"))


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    config.pop("layer_types", None)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("size", [0, 40, 2000, -100], ids=["empty", "a pointer's length", "half a header", "half"])
def test_half_a_weight_file_is_named(broken, size):
    weights = broken / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:size])
    with pytest.raises(ValueError, match=r"broken/model\.safetensors is not a readable safetensors file"):
        load_base(str(broken))


def test_a_file_that_git_lfs_did_not_fetch_is_named(broken):
    (broken / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    with pytest.raises(ValueError, match=r"broken/model\.safetensors is not a readable safetensors file"):
        load_base(str(broken))


def test_weights_that_are_anothers_or_miss_a_part_are_refused(broken, tmp_path, caplog):
    change_config(broken, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"lack 'model\.layers\.2\..*would be random"):
        load_base(str(broken))
    change_config(broken, num_hidden_layers=1)
    with caplog.at_level(logging.WARNING):
        load_base(str(broken))
    assert "weights of its files are not used, such as 'model.layers.1." in caplog.text
    change_config(broken, num_hidden_layers=2, intermediate_size=128)
    with pytest.raises(ValueError, match=r"another shape than config\.json says.*mlp\.down_proj"):
        load_base(str(broken))
    change_config(broken, intermediate_size=64)
    other = save_tiny(tmp_path / "other", "gpt2", **GPT)
    shutil.copy(Path(other) / "model.safetensors", broken)
    with pytest.raises(ValueError, match=r"lack 'lm_head\.weight' and \d+ more"):
        load_base(str(broken))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_files_that_are_no_json_are_an_error_of_the_model(broken, name):
    (broken / name).write_text("{")
    with pytest.raises(ValueError, match="broken' could not be loaded"):
        load_base(str(broken))


# Adapters that were trained elsewhere, as policies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"lora_dropout": 0.05},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"init_lora_weights": "orthogonal", "lora_dropout": 0.3},
        {"use_rslora": True, "target_modules": "all-linear"},
        {"rank_pattern": {"v_proj": 2}},
        {"layers_to_transform": [1]},
    ],
)
def test_adapters_trained_elsewhere_open_as_policies(base, tmp_path, options):
    config = LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **options})
    expected = save_adapter(plain(base("qwen2")), config, tmp_path).log_softmax(-1)
    policy = open_policy(tmp_path)
    with torch.no_grad():
        policy._student.network.token_log_probs(policy.adapter[None], [0], TOKENS)
        ours = policy._student.network.token_log_probs(policy.adapter[None].detach(), [0], TOKENS)
    torch.testing.assert_close(ours, expected[:, :-1].gather(2, TOKENS[:, 1:, None]).squeeze(2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"modules_to_save": ["lm_head"]}])
def test_adapters_that_are_more_than_a_lora_over_their_base_are_refused_by_name(base, tmp_path, options):
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **options)
    save_adapter(plain(base("qwen2")), config, tmp_path)
    with pytest.raises(ValueError, match=next(iter(options))):
        open_policy(tmp_path)


# Nothing silent ----------------------------------------------------------------------------------------------------------


def test_a_fingerprint_covers_every_value(base):
    model, _ = load_base(base("qwen2"))
    before = fingerprint(model)
    weight = model.model.layers[1].mlp.up_proj.weight
    for index in ((0, 1), (63, 31)):
        kept = weight[index].item()
        with torch.no_grad():
            weight[index] = torch.nextafter(weight[index], torch.tensor(1e9))
            assert fingerprint(model) != before
            weight[index] = kept
    assert fingerprint(model) == before
    assert fingerprint(model.to(torch.bfloat16)) != before


@pytest.fixture
def fresh_library():
    """As in a process that has not looked for the kernels and has said nothing yet."""
    native.compile_library.cache_clear()
    native._warn_once.cache_clear()
    yield
    native.compile_library.cache_clear()
    native._warn_once.cache_clear()


def test_kernels_that_do_not_compile_are_logged_once(base, monkeypatch, tmp_path, caplog, fresh_library):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'kernels.c: no vector maths here' >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not isinstance(Student.from_pretrained(base("qwen2")).network.ops, native.NativeOps)
    (line,) = [record.message for record in caplog.records if "kernels" in record.message]
    assert "ended with 3: kernels.c: no vector maths here" in line


def test_no_compiler_and_a_slower_dtype_are_logged(base, monkeypatch, tmp_path, caplog, fresh_library):
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        Student.from_pretrained(base("qwen2"))
        Student.from_pretrained(base("qwen2"), dtype="bfloat16")
    assert "there is no C compiler" in caplog.text
    assert "bfloat16 on the CPU runs on PyTorch's operations" in caplog.text


def test_a_c_library_without_mallopt_is_logged(monkeypatch, caplog):
    from seal_env.student import memory

    def missing(name: str) -> None:
        raise OSError(f"{name}: no such library")

    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    memory.keep_freed_memory.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not memory.keep_freed_memory()
    memory.keep_freed_memory.cache_clear()
    assert "freed memory cannot be kept" in caplog.text
