"""Stage ``correctness``: the student and the policy on the device, against themselves on the CPU and PEFT on the device.

Models are small, so that it takes about a minute; numbers are float32 unless a name says bfloat16.
"""

from __future__ import annotations

import copy
import math
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import gymnasium as gym
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import PreTrainedModel

import seal_env  # noqa: F401  registers the environments
from agents import Agent, Callback, Policy, Round, get_agent
from agents.episodes import begin, score
from agents.policy import Completion
from benchmarks.gpu.limited import LimitedMemory
from benchmarks.gpu.suite import Check, Context, check
from benchmarks.measurements.reference import Float64Loop, PeftLoop, relative_errors
from benchmarks.measurements.shapes import byte_tokenizer, random_model, shape_config
from benchmarks.measurements.workload import make_updates
from seal_env import Student, TokenExample, Update, UpdateConfig
from seal_env.student import Answer, FitStatus

_LORA = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
_NEW_TOKENS = 12
# Largest difference of short updates in float32 on another device, with other kernels and another order of sums.
_WEIGHT = 1e-5
_RELATIVE = 1e-4
# Greedy answers of two exact float32 computations differ if two tokens are equally likely to the last digits.
_EQUAL_ANSWERS = 0.95


def run(context: Context) -> dict[str, list[Check]]:
    """Run all checks."""
    checks: list[Check] = []
    parts: dict[str, Callable[[], Iterable[Check]]] = {
        "llama-2m": lambda: _Bench(context, "llama-2m", "llama").checks(),
        "qwen2-3m, generic": lambda: _Bench(context, "qwen2-3m", "generic").checks(),
        "seal-nano": lambda: _environment(context),
    }
    if not context.tiny:
        parts["qwen2-3m"] = lambda: _Bench(context, "qwen2-3m", "llama").checks()
    for name, part in parts.items():
        checks += part() if context.left > 0 else [check(f"{name}: reached in time", 0, least=1)]
    return {"checks": checks}


