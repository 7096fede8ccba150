"""Agents on a tiny random Llama: the contract, selection as the authors recorded it, and learning that is real."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import agents
from agents import AGENTS, GRPO, PPO, GRPOConfig, Policy, ReSTEM, ReSTEMConfig, ScoredEdit, evaluate, get_agent
from agents.base import rollout_metrics
from agents.callbacks import Checkpoint, Evaluate, LogEdits, LogRounds, StopEarly, drop_lines, latest
from agents.grpo import group_advantages
from agents.policy import Completion
from agents.rest_em import SELECTIONS, by_task
from seal_env.student import Sampling
from seal_env.tasks import Question, Task
from seal_env.tasks.almanac import Almanac
from tests.shared import RUNS, needs_runs
from tests.toy import LORA, SMALL, Curve, make_toy, share_of_letters


@pytest.fixture
def make(model_path):
    """``make(num_envs)``: an environment with the toy reward and a policy over the same tiny model."""

    def build(num_envs: int = 8, reward=share_of_letters, model: str = "llama", **options):
        return make_toy(model_path(model), num_envs, reward, **options)

    return build


REST_EM = {"contexts": 4, "samples": 8, "learning_rate": 3e-2, "epochs": 3, "batch_size": 4}
GRPO_ = {"contexts": 4, "num_generations": 8, "learning_rate": 2e-2}
LEARNERS = [(ReSTEM, REST_EM), (GRPO, GRPO_)]


@pytest.mark.parametrize(
    ("agent_type", "config", "rounds", "least"),
    [
        (ReSTEM, {**REST_EM, "selection": "quantile", "learning_rate": 5e-2, "epochs": 10, "batch_size": 8}, 6, 0.06),
        (GRPO, {**GRPO_, "learning_rate": 3e-2}, 9, 0.15),
    ],
)
def test_a_toy_reward_is_learnt_and_a_shuffled_one_is_not(make, agent_type, config, rounds, least):
    env, policy = make(32, model="toy")
    curve = Curve()
    agent_type(env, policy, seed=1, **config).learn(32 * rounds, curve)
    assert np.mean(curve["reward"][-3:]) > curve["reward"][0] + least, curve["reward"]

    rng = np.random.default_rng(0)
    env, policy = make(32, reward=lambda edit: rng.random(), model="toy")
    agent = agent_type(env, policy, seed=1, **config).learn(32 * rounds)
    texts = agent.predict({"instruction": ["Go on:"] * 32})
    assert np.mean([share_of_letters(text) for text in texts]) < curve["reward"][0] + least


@pytest.mark.parametrize(("agent_type", "config"), LEARNERS)
@pytest.mark.parametrize("self_adapting", [False, True])
def test_a_resumed_run_ends_as_an_unbroken_one(make, tmp_path, agent_type, config, self_adapting):
    def lines(folder):
        return [folder.joinpath(name).read_text() for name in ("edits.jsonl", "eval.jsonl")]

    def watchers(folder, env):
        return [LogEdits(folder / "edits.jsonl"), Evaluate(env, [0, 1], every=32, path=folder / "eval.jsonl")]

    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    held_out, _ = make(2, reward=None)
    env, policy = make(8, reward=None)
    agent_type(env, policy, seed=3, self_adapting=self_adapting, **config).learn(64, watchers(unbroken, held_out))

    held_out, _ = make(2, reward=None)
    env, policy = make(8, reward=None)
    agent = agent_type(env, policy, seed=3, self_adapting=self_adapting, **config)
    agent.learn(32, [*watchers(broken, held_out), Checkpoint(broken / "checkpoints", every=1)])
    predicted = agent.predict({"instruction": ["Go on:"]}, seed=5)
    with (broken / "edits.jsonl").open("a") as file:  # killed in the middle of a line of the second round
        file.write(json.dumps({"round": 1, "edit": 32}) + '\n{"round": 1, "ed')

    held_out, _ = make(2, reward=None)
    env, policy = make(8, reward=None)
    resumed = agent_type.load(latest(broken / "checkpoints"), env, policy)
    assert resumed.predict({"instruction": ["Go on:"]}, seed=5) == predicted
    resumed.learn(64, watchers(broken, held_out))
    assert lines(broken) == lines(unbroken)
    assert resumed.edits == 64 and sorted(path.name for path in (broken / "checkpoints").iterdir()) == ["round-00001"]


def test_an_agent_need_not_be_evaluated_before_it_learns(make, tmp_path):
    held_out, _ = make(2, reward=None)
    env, policy = make(8, reward=None)
    watcher = Evaluate(held_out, [0, 1], every=32, path=tmp_path / "eval.jsonl", start=False)
    ReSTEM(env, policy, seed=3, **REST_EM).learn(64, watcher)
    assert [edits for edits, _ in watcher.history] == [32, 64]
    assert [json.loads(line)["edits"] for line in (tmp_path / "eval.jsonl").read_text().splitlines()] == [32, 32, 64, 64]


def test_the_policy_is_a_peft_adapter_after_any_number_of_merges(make, model_path, tmp_path):
    env, policy = make(32)
    ReSTEM(env, policy, seed=1, **REST_EM).learn(64)
    with torch.no_grad():
        policy.adapter.normal_(std=0.05)  # and one that is not merged
    policy.save(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(model_path("llama"))
    peft = PeftModel.from_pretrained(base, str(tmp_path))
    assert peft.peft_config["default"].r == 3 * LORA.r
    written = policy.sample(["Once upon a time"] * 4, [1, 2, 3, 4])
    ours = policy.log_probs(written)
    for row, completion in zip(ours, written):
        ids = torch.tensor([[*completion.prompt, *completion.ids]])
        log_softmax = torch.log_softmax(peft(ids).logits[0, :-1], -1)
        theirs = log_softmax.gather(1, ids[0, 1:, None])[len(completion.prompt) - 1 :, 0]
        torch.testing.assert_close(row[: len(theirs)], theirs.detach(), rtol=0, atol=2e-4)
    merged = policy.merged_weights()
    base = AutoModelForCausalLM.from_pretrained(model_path("llama"))
    base.load_state_dict(merged)
    with torch.no_grad():
        torch.testing.assert_close(base(ids).logits, peft(ids).logits, rtol=0, atol=2e-4)


@pytest.mark.parametrize("options", [{}, {"lora": "all"}, {"gradient_checkpointing": True}])
def test_gradients_are_those_of_the_log_probabilities(make, options):
    _, policy = make(1, reward=None, **options)
    completions = policy.sample(["One", "A much longer prompt than that"], [1, 2])
    with torch.no_grad():
        if not policy.all_weights:
            policy.adapter.normal_(std=0.05)
    for scores in policy.scores(completions):
        scores.log_probs.sum().backward()
    parameter = policy.parameters()[0]
    slope, direction = parameter.grad.clone(), torch.randn_like(parameter)
    values = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            parameter += step * direction
            values.append(policy.log_probs(completions).double().sum().item())
            parameter -= step * direction
    assert (values[0] - values[1]) / 2e-3 == pytest.approx((slope * direction).sum().item(), rel=0.05, abs=0.05)


def test_the_reference_is_the_model_before_its_adapter(make):
    for lora in (LORA, "all"):
        _, policy = make(1, reward=None, lora=lora)
        completions = policy.sample(["Once"], [3])
        before = policy.log_probs(completions)
        with torch.no_grad():
            policy.parameters()[0].add_(0.1)
        torch.testing.assert_close(policy.log_probs(completions, reference=True), before)
        assert not torch.allclose(policy.log_probs(completions), before)


def test_an_edit_is_scored_as_likely_as_it_was_drawn(make):
    """At temperature 1 and with all tokens, samples come as often as their log-probabilities say."""
    _, policy = make(1, reward=None)
    policy.sampling, policy.max_new_tokens = Sampling(2.0, 1.0), 1
    written = policy.sample(["Once"] * 4000, list(range(4000)))
    often = {ids: count / 4000 for ids, count in Counter(c.ids for c in written).items()}
    for completion in {c.ids: c for c in written}.values():
        expected = policy.log_probs([completion]).exp().item()
        assert often[completion.ids] == pytest.approx(expected, abs=4.5 * (expected / 4000) ** 0.5 + 1e-3)


# Selection and advantages -----------------------------------------------------------------------------------------------


@needs_runs
@pytest.mark.parametrize("name", ["", "_prompt-rewrite"])
def test_best_of_k_keeps_the_rows_that_the_authors_kept(name):
    run = json.loads((RUNS / "train" / f"rank_iter0{name}.json").read_text())
    lines = (RUNS / "selection" / f"sft_best1of5_iter0{name}.jsonl").read_text().splitlines()
    edits = [
        scored_edit(completion["stats"]["adapter_mean"], task=i, text=completion["text"], instruction=article["prompt"])
        for i, article in enumerate(run["articles"])
        for completion in article["completions"]
    ]
    kept = {(edit.instruction, edit.edit) for edit in SELECTIONS["best"](edits, 0.0)}
    assert kept == {(row["prompt"], row["completion"]) for row in map(json.loads, lines)} and len(kept) == 50


def scored_edit(
    reward: float, task: int = 0, text: str = "", instruction: str = "", scores=(0.5,), gain: float = 0.0
) -> ScoredEdit:
    info = {"gain": gain, "scores": scores, "questions": (None,) * 5, "fit_status": "trained"}
    return ScoredEdit(task, instruction, Completion((0,), (1,), text, "eos"), reward, info)


def test_the_other_rules_keep_what_they_say():
    rewards = [0.1, 0.9, 0.5, 0.6, 0.2, 0.3, 0.5, 0.4]
    edits = [scored_edit(reward, task=i // 4, gain=reward - 0.5) for i, reward in enumerate(rewards)]
    assert [edit.reward for edit in SELECTIONS["positive"](edits, 0.0)] == [0.9, 0.6]
    assert [edit.reward for edit in SELECTIONS["quantile"](edits, 0.75)] == [0.9, 0.6]
    assert SELECTIONS["quantile"]([scored_edit(0.0)] * 4, 0.5) == []
    assert [len(group) for group in by_task(edits)] == [4, 4]


def test_the_noise_aware_rule_trusts_what_stands_out_of_the_noise():
    rng = np.random.default_rng(0)

    def rounds(spread: float) -> list[ScoredEdit]:
        quality = np.clip(0.5 + spread * rng.standard_normal((40, 5)), 0, 1)
        scores = rng.binomial(5, quality[..., None], (40, 5, 3)) / 5
        return [
            scored_edit(float(scores[i, j].mean()), task=i, scores=tuple(scores[i, j])) for i in range(40) for j in range(5)
        ]

    assert len(SELECTIONS["shrunk"](rounds(0.0), 0.0)) < 20
    assert len(SELECTIONS["shrunk"](rounds(0.3), 0.0)) > 36


def test_advantages_are_those_of_the_papers():
    rewards = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards, "none"), torch.tensor([[-0.5, 0.5], [0.0, 0.0]]).double())
    group = group_advantages(rewards, "group")
    assert group[0, 1].item() == pytest.approx(0.5 / (0.5**0.5 + 1e-4)) and group[1].abs().max() == 0
    assert group_advantages(rewards, "batch")[0, 1].item() == pytest.approx(0.5 / (rewards.std().item() + 1e-4))


# The rest ---------------------------------------------------------------------------------------------------------------


def test_baselines_predict_what_their_names_say(model_path, tmp_path):
    def envs(**options):
        return gym.make_vec("SEAL-SQuAD-v0", num_envs=3, model=model_path("llama"), split="test", **SMALL, **options)

    policy = Policy.from_pretrained(model_path("llama"), LORA, max_new_tokens=8)
    env = envs()
    results = {name: evaluate(get_agent(name)(env, policy), env, [0, 1, 2, 3], seed=1) for name in BASELINES}
    assert all(edit.info["status"] == "empty" and edit.info["gain"] == 0 for edit in results["no_update"])
    assert all(edit.info["sequences"] == 1 and edit.info["status"] == "ok" for edit in results["passage_only"])
    articles = [Almanac().article("test", i) for i in range(4)]
    assert [edit.edit.count("Answer: ") for edit in results["oracle"]] == [len(article.facts) for article in articles]
    facts = evaluate(get_agent("oracle")(env, policy, kind="facts"), env, [3])
    assert facts[0].edit.splitlines() == articles[3].oracle_facts()
    tasks = [Task("Otrar", "It fell in 1219.", (Question("When did Otrar fall?", ("1219",)),), f"otrar-{i}") for i in range(3)]
    other = envs(dataset=tasks)
    gold = [evaluate(get_agent("oracle")(other, policy, kind=kind), other, [2])[0].edit for kind in ("pairs", "facts")]
    assert gold == ["Question 1: When did Otrar fall?\nAnswer: 1219", 'The answer to "When did Otrar fall?" is 1219.']
    again = evaluate(get_agent("untrained")(env, policy), env, [0, 1, 2, 3], seed=1)
    assert [edit.edit for edit in again] == [edit.edit for edit in results["untrained"]]

    path = tmp_path / "edits.jsonl"
    path.write_text("".join(json.dumps({"context": a.context, "edit": f"About {a.title}."}) + "\n" for a in articles[:2]))
    read = get_agent("from_file")(env, policy, path=str(path))
    assert evaluate(read, env, [1])[0].edit == f"About {articles[1].title}."
    with pytest.raises(ValueError, match="has no edit for the passage that begins"):
        evaluate(read, env, [2])


BASELINES = ["no_update", "passage_only", "untrained", "best_of_k", "oracle"]


def test_an_evaluation_needs_a_vector_environment(make, model_path):
    env = gym.make("SEAL-SQuAD-v0", model=model_path("llama"), limit=4, **SMALL)
    with pytest.raises(ValueError, match=r"an agent needs gym.make_vec"):
        evaluate(GRPO(*make(2), **GRPO_), env, [0])


def test_invalid_arguments_raise_clear_errors(make, model_path, tmp_path):
    env, policy = make(2, reward=None)
    for wrong, message in [
        (lambda: get_agent("rest-em"), "no agent 'rest-em'. Did you mean 'rest_em'"),
        (lambda: get_agent("json:loads"), "is no subclass of agents.Agent"),
        (lambda: get_agent("nowhere:Agent"), "cannot be imported"),
        (lambda: ReSTEM(env, policy, sample=3), "ReSTEM: no option 'sample'. Did you mean 'samples'"),
        (
            lambda: ReSTEM(env, policy, selection="bets"),
            "selection must be one of best, positive, quantile, shrunk, got 'bets'",
        ),
        (lambda: ReSTEM(env, policy).learn(0), "budget must be at least 1"),
        (lambda: ReSTEM(env, policy).learn("16"), "budget must be at least 1 scored self-edit, got '16'"),
        (lambda: GRPO(env, policy).learn(3), "a budget of 3 edits is too small for one round of GRPO"),
        (lambda: GRPO(env, policy, seed="x"), "seed must be an integer >= 0, got 'x'"),
        (lambda: GRPO(env, policy, learning_rate=math.nan), "learning_rate must be a finite number, got nan"),
        (lambda: GRPO(env, policy, learning_rate=-1e-3), "learning_rate must be at least 0.0, got -0.001"),
        (lambda: GRPO(env, policy, epsilon=-1.0), "epsilon must be at least 0.0, got -1.0"),
        (lambda: PPO(env, policy, clip_range=-0.2), "clip_range must be at least 0.0, got -0.2"),
        (lambda: GRPO(env, policy, loss_type="ppo"), "loss_type must be one of grpo, bnpo, dr_grpo, got 'ppo'"),
        (lambda: GRPO(env, policy, num_generations=1), "num_generations must be at least 2, got 1"),
        (lambda: get_agent("from_file")(env, policy), "from_file needs path="),
        (lambda: ReSTEM(gym.make("SEAL-SQuAD-v0", model=model_path("llama"), **SMALL), policy), "needs gym.make_vec"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            wrong()
    for wrong, message in [
        (lambda: GRPO(env, policy, contexts="8"), "GRPOConfig: contexts must be of type int, got '8'"),
        (lambda: GRPO(env, policy, beta=True), "GRPOConfig: beta must be of type float, got True"),
        (lambda: GRPOConfig(epsilon_high="0.2"), "GRPOConfig: epsilon_high must be of type float | None, got '0.2'"),
        (lambda: GRPO(env, policy, {"beta": 0.1}), "config of GRPO must be an instance of GRPOConfig, got {'beta': 0.1}"),
        (lambda: GRPO(env, policy, config=ReSTEMConfig()), "config of GRPO must be an instance of GRPOConfig"),
        (lambda: GRPO(env, "seal-nano"), "policy must be an agents.Policy, such as Policy.from_pretrained('seal-nano'), got"),
    ]:
        with pytest.raises(TypeError, match=re.escape(message)):
            wrong()
    with pytest.raises(FileNotFoundError, match=r"holds no saved agent"):
        ReSTEM.load(tmp_path, env, policy)
    ReSTEM(env, policy).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"holds an agent agents\.rest_em:ReSTEM, not agents\.grpo:GRPO"):
        GRPO.load(tmp_path / "agent", env, policy)
    assert set(AGENTS) >= {"rest_em", "grpo", "ppo", *BASELINES}


def test_learning_stops_when_asked_and_within_the_budget(make, tmp_path):
    env, policy = make(8)
    agent = ReSTEM(env, policy, contexts=2, samples=4, rescore=2)
    agent.learn(30, [StopEarly(patience=1), LogRounds(tmp_path / "rounds.jsonl")])
    assert agent.edits <= 30 and agent.edits % 6 == 0
    rows = drop_lines(tmp_path / "rounds.jsonl", lambda line: True)
    assert [row["edits"] for row in rows][-1] == agent.edits
    assert {"reward", "gain", "edit_tokens", "unusable", "frac_reward_zero_std", "loss", "kept"} <= rows[0].keys()
    assert {"collect", "learn", "rescore"} <= rows[0]["seconds"].keys()
    with pytest.raises(ValueError, match="no metric 'rewards'"):
        agent.learn(60, StopEarly(metric="rewards"))


def test_every_round_reports_the_same_metrics():
    metrics = rollout_metrics([scored_edit(0.2), scored_edit(0.4), scored_edit(0.6, task=1), scored_edit(0.6, task=1)])
    assert metrics["reward"] == pytest.approx(0.45) and metrics["frac_reward_zero_std"] == 0.5 and metrics["edit_tokens"] == 1


# Hyperparameters and imports --------------------------------------------------------------------------------------------


def test_a_config_is_used_as_it_is_and_keywords_replace_its_fields(make, tmp_path):
    env, policy = make(2, reward=None)
    config = GRPOConfig(contexts=3, learning_rate=0.5)
    assert GRPO(env, policy, config=config).config == GRPO(env, policy, config).config == config
    both = GRPO(env, policy, config=config, learning_rate=0.25)
    assert (both.config.contexts, both.config.learning_rate) == (3, 0.25) and config.learning_rate == 0.5
    assert both.optimizer.param_groups[0]["lr"] == 0.25
    both.save(tmp_path / "agent")
    assert GRPO.load(tmp_path / "agent", *make(2, reward=None)).config == both.config


def test_a_preset_fills_fields_that_are_not_passed_but_never_a_config():
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=1, **SMALL)
    policy = Policy.from_pretrained("seal-nano")
    preset = GRPO.presets["seal-nano"].values
    assert asdict(GRPO(env, policy).config) == {**asdict(GRPOConfig()), **preset}
    assert GRPO(env, policy, beta=0.1).config == GRPOConfig(beta=0.1, **preset)
    assert GRPO(env, policy, learning_rate=0.1).config.learning_rate == 0.1
    assert GRPO(env, policy, config=GRPOConfig()).config == GRPOConfig() != GRPO(env, policy).config
    assert GRPO(env, policy, config=GRPOConfig(), beta=0.1).config == GRPOConfig(beta=0.1)


class Tasks(agents.Callback):
    """The tasks of each round."""

    def __init__(self):
        self.rounds = []

    def on_round(self, agent, result):
        self.rounds.append([edit.task for edit in result.rollout])
        return True


@pytest.mark.parametrize("same_contexts", [True, False])
def test_rounds_have_the_same_contexts_only_if_asked_to(make, same_contexts):
    tasks, (env, policy) = Tasks(), make(4)
    ReSTEM(env, policy, contexts=2, samples=1, same_contexts=same_contexts, seed=2).learn(5, tasks)
    first, *others = tasks.rounds
    assert [len(round_) for round_ in tasks.rounds] == [2, 2, 1]
    assert all(round_ == first[: len(round_)] for round_ in others) == same_contexts


def test_every_public_name_is_imported_on_first_use():
    for name in agents.__all__:
        value = getattr(agents, name)
        assert getattr(value, "__name__", name) == name
    assert set(agents.__all__) <= set(dir(agents))
    with pytest.raises(AttributeError, match="module 'agents' has no attribute 'Grpo'"):
        agents.Grpo  # noqa: B018


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_agents_loads_neither_torch_nor_stable_baselines3():
    assert run_python("import agents, sys; print({'torch', 'stable_baselines3'} & set(sys.modules))") == "set()"


MISSING_EXTRA = """
import sys
sys.modules["stable_baselines3"] = None  # as if it were not installed
from agents import GRPO
try:
    from agents import PPO
except ImportError as error:
    print(error)
"""


def test_a_missing_extra_is_an_error_that_says_how_to_install_it():
    assert run_python(MISSING_EXTRA).endswith("pip install 'seal-env[ppo]'")
