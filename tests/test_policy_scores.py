"""The policy's scores are those of a plain forward pass of the model, however they are batched, and hold few logits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from tiny import ARCHITECTURES, COMMON, save_tiny
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import AutoModelForCausalLM

import agents.policy
import agents.token_scores
from agents import GRPOConfig, Policy
from agents.grpo import accumulate_gradient
from agents.policy import Completion
from seal_env.student import Sampling

ALL_LINEAR = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}
FIRST, SECOND, THIRD = tuple(range(20, 43)), tuple(range(60, 71)), (9,)
LENGTHS = [(FIRST, 7), (SECOND, 3), (FIRST, 1), (FIRST, 0), (FIRST, 12), (SECOND, 5), (FIRST, 7), (THIRD, 4), (SECOND, 0)]
COMPLETIONS = [
    Completion(prompt, tuple((7 * i + 31 * j) % 250 + 2 for j in range(length)), "", "length")
    for i, (prompt, length) in enumerate(LENGTHS)
]
CHUNK_TOKENS = 5
VOCABULARY = 258
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ARCHITECTURES["llama"],
    "llama-tied": ("llama", {**COMMON, "tie_word_embeddings": True}),
    "mistral-window": ("mistral", {**COMMON, "sliding_window": 8}),
    "gemma2": ARCHITECTURES["gemma2"],
    "cohere": ARCHITECTURES["cohere"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return {name: save_tiny(tmp_path_factory.mktemp(name), kind, **options) for name, (kind, options) in MODELS.items()}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of few tokens, and completions of one prompt in two sequences."""
    monkeypatch.setattr(agents.token_scores, "CHUNK_BYTES", 4 * VOCABULARY * CHUNK_TOKENS)
    monkeypatch.setattr(agents.policy, "_SHARED_TOKENS", 0)


def make(folder: str, lora: Any = None, temperature: float = 1.0, **options: Any) -> Policy:
    config = lora or LoraConfig(**ALL_LINEAR)
    policy = Policy.from_pretrained(folder, config, sampling=Sampling(temperature, 1.0), **options)
    with torch.no_grad():
        policy.adapter.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return policy


class Plain:
    """One forward pass a completion, in float64; ``gradient`` is that of the policy's parameters."""

    def __init__(self, policy: Policy, folder: str, tmp_path) -> None:
        self.policy = policy
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if not policy.all_weights:
            policy.save(tmp_path)
            model = PeftModel.from_pretrained(model, tmp_path, is_trainable=True)
        self.model = model.double().eval()

    def scores(self, completion: Completion) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and the head's input at the end of the prompt."""
        ids = torch.tensor([[*completion.prompt, *completion.ids]])
        hidden: list[Tensor] = []
        hook = self.model.get_output_embeddings().register_forward_pre_hook(lambda _, arguments: hidden.append(arguments[0]))
        logits = self.model(input_ids=ids, use_cache=False).logits[0]
        hook.remove()
        log_softmax = (logits / self.policy.sampling.temperature).log_softmax(-1)[len(completion.prompt) - 1 : -1]
        log_probs = log_softmax.gather(1, torch.tensor(completion.ids, dtype=torch.long)[:, None]).squeeze(1)
        return log_probs, -(log_softmax.exp() * log_softmax).sum(-1), hidden[0][0, len(completion.prompt) - 1]

    def gradient(self) -> Tensor:
        if self.policy.all_weights:
            return torch.cat([p.grad.flatten() for p in self.model.parameters()])
        out = torch.zeros(self.policy.adapter.shape, dtype=torch.float64)
        for target in self.policy._student.layout.targets:
            module = self.model.base_model.model.get_submodule(target.name)
            target.a(out[None])[0].copy_(module.lora_A["default"].weight.grad)
            target.b(out[None])[0].copy_(module.lora_B["default"].weight.grad)
        return out