@dataclass
class _Bench:
    """One model on the CPU and on the device, with the same weights."""

    context: Context
    shape: str
    network: str

    def __post_init__(self) -> None:
        self.base = random_model(shape_config(self.shape))
        self.name = f"{self.shape}, {self.network}"
        self.updates = _short_updates(3 if self.context.tiny else 12)
        self.prompts = [
            [f"Topic: {i}\nWhat is {j}{'?' * (3 * j)}\n" for j in range(1 + i % 3)] for i in range(len(self.updates))
        ]
        self.here, self.there = self._student(), self._student(self.context.device)
        self.start = self.here.fresh([update.seed for update in self.updates])
        self.fitted = self.there.fit(self.updates, self.start)

    def _model(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        return copy.deepcopy(self.base).to(device, dtype)

    def _student(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, slots: int | None = None
    ) -> Student:
        return Student(self._model(device, dtype), byte_tokenizer(), _LORA, network=self.network, max_slots=slots)

    def checks(self) -> Iterator[Check]:
        for group in (self._fit, self._answers, self._policy, self._weights, self._neighbours, self._float64, self._memory):
            for entry in group():
                yield entry | {"name": f"{self.name}: {entry['name']}"}

    def _fit(self) -> Iterator[Check]:
        statuses = [report.status for report in self.fitted.reports]
        yield check("updates trained", statuses.count(FitStatus.TRAINED) / len(statuses), least=1)
        yield check(
            "fit against the CPU", _most(self.fitted.adapters, self.here.fit(self.updates, self.start).adapters), most=_WEIGHT
        )
        peft = PeftLoop(self._model(self.context.device), _LORA).fit_all(self.updates, self.start)
        yield check("fit against PEFT on the device", _most(self.fitted.adapters, peft), most=_WEIGHT)
        yield check("adapters have moved", _most(peft, self.start), least=10 * _WEIGHT)

    def _answers(self) -> Iterator[Check]:
        adapters = self.fitted.adapters
        there = self.there.answer(adapters, self.prompts, max_new_tokens=_NEW_TOKENS)
        here = self.here.answer(adapters, self.prompts, max_new_tokens=_NEW_TOKENS)
        yield check("answers equal to the CPU's", _equal(there, here), least=_EQUAL_ANSWERS)
        self.there.network.static_decoding = True  # CUDA graphs, where the network has them
        static = self.there.answer(adapters, self.prompts, max_new_tokens=_NEW_TOKENS)
        self.there.network.static_decoding = False
        yield check("answers of static decoding equal to the others", _equal(static, there), least=_EQUAL_ANSWERS)
        loop = PeftLoop(self._model(self.context.device), _LORA)
        prompts = [[self.there.tokenizer(prompt)["input_ids"] for prompt in group] for group in self.prompts]
        rows = loop.answer_all(adapters, prompts, _NEW_TOKENS)
        pairs = zip(chain(*there), chain(*rows), strict=True)
        same = [list(answer.ids) == row[: len(answer.ids)] for answer, row in pairs]
        yield check("answers equal to PEFT's on the device", sum(same) / len(same), least=_EQUAL_ANSWERS)
        likely = self.there.log_likelihood(adapters, self.prompts, self.prompts)
        expected = self.here.log_likelihood(adapters, self.prompts, self.prompts)
        yield check("log-likelihoods against the CPU", _relative(likely, expected), most=_RELATIVE)

    def _policy(self) -> Iterator[Check]:
        adapter = self.fitted.adapters[0]
        completions = [
            Completion(tuple(self.here.tokenizer(group[0])["input_ids"]), tuple(range(40 + i, 60 + 2 * i)), "", "length")
            for i, group in enumerate(self.prompts)
        ]
        gradients = {}
        for device in ("cpu", self.context.device):
            policy = Policy(self._model(device), byte_tokenizer(), _LORA, template="base")
            with torch.no_grad():
                policy.adapter.copy_(adapter)
            for scores in policy.scores(completions):
                scores.log_probs.sum().backward()
            assert policy.adapter.grad is not None
            gradients[device] = policy.adapter.grad.cpu()
        loop = PeftLoop(self._model(self.context.device), _LORA)
        loop.load(adapter)
        loop.peft.train()
        for completion in completions:
            ids = torch.tensor([[*completion.prompt, *completion.ids]], device=self.context.device)
            log_probs = loop.peft(input_ids=ids).logits.float().log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])
            log_probs[:, len(completion.prompt) - 1 :].sum().backward()
        there = gradients[self.context.device]
        for name, other in (("the CPU", gradients["cpu"]), ("PEFT on the device", loop.gradient())):
            error = ((there - other).norm() / other.norm()).item()
            yield check(f"policy gradients against {name}", error, most=_RELATIVE)

    def _weights(self) -> Iterator[Check]:
        noise = torch.randn(self.there.adapter_size, generator=torch.Generator().manual_seed(0))
        adapter, zero = self.fitted.adapters[1] + 0.1 * noise, self.there.zero()
        prompts, answers = [self.prompts[1]], [self.prompts[1]]
        expected = self.there.log_likelihood(adapter[None], prompts, answers)
        moved = _relative(self.there.log_likelihood(zero, prompts, answers), expected)
        yield check("an adapter changes log-likelihoods", moved, least=10 * _RELATIVE)
        with tempfile.TemporaryDirectory() as folder:
            self.there.save_adapter(adapter, folder)
            yield check("a saved adapter loads", _most(self.there.load_adapter(folder), adapter), most=0)
            loaded = PeftModel.from_pretrained(self._model(self.context.device), folder).eval()
        values = []
        for prompt in prompts[0]:
            ids = self.there.tokenizer(prompt)["input_ids"]
            tokens = torch.tensor([ids + ids], device=self.context.device)
            with torch.no_grad():
                log_probs = loaded(tokens).logits.float().log_softmax(-1)[0, :-1].gather(1, tokens[0, 1:, None])
            values.append(log_probs[len(ids) - 1 :].sum().item())
        yield check("log-likelihoods of PEFT with the saved adapter", _relative([values], expected), most=_RELATIVE)
        merged = self._student(self.context.device)
        merged.merge(adapter)
        yield check(
            "log-likelihoods of the merged base",
            _relative(merged.log_likelihood(zero, prompts, answers), expected),
            most=_RELATIVE,
        )

    def _neighbours(self) -> Iterator[Check]:
        together, updates, start = self.fitted.adapters, self.updates, self.start
        alone = torch.cat([self.there.fit([update], row[None]).adapters for update, row in zip(updates, start)])
        yield check("fit alone against among others", _most(alone, together), most=_WEIGHT)
        backwards = self.there.fit(updates[::-1], start.flip(0)).adapters.flip(0)
        yield check("fit in another order", _most(backwards, together), most=_WEIGHT)
        self.there.max_slots = 2
        yield check("fit in waves of two slots", _most(self.there.fit(updates, start).adapters, together), most=_WEIGHT)
        self.there.max_slots = None
        wild = [
            replace(update, config=replace(update.config, learning_rate=1e9)) if i % 3 == 0 else update
            for i, update in enumerate(updates)
        ]
        beside = self.there.fit(wild, start)
        diverged = [report.status is FitStatus.DIVERGED for i, report in enumerate(beside.reports) if i % 3 == 0]
        calm = [i for i in range(len(updates)) if i % 3]
        yield check("learning rate 1e9 is reported as diverged", sum(diverged) / len(diverged), least=1)
        yield check("neighbours of diverged updates", _most(beside.adapters[calm], together[calm]), most=_WEIGHT)
        one_by_one = [
            self.there.answer(row[None], [own], max_new_tokens=_NEW_TOKENS)[0] for row, own in zip(together, self.prompts)
        ]
        answers = self.there.answer(together, self.prompts, max_new_tokens=_NEW_TOKENS)
        yield check("answers alone against among others", _equal(one_by_one, answers), least=_EQUAL_ANSWERS)

    def _float64(self) -> Iterator[Check]:
        """Ten epochs at SEAL's learning rate, where float32 loops differ: errors to float64, relative to PEFT's error."""
        if self.network == "generic":  # it rounds as PEFT does
            return
        lengths = [[32, 20, 45], [24, 51, 30], [40, 28, 16]][: 1 if self.context.tiny else 3]
        updates = make_updates(lengths, self.base.config.vocab_size, {"epochs": 4 if self.context.tiny else 10})
        start = self.here.fresh([update.seed for update in updates])
        exact = Float64Loop(self._model(self.context.device), _LORA)
        truth = exact.fit_all(updates, start.double())
        for dtype, most in ((torch.float32, 2.0), (torch.bfloat16, 2.0)):
            theirs = relative_errors(PeftLoop(self._model(self.context.device, dtype), _LORA).fit_all(updates, start), truth)
            ours = relative_errors(self._student(self.context.device, dtype).fit(updates, start).adapters, truth)
            ratio = (ours / theirs).log().mean().exp().item()
            name = str(dtype).removeprefix("torch.")
            yield check(f"{name}: error to float64 over PEFT's ({theirs.max():.0e})", ratio, most=most)

    def _memory(self) -> Iterator[Check]:
        """With too little memory for all adapters or tokens at a time."""
        room = 24 << 20
        while True:
            with LimitedMemory(room):
                limited = self.there.fit(self.updates, self.start)
            if limited.slots < self.fitted.slots or limited.step_tokens < self.fitted.step_tokens:
                break
            room = 4 * room // 5
        yield check("fit with little memory", _most(limited.adapters, self.fitted.adapters), most=_WEIGHT)


