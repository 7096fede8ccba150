"""GRPO is TRL's: on the same edits, the same log-probabilities, advantages, loss and gradients as its GRPOTrainer."""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file

import agents.policy
from agents import GRPOConfig, Policy
from agents.grpo import accumulate_gradient, group_advantages
from agents.policy import Completion
from seal_env.student import Sampling, load_base
from seal_env.student.layout import adapter_layout

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed: pip install 'seal-env[trl]'"),
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing.:FutureWarning"),
]

LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
PROMPTS, WRITTEN = (5, 30, 12, 12, 3, 21, 9, 30), (16, 1, 9, 14, 5, 16, 2, 11)  # tokens
ADVANTAGES = torch.tensor([1.3, -0.7, 0.9, -1.1, 0.0, -0.4, -1.5, 0.6])
DRIFT = (0.35, -0.4, -0.3, 0.4, 0.2, -0.35, 0.05, 0.0)  # of each edit since it was written, in nats a token
CLOSE = 1e-5  # of the largest entry; both sum in float32, in other orders


@pytest.fixture(scope="module")
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def policy(model_path, generator):
    """A policy whose adapter is nowhere zero, so that every gradient says something."""
    policy = Policy.from_pretrained(model_path("llama"), copy.deepcopy(LORA), max_new_tokens=16)
    with torch.no_grad():
        policy.adapter.normal_(std=0.05, generator=generator)
    return policy


@pytest.fixture(scope="module")
def completions(generator):
    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, 258, (count,), generator=generator).tolist())

    return [Completion(ids(prompt), ids(written), "", "length") for prompt, written in zip(PROMPTS, WRITTEN)]


@pytest.fixture(scope="module")
def old(policy, completions, generator):
    """Log-probabilities from before the policy drifted: some edits have become likelier, others less likely."""
    now = policy.log_probs(completions)
    then = now - torch.tensor(DRIFT)[:, None] + 0.2 * torch.randn(now.shape, generator=generator)
    return then * padded(completions)["completion_mask"]


@pytest.fixture
def make(model_path, policy, tmp_path):
    """``make(reward, **options)``: TRL's trainer of the same base and adapter.

    By default TRL multiplies the KL term by the ratio (arXiv 2512.02556); this is not in GRPO's paper and is switched off.
    """
    from trl import GRPOConfig, GRPOTrainer

    policy.save(tmp_path / "policy")

    def make_trainer(reward=len, **options):
        base, tokenizer = load_base(model_path("llama"))
        options = {"max_completion_length": policy.max_new_tokens, "use_bias_correction_kl": False, **options}
        quiet = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none"}
        args = GRPOConfig(str(tmp_path / "out"), **quiet, **options)
        dataset = Dataset.from_dict({"prompt": ["Once"]})
        trainer = GRPOTrainer(base, reward, args, dataset, processing_class=tokenizer, peft_config=copy.deepcopy(LORA))
        set_peft_model_state_dict(trainer.model, load_file(tmp_path / "policy" / "adapter_model.safetensors"))
        return trainer

    return make_trainer


def padded(completions):
    """TRL's tensors: prompts padded on the left, completions on the right."""
    longest = max(len(c.prompt) for c in completions), max(len(c.ids) for c in completions)
    prompts = [[1] * (longest[0] - len(c.prompt)) + list(c.prompt) for c in completions]
    written = [list(c.ids) + [1] * (longest[1] - len(c.ids)) for c in completions]
    return {
        "prompt_ids": torch.tensor(prompts),
        "prompt_mask": torch.tensor([[0] * (longest[0] - len(c.prompt)) + [1] * len(c.prompt) for c in completions]),
        "completion_ids": torch.tensor(written),
        "completion_mask": torch.tensor([[1] * len(c.ids) + [0] * (longest[1] - len(c.ids)) for c in completions]),
    }