def gradient(policy: Policy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


CASES = {
    "a group": ("llama", {}),
    "another temperature": ("llama", {"temperature": 0.6}),
    "all weights, tied": ("llama-tied", {"lora": "all"}),
    "all weights, another temperature": ("llama", {"lora": "all", "temperature": 1.7}),
    "gradient checkpointing": ("llama", {"gradient_checkpointing": True}),
    "soft-capped logits": ("gemma2", {}),
    "soft-capped logits, all weights": ("gemma2", {"lora": "all", "gradient_checkpointing": True}),
    "scaled logits": ("cohere", {"temperature": 0.6}),
    "sliding windows": ("mistral-window", {}),
}


@pytest.mark.parametrize("batch_tokens", [None, 60])
@pytest.mark.parametrize("case", CASES)
def test_scores_and_gradients_are_those_of_a_plain_forward_pass_in_float64(folder, tmp_path, case, batch_tokens):
    name, options = CASES[case]
    policy = make(folder[name], **options)
    plain = Plain(policy, folder[name], tmp_path)
    generator = torch.Generator().manual_seed(1)
    weights = {kind: torch.randn(len(COMPLETIONS), 12, generator=generator) for kind in ("log_probs", "entropies")}
    directions = torch.randn(len(COMPLETIONS), 32, generator=generator) / 10
    rows = []
    for scores in policy.scores(COMPLETIONS, batch_tokens=batch_tokens):
        time, loss = scores.mask.shape[1], (scores.hidden * directions[scores.rows]).sum()
        for kind, values in (("log_probs", scores.log_probs), ("entropies", scores.entropies)):
            loss = loss + (values * weights[kind][scores.rows, :time]).sum()
        for i, row in enumerate(scores.rows):
            length = len(COMPLETIONS[row].ids)
            log_probs, entropies, hidden = plain.scores(COMPLETIONS[row])
            torch.testing.assert_close(scores.log_probs[i, :length].double(), log_probs, rtol=0, atol=2e-5)
            torch.testing.assert_close(scores.entropies[i, :length].double(), entropies, rtol=0, atol=2e-5)
            torch.testing.assert_close(scores.hidden[i].double(), hidden, rtol=0, atol=2e-5)
            assert scores.mask[i].tolist() == [1.0] * length + [0.0] * (time - length)
            assert not scores.log_probs[i, length:].any() and not scores.entropies[i, length:].any()
            expected = (hidden * directions[row]).sum() + (log_probs * weights["log_probs"][row, :length]).sum()
            (expected + (entropies * weights["entropies"][row, :length]).sum()).backward()
        loss.backward()
        rows += scores.rows
    assert sorted(rows) == list(range(len(COMPLETIONS)))
    difference = gradient(policy) - plain.gradient()
    assert difference.norm() < 2e-5 * plain.gradient().norm()


@pytest.mark.parametrize(("name", "shared"), [("llama", True), ("mistral-window", False), ("gemma2", False)])
def test_a_common_prompt_is_computed_once_where_every_layer_attends_to_all_of_it(folder, name, shared):
    policy, tokens = make(folder[name]), []
    policy.model.get_input_embeddings().register_forward_hook(lambda _, arguments, __: tokens.append(arguments[0].numel()))
    completions = [Completion(FIRST, (5, 6, 7), "", "length")] * 3
    policy.log_probs(completions)
    assert tokens == [len(FIRST) + 9 if shared else 3 * (len(FIRST) + 3)]
    together, alone = policy.log_probs(COMPLETIONS), torch.cat([padded(policy.log_probs([c])) for c in COMPLETIONS])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def padded(row: Tensor) -> Tensor:
    return torch.nn.functional.pad(row, (0, 12 - row.shape[1]))


def test_eager_attention_gives_the_same_scores(folder):
    policy = make(folder["llama"])
    expected = policy.log_probs(COMPLETIONS)
    policy.model.set_attn_implementation("eager")
    torch.testing.assert_close(policy.log_probs(COMPLETIONS), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("batch_tokens", [10, 60, 200])
def test_batches_hold_no_more_tokens_than_allowed_unless_a_completion_does(folder, batch_tokens):
    policy, shapes = make(folder["llama"]), []
    policy.model.get_input_embeddings().register_forward_hook(lambda _, arguments, __: shapes.append(arguments[0].shape))
    with torch.no_grad():
        scores = list(policy.scores(COMPLETIONS, batch_tokens=batch_tokens))
    assert len(shapes) == len(scores) == {10: 9, 60: 3, 200: 1}[batch_tokens]
    assert all(shape.numel() <= batch_tokens or len(batch.rows) == 1 for shape, batch in zip(shapes, scores))


class Largest(TorchDispatchMode):
    """Records the most elements over the vocabulary of a tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        for tensor in tree_flatten(output)[0]:
            if isinstance(tensor, Tensor) and VOCABULARY in tensor.shape:
                self.elements = max(self.elements, tensor.numel())
        return output


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("entropy", [False, True])
def test_no_tensor_is_larger_than_the_logits_of_a_chunk(folder, name, entropy, monkeypatch):
    monkeypatch.setattr(agents.token_scores, "CHUNK_BYTES", 4 * VOCABULARY * 33)
    policy = make(folder[name])
    assert policy.model.lm_head.weight.shape[1] < 33 < sum(len(c.ids) for c in COMPLETIONS)
    with Largest() as largest:
        for scores in policy.scores(COMPLETIONS):
            (scores.log_probs.sum() + (scores.entropies.sum() if entropy else 0)).backward()
    assert largest.elements == VOCABULARY * 33


def test_grpo_has_no_backward_pass_for_edits_without_advantage(folder, monkeypatch):
    monkeypatch.setitem(agents.policy._BATCH_TOKENS, "cpu", 1)  # a batch for each completion
    policy, calls = make(folder["llama"]), []
    policy.adapter.register_hook(lambda gradient: calls.append(gradient))
    accumulate_gradient(policy, COMPLETIONS[:2], torch.zeros(2), None, None, GRPOConfig())
    assert not calls and policy.adapter.grad is not None and not policy.adapter.grad.any()
    accumulate_gradient(policy, COMPLETIONS[:2], torch.tensor([0.0, 1.0]), None, None, GRPOConfig())
    assert len(calls) == 1 and policy.adapter.grad.any()


def test_scoring_leaves_the_model_as_it_was(folder):
    policy = make(folder["llama"])
    before = copy.copy(vars(policy.model.model))
    for scores in policy.scores(COMPLETIONS):
        scores.log_probs.sum().backward()
    assert vars(policy.model.model).keys() == before.keys() and not policy.model._forward_hooks
    assert not policy.model.lm_head._forward_pre_hooks