def _environment(context: Context) -> Iterator[Check]:
    """``seal-nano`` on the device: rewards against the CPU, malformed edits beside others, and two rounds of two agents."""
    count, tasks = (2, 1) if context.tiny else (16, 4)
    rewards = {}
    for device in ("cpu", str(context.device)):
        env = gym.make_vec("SEAL-SQuAD-v0", num_envs=count, device=device)
        observations, _ = begin(env, list(range(count)), list(range(count)))
        edits = [str(text) for text in observations["context"]]
        rewards[device] = [reward for reward, _ in score(env, edits)]
    same = sum(a == b for a, b in zip(*rewards.values())) / count if len(rewards) > 1 else 1.0
    yield check("seal-nano: rewards equal to the CPU's", same, least=0.9)
    malformed = ["", " \n ", "\ud800", "x" * 100_000]
    begin(env, list(range(count)), list(range(count)))
    outcomes = score(env, [malformed[i % 4] if i % 2 else edit for i, edit in enumerate(edits)])
    finite = sum(math.isfinite(reward) for reward, _ in outcomes) / count
    yield check("seal-nano: malformed edits have a reward", finite, least=1)
    same = sum(outcomes[i][0] == rewards[str(context.device)][i] for i in range(0, count, 2)) / len(range(0, count, 2))
    yield check("seal-nano: neighbours of malformed edits", same, least=0.9)
    sizes: dict[str, dict[str, Any]] = {
        "rest_em": {"contexts": tasks, "samples": 2, "selection": "best"},
        "grpo": {"contexts": tasks, "num_generations": 2},
    }
    for name, size in sizes.items():
        policy = Policy.from_pretrained("seal-nano", device=str(context.device), max_new_tokens=16 if context.tiny else 64)
        env = gym.make_vec("SEAL-SQuAD-v0", num_envs=2 * tasks, device=str(context.device))
        losses = _Losses()
        agent = get_agent(name)(env, policy, seed=0, **size).learn(2 * 2 * tasks, losses)
        yield check(f"seal-nano: edits scored in two rounds of {name}", agent.edits, least=2 * 2 * tasks)
        yield check(f"seal-nano: rounds of {name} with a finite loss", sum(map(math.isfinite, losses.values)), least=2)
        weights = [bool(weight.isfinite().all()) for weight in policy.merged_weights().values()]
        yield check(f"seal-nano: finite weights after {name}", sum(weights) / len(weights), least=1)