def score(trainer, completions):
    """TRL's log-probabilities and entropies ``(completions, time)``, zero where padded."""
    inputs = padded(completions)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    mask = inputs["completion_mask"]
    log_probs, entropies, *_ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, attention, mask.shape[1], compute_entropy=True
    )
    return log_probs.detach() * mask, entropies.detach() * mask


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE * theirs.abs().max().item())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_entropies_and_divergences_are_trls(make, policy, completions, monkeypatch, temperature):
    monkeypatch.setattr(policy, "sampling", Sampling(temperature=temperature))
    trainer = make(temperature=temperature)
    log_probs, entropies = score(trainer, completions)
    with trainer.model.disable_adapter():
        reference, _ = score(trainer, completions)
    (ours,) = policy.scores(completions)
    ours_reference = policy.log_probs(completions, reference=True)
    assert_close(ours.log_probs.detach(), log_probs)
    assert_close(ours.entropies.detach(), entropies)
    assert_close(ours_reference, reference)
    assert_close(k3(ours.log_probs.detach(), ours_reference), k3(log_probs, reference))


def k3(log_probs, reference):
    return (reference - log_probs).exp() - (reference - log_probs) - 1


@pytest.mark.parametrize("epsilon_high", [None, 0.28])
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
def test_loss_and_gradients_are_trls(make, policy, completions, old, monkeypatch, loss_type, level, beta, epsilon_high):
    monkeypatch.setitem(agents.policy._BATCH_TOKENS, "cpu", 100)  # ours goes over the edits in several batches
    options = {"loss_type": loss_type, "importance_sampling_level": level, "beta": beta, "epsilon_high": epsilon_high}
    trainer = make(**options)
    metrics = assert_same_gradient(trainer, policy, completions, old, GRPOConfig(**options))
    (lower,), (higher,) = (trainer._metrics["eval"][f"clip_ratio/{name}_mean"] for name in ("low", "high"))
    assert 0.1 < lower < 0.3 and 0.1 < higher < 0.3, "clipping is not active both ways"
    if level == "token":  # TRL counts sequences otherwise, not their tokens
        assert metrics["clipped"] == pytest.approx(lower + higher, rel=CLOSE)
    if beta:
        assert metrics["kl"] == pytest.approx(trainer._metrics["eval"]["kl"][0], rel=1e-4)
    assert metrics["entropy"] == pytest.approx(trainer._metrics["eval"]["entropy"][0], rel=CLOSE)


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_first_update_on_fresh_edits_is_trls(make, policy, completions, level, beta):
    options = {"loss_type": "bnpo", "importance_sampling_level": level, "beta": beta}
    assert_same_gradient(make(**options), policy, completions, None, GRPOConfig(**options))


def assert_same_gradient(trainer, policy, completions, old, config):
    """Compare the loss and its gradient with respect to every A and B; returns what ours reports."""
    reference = policy.log_probs(completions, reference=True) if config.beta else None
    inputs = {**padded(completions), "advantages": ADVANTAGES, "old_per_token_logps": old, "ref_per_token_logps": reference}
    trainer.model.eval()  # outside of its training loop TRL knows no gradient accumulation
    theirs = trainer._compute_loss(trainer.model, inputs)
    theirs.backward()
    policy.adapter.grad = None
    metrics, log_probs = accumulate_gradient(policy, completions, ADVANTAGES, old, reference, config)
    assert metrics["loss"] == pytest.approx(theirs.item(), rel=CLOSE)
    assert_close(log_probs, policy.log_probs(completions))
    parameters, compared = dict(trainer.model.named_parameters()), 0
    for target in adapter_layout(policy.model, copy.deepcopy(LORA)).targets:
        for part, of in (("lora_A", target.a), ("lora_B", target.b)):
            gradient = parameters[f"base_model.model.{target.name}.{part}.default.weight"].grad
            assert gradient.abs().max() > 0
            assert_close(of(policy.adapter.grad[None])[0], gradient)
            compared += gradient.numel()
    assert compared == policy.adapter.numel()
    return metrics


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_advantages_are_trls(make, scale_rewards):
    rewards = torch.tensor([[0.0, 0.2, 0.2, 1.0], [0.6, 0.6, 0.6, 0.6], [0.4, 0.8, 0.0, 0.2]], dtype=torch.float64)
    trainer = make(
        lambda completions, **_: rewards.flatten().tolist(),
        scale_rewards=scale_rewards,
        num_generations=4,
        per_device_train_batch_size=12,
        max_completion_length=2,
    )
    theirs = trainer._generate_and_score_completions([{"prompt": prompt} for prompt in "abc" for _ in range(4)])["advantages"]
    assert_close(group_advantages(rewards, scale_rewards).flatten().float(), theirs)
