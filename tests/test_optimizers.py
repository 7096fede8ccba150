"""An inner-loop optimizer from outside is one class: this file adds two, and checks the student against PyTorch's own."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

import seal_env  # noqa: F401  registers the environments
from benchmarks.measurements.reference import PeftLoop
from seal_env import Student, TokenExample, Update, UpdateConfig
from seal_env.domains import from_keywords
from seal_env.optimizers import OPTIMIZERS, Optimizer
from seal_env.student import FitStatus

LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``."""

    tensors = ("momentum",)

    def __init__(self, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum!r}")
        self.momentum = momentum

    def step(self, weights, grads, state, settings):
        grads.addcmul_(weights, settings.weight_decays.float()[:, None])
        velocity = state["momentum"].mul_(self.momentum).add_(grads)
        weights.addcmul_(velocity, settings.learning_rates.float()[:, None], value=-1.0)


class NormedSGD(Optimizer):
    """AdaGrad-Norm: the learning rate over the root of the sum of squared gradient norms, one number for each adapter."""

    scalars = ("squares",)

    def step(self, weights, grads, state, settings):
        state["squares"] += torch.stack([torch.linalg.vector_norm(grad) for grad in grads]).double() ** 2
        weights -= (settings.learning_rates / state["squares"].sqrt()).float()[:, None] * grads


class NotAnOptimizer:
    def step(self, weights, grads, state, settings):
        pass


class SGDLoop(PeftLoop):
    """PEFT and ``torch.optim.SGD``."""

    def make_optimizer(self, config: UpdateConfig) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters, momentum=config.optimizer_options["momentum"], weight_decay=config.weight_decay)


class NormedLoop(PeftLoop):
    """The definition of :class:`NormedSGD`, for one adapter."""

    def make_optimizer(self, config: UpdateConfig) -> torch.optim.Optimizer:
        squares = 0.0

        class Plain(torch.optim.SGD):
            def step(self, closure=None):
                nonlocal squares
                grads = [p.grad for group in self.param_groups for p in group["params"]]
                squares += sum(grad.double().square().sum().item() for grad in grads)
                for group in self.param_groups:
                    group["lr"] /= squares**0.5
                super().step(closure)

        return Plain(self.parameters)


def update(seed: int, optimizer: str | type[Optimizer] = f"{__name__}:SGD", **settings) -> Update:
    options = {"momentum": settings.pop("momentum", 0.9)} if "NormedSGD" not in str(optimizer) else {}
    examples = [TokenExample(tuple(range(5 + seed, 5 + seed + n))) for n in (12, 40, 7 + seed)]
    return Update(examples, UpdateConfig(optimizer, options, **{"learning_rate": 1e-2, "epochs": 4, **settings}), seed=seed)


UPDATES = [
    update(0),
    update(1, schedule="cosine", warmup_steps=2, momentum=0.5),
    update(2, max_grad_norm=0.05),
    update(3, weight_decay=0.1, momentum=0.0),
    update(4, batch_size=2, schedule="constant", max_grad_norm=float("inf")),
    update(5, batch_size=0, weight_decay=0.05, warmup_steps=1),
    update(6, f"{__name__}:NormedSGD", learning_rate=1e-2),
    update(7, f"{__name__}:NormedSGD", learning_rate=1e-2, batch_size=2),
]


@pytest.mark.parametrize("compiled", ["1", "0"])
@pytest.mark.parametrize(("model", "network"), [("llama", "llama"), ("qwen2", "generic")])
def test_an_optimizer_from_outside_equals_pytorchs_own(model_path, monkeypatch, model, network, compiled):
    monkeypatch.setenv("SEAL_ENV_NATIVE", compiled)
    student = Student.from_pretrained(model_path(model), LORA, network=network)
    start = student.fresh([update.seed for update in UPDATES])
    result = student.fit(UPDATES, start)
    assert {report.status for report in result.reports} == {FitStatus.TRAINED}
    loops = {f"{__name__}:SGD": SGDLoop, f"{__name__}:NormedSGD": NormedLoop}
    for i, update in enumerate(UPDATES):
        loop = loops[update.config.optimizer](AutoModelForCausalLM.from_pretrained(model_path(model)), LORA)
        expected = loop.fit(update, start[i])
        assert (expected - start[i]).abs().max() > 1e-4
        torch.testing.assert_close(result.adapters[i], expected, rtol=0, atol=1e-6, msg=lambda m, i=i: f"update {i}: {m}")