class _Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_round(self, agent: Agent, result: Round) -> bool:
        self.values.append(result.metrics["loss"])
        return True


def _short_updates(count: int) -> list[Update]:
    """Short updates with different settings and moderate learning rates, after which exact float32 loops agree within 1e-5."""
    rng = random.Random(0)
    settings: list[dict[str, float | int | str]] = [
        {"epochs": 3, "learning_rate": 2e-4},
        {"epochs": 2, "learning_rate": 2e-4, "schedule": "cosine", "warmup_steps": 2},
        {"epochs": 2, "batch_size": 3, "learning_rate": 1e-4},
        {"epochs": 2, "max_grad_norm": 0.05, "learning_rate": 1e-4, "weight_decay": 0.1},
    ]
    updates = []
    for i in range(count):
        lengths = [rng.randint(3, 60) for _ in range(rng.randint(2, 4))]
        examples = [TokenExample(tuple(rng.randrange(2, 258) for _ in range(n)), loss_from=n // 2 * (i % 2)) for n in lengths]
        updates.append(Update(tuple(examples), UpdateConfig(**settings[i % 4]), seed=i))  # type: ignore[arg-type]
    return updates


def _most(ours: Tensor, theirs: Tensor) -> float:
    return (ours.float().cpu() - theirs.float().cpu()).abs().max().item()


def _relative(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / max(1.0, abs(b)) for own, other in zip(ours, theirs) for a, b in zip(own, other))


def _equal(ours: Sequence[Sequence[Answer]], theirs: Sequence[Sequence[Answer]]) -> float:
    """Share of answers with the same tokens."""
    same = [a.ids == b.ids for own, other in zip(ours, theirs) for a, b in zip(own, other)]
    return sum(same) / len(same)