def test_state_belongs_to_a_slot_and_is_cleared_for_the_next_update(model_path):
    student = Student.from_pretrained(model_path("llama"), LORA)
    adamw = Update(UPDATES[0].examples, UpdateConfig(epochs=3), seed=8)
    updates = [*UPDATES[:4], adamw, *UPDATES[4:]]  # optimizers that differ share a call, and never a batch
    together = student.fit(updates).adapters
    student.max_slots = 1
    for fitted in (student.fit(updates).adapters, torch.cat([student.fit([update]).adapters for update in updates])):
        torch.testing.assert_close(fitted, together, rtol=0, atol=1e-6)


def test_a_name_a_path_and_the_class_find_the_same_optimizer(model_path, monkeypatch):
    monkeypatch.setattr(OPTIMIZERS, "_entries", dict(OPTIMIZERS._entries))
    OPTIMIZERS.register("sgd", SGD, "with momentum")
    assert OPTIMIZERS.names()[:2] == ["adamw", "sgd"]
    student = Student.from_pretrained(model_path("llama"), LORA)
    fitted = student.fit([update(0, optimizer) for optimizer in ("sgd", f"{__name__}:SGD", SGD)]).adapters
    assert not torch.equal(fitted[0], student.fresh([0])[0])
    for adapter in fitted[1:]:
        torch.testing.assert_close(adapter, fitted[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamv"}, "no optimizer 'adamv'. Did you mean 'adamw'"),
        ({"optimizer": "tests.nowhere:SGD"}, "optimizer 'tests.nowhere:SGD' cannot be imported"),
        ({"optimizer": "torch.optim:SGD"}, "is not a subclass of seal_env.optimizers.Optimizer"),
        ({"optimizer": f"{__name__}:NotAnOptimizer"}, "is not a subclass of seal_env.optimizers.Optimizer"),
        ({"optimizer_options": {"beta": 0.9}}, "optimizer 'adamw': no option 'beta'"),
        ({"optimizer_options": 0.9}, "optimizer_options must be a dictionary, got 0.9"),
        ({"optimizer": f"{__name__}:SGD", "optimizer_options": {"momentun": 0.9}}, "Did you mean 'momentum'"),
        ({"optimizer": f"{__name__}:SGD", "optimizer_options": {"momentum": 2}}, "momentum must be at least 0 and below 1"),
    ],
)
def test_what_is_no_optimizer_or_option_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        UpdateConfig(**options)
    with pytest.raises(ValueError, match=message):
        gym.make("SEAL-SQuAD-v0", inner_loop=options)


class AnyOptions(SGD):
    def __init__(self, **options: float) -> None:
        super().__init__(**options)


def test_an_optimizer_may_take_options_by_keywords_of_any_name():
    assert UpdateConfig(optimizer=AnyOptions, optimizer_options={"momentum": 0.5}).make_optimizer().momentum == 0.5


def test_a_configuration_is_saved_with_the_path_of_its_optimizer():
    saved = from_keywords({"inner_loop": {"optimizer": SGD}}).to_dict()
    assert json.loads(json.dumps(saved))["inner_loop"] == {"optimizer": f"{__name__}:SGD"}
    with pytest.raises(ValueError, match="cannot be saved or sent to another process"):
        from_keywords({"inner_loop": {"optimizer": type("Local", (SGD,), {})}}).to_dict()


@pytest.mark.parametrize("env_id", ["SEAL-SQuAD-v0", "SEAL-ARC-v0"])
def test_an_environment_trains_with_it(env_id):
    options = {"optimizer": f"{__name__}:SGD", "optimizer_options": {"momentum": 0.5}}
    env = gym.make(env_id, inner_loop=options, max_new_tokens=2)
    env.reset(seed=0)
    engine = env.unwrapped.engine
    action = engine.config.oracle().text() if env_id == "SEAL-ARC-v0" else "It is old."
    config = engine.domain.parse(action, engine.source[0], 0).update.config
    assert isinstance(config.make_optimizer(), SGD) and config.make_optimizer().momentum == 0.5
    _, reward, terminated, _, info = env.step(action)
    assert terminated and 0 <= reward <= 1 and info["status"] == "ok"
