"""The stacked inner loop equals the plain one: PEFT and AdamW, one adapter at a time."""

from __future__ import annotations

import contextlib
import copy
import random
import statistics
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.measurements.reference import Float64Loop, PeftLoop, TrainerLoop, relative_errors
from benchmarks.measurements.shapes import byte_tokenizer, random_model, shape_config
from benchmarks.measurements.workload import edit_lengths
from benchmarks.measurements.workload import make_updates as make_workload
from seal_env import Student, TokenExample, Update, UpdateConfig
from seal_env.student import FitStatus, Sampling, load_base
from seal_env.student.native import NativeOps
from seal_env.student.network import TrainBatch

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
NETWORKS = [("llama", "llama"), ("llama", "generic"), ("qwen2", "llama"), ("qwen2", "generic"), ("gpt2", "generic")]


def make_updates(seed: int = 0, longest: int = 70) -> list[Update]:
    """Eight updates with different settings.

    Their learning rates are moderate: AdamW takes a full step along a gradient that is only rounding, so exact float32 loops
    differ by up to a few hundredths of the learning rate in a few weights (PEFT's error to float64 is as large as ours).
    """
    rng = random.Random(seed)
    settings = [
        {"epochs": 3, "learning_rate": 5e-4},
        {"epochs": 5, "learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 2},
        {"epochs": 1, "learning_rate": 4e-4, "schedule": "constant"},
        {"epochs": 4, "batch_size": 3, "learning_rate": 4e-4},
        {"epochs": 2, "max_grad_norm": 0.05, "learning_rate": 2e-4},
        {"epochs": 6, "learning_rate": 5e-4, "weight_decay": 0.1},
        {"epochs": 2, "batch_size": 2, "max_grad_norm": float("inf"), "learning_rate": 1e-4},
        {"epochs": 3, "shuffle": False, "learning_rate": 1e-4},
    ]
    updates = []
    for i, setting in enumerate(settings):
        examples = []
        for _ in range(rng.randint(1, 5)):
            length = rng.randint(3, longest)
            ids = tuple(rng.randrange(2, 258) for _ in range(length))
            examples.append(TokenExample(ids, loss_from=rng.choice([0, 0, length // 2])))
        updates.append(Update(examples, UpdateConfig(**setting), seed=7 if i == 4 else i))
    return updates


def prompts_for(student: Student, n: int) -> list[list[str]]:
    return [[f"Topic: {i}\nWhat is {j}{'?' * (j * 3)}\nAnswer:\n" for j in range(1 + i % 4)] for i in range(n)]


@pytest.mark.parametrize("compiled", ["1", "0"])
@pytest.mark.parametrize(("model", "network"), NETWORKS)
def test_equals_peft_and_adamw_trained_alone(model_path, monkeypatch, model, network, compiled):
    monkeypatch.setenv("SEAL_ENV_NATIVE", compiled)
    path, lora = model_path(model), LoraConfig(**LORA)
    student = Student.from_pretrained(path, lora, network=network)
    updates = make_updates()
    start = student.fresh([update.seed for update in updates])
    result = student.fit(updates)
    assert [report.status for report in result.reports] == [FitStatus.TRAINED] * 8

    loop = PeftLoop(AutoModelForCausalLM.from_pretrained(path), lora)
    prompts = prompts_for(student, len(updates))
    answers = student.answer(result.adapters, prompts, max_new_tokens=12)
    for i, update in enumerate(updates):
        expected = loop.fit(update, start[i])
        assert not torch.equal(expected, start[i])
        difference = (result.adapters[i] - expected).abs().max().item()
        assert difference < 1e-5, f"update {i}: off by {difference:.1e}"
        ids = loop.answer([student.tokenizer(p)["input_ids"] for p in prompts[i]], 12)
        for answer, row in zip(answers[i], ids):
            assert list(answer.ids) == row[: len(answer.ids)]
            assert len(answer.ids) == 12 or row[len(answer.ids)] in student._eos_ids


def gradient(loop: PeftLoop, adapter: torch.Tensor, example: TokenExample) -> torch.Tensor:
    """Of the loss with respect to the adapter, by autograd, flat."""
    loop.load(adapter)
    loop._loss(loop._inputs([example])).backward()
    return loop.gradient().double()


def stacked_gradient(student: Student, adapter: torch.Tensor, example: TokenExample) -> torch.Tensor:
    ids = torch.tensor(example.ids)
    labels = len(ids) - 1
    positions, groups = torch.arange(labels), torch.zeros(labels, dtype=torch.long)
    batch = TrainBatch(ids, [len(ids)], [len(ids)], positions, ids[1:], torch.full((labels,), 1 / labels), groups)
    return student.network.train_step(adapter[None], torch.tensor([0]), batch)[1][0].double()


@pytest.mark.parametrize("compiled", ["1", "0"])
@pytest.mark.parametrize("shape", ["llama-2m", "qwen2-3m"])
def test_gradients_are_as_near_to_float64_as_pefts(monkeypatch, shape, compiled):
    """Adapters differ because of rounding in gradients, which are not chaotic as ten epochs of AdamW are."""
    monkeypatch.setenv("SEAL_ENV_NATIVE", compiled)
    model, lora = random_model(shape_config(shape)), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
    student = Student(copy.deepcopy(model), byte_tokenizer(), lora)
    peft, exact = PeftLoop(copy.deepcopy(model), lora), Float64Loop(copy.deepcopy(model), lora)
    lengths = [[n for edit in edit_lengths("seal", 2, seed=0) for n in edit][:10]]
    (update,) = make_workload(lengths, model.config.vocab_size, {})
    torch.manual_seed(0)
    adapter = student.fresh([0])[0] + 0.02 * torch.randn(student.adapter_size)  # as trained: B is not zero
    ratios = []
    for example in update.examples:
        truth = gradient(exact, adapter, example)
        ours, theirs = (g - truth for g in (stacked_gradient(student, adapter, example), gradient(peft, adapter, example)))
        assert theirs.norm() < 1e-4 * truth.norm(), "all three are the same gradient"
        ratios.append((ours.norm() / theirs.norm()).item())
    most = 1.0 if isinstance(student.network.ops, NativeOps) else 1.3
    assert statistics.median(ratios) < most and max(ratios) < 1.3 * most, ratios


@pytest.mark.parametrize("shape", ["llama-2m", "qwen2-3m"])
def test_fitted_adapters_are_as_near_to_float64_as_pefts(shape):
    """Ten epochs at SEAL's learning rate; ``seal-bench speed --exact 20`` has more updates."""
    model, lora = random_model(shape_config(shape)), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
    student = Student(copy.deepcopy(model), byte_tokenizer(), lora)
    settings = {"epochs": 10, "learning_rate": 1e-3}
    updates = make_workload([[32, 60], [24, 51], [40, 16, 90]], model.config.vocab_size, settings)
    start = student.fresh([update.seed for update in updates])
    peft, exact = PeftLoop(copy.deepcopy(model), lora), Float64Loop(copy.deepcopy(model), lora)
    truth = torch.stack([exact.fit(update, row.double()) for update, row in zip(updates, start)])
    theirs = relative_errors(torch.stack([peft.fit(update, row) for update, row in zip(updates, start)]), truth)
    ours = relative_errors(student.fit(updates, start).adapters, truth)
    assert theirs.max() < 1e-2, "all three are the same update"
    # Rounding of a few near-zero gradients decides single updates, so that two PEFT loops differ by several times as well.
    assert (ours / theirs).log().mean().exp() < 2, (ours, theirs)


def test_trainer_gives_the_same_adapter_as_the_plain_loop(model_path):
    path, lora = model_path("qwen2"), LoraConfig(**LORA)
    update = Update([TokenExample(tuple(range(5, 5 + n))) for n in (12, 30, 7)], UpdateConfig(epochs=3), seed=3)
    student = Student.from_pretrained(path, lora)
    start = student.fresh([3])[0]
    expected = PeftLoop(AutoModelForCausalLM.from_pretrained(path), lora).fit(update, start)
    trained = TrainerLoop(AutoModelForCausalLM.from_pretrained(path), lora).fit(update, start)
    torch.testing.assert_close(trained, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model", "network"), [("llama", "llama"), ("qwen2", "llama"), ("gpt2", "generic")])
def test_an_adapter_does_not_depend_on_other_updates_slots_or_waves(model_path, model, network):
    student = Student.from_pretrained(model_path(model), LoraConfig(**LORA), network=network)
    updates = make_updates(longest=300)
    prompts = prompts_for(student, len(updates))
    together = student.fit(updates).adapters
    answers = student.answer(together, prompts, max_new_tokens=8)
    backwards = student.fit(updates[::-1]).adapters.flip(0)
    student.max_slots = 2
    waves = student.fit(updates).adapters
    student.step_tokens = 1
    for i, update in enumerate(updates):
        alone = student.fit([update]).adapters[0]
        for other in (together[i], backwards[i], waves[i]):
            torch.testing.assert_close(alone, other, rtol=0, atol=1e-5)
        assert student.answer(alone[None], [prompts[i]], max_new_tokens=8)[0] == answers[i]


@pytest.mark.parametrize("compiled", ["1", "0"])
@pytest.mark.parametrize(("model", "network"), [("llama", "llama"), ("gpt2", "generic")])
def test_reading_seldom_changes_nothing(model_path, monkeypatch, model, network, compiled):
    """As on a GPU, where results of many steps are read together."""
    monkeypatch.setenv("SEAL_ENV_NATIVE", compiled)
    student = Student.from_pretrained(model_path(model), LoraConfig(**LORA), network=network, max_slots=3)
    updates = make_updates()
    updates[2] = replace(updates[2], config=replace(updates[2].config, learning_rate=1e9, epochs=9))  # it diverges
    updates[5] = replace(updates[5], examples=())
    prompts, sampling = prompts_for(student, len(updates)), {"sampling": Sampling(), "max_new_tokens": 12, "stop": ["e"]}
    seeds = [list(range(len(group))) for group in prompts]
    results = []
    for student.read_every in (1, 5, 1000):
        fitted = student.fit(updates)
        answers = student.answer(fitted.adapters, prompts, max_new_tokens=12)
        results.append((fitted, answers, student.sample(fitted.adapters, prompts, seeds=seeds, **sampling)))
    (first, *answers), *others = results
    assert [str(report.status) for report in first.reports].count("trained") == 6
    assert (first.reports[2].status, first.reports[5].status) == ("diverged", "nothing_to_train")
    assert torch.equal(first.adapters[2], student.fresh([updates[2].seed])[0]), "it is the initial adapter"
    for fitted, *again in others:
        for report, other in zip(first.reports, fitted.reports):
            assert (report.status, report.steps, report.tokens) == (other.status, other.steps, other.tokens)
            assert report.losses == pytest.approx(other.losses, rel=1e-4, nan_ok=True)
        torch.testing.assert_close(fitted.adapters, first.adapters, rtol=0, atol=1e-5)
        assert again == answers


@pytest.mark.parametrize("compiled", ["1", "0"])
@pytest.mark.parametrize("model", ["llama", "qwen2"])
def test_static_decoding_writes_the_same(model_path, monkeypatch, model, compiled):
    """The code that CUDA graphs are made of, on the CPU."""
    monkeypatch.setenv("SEAL_ENV_NATIVE", compiled)
    base, _ = load_base(model_path(model))
    options = {"max_new_tokens": 80, "stop": ["qz"]}
    results = []
    for static in (False, True):
        student = Student(base, byte_tokenizer(), LoraConfig(**LORA), static_decoding=static)
        torch.manual_seed(0)
        adapters = student.fresh(range(4)) + 0.05 * torch.randn(4, student.adapter_size)
        prompts = prompts_for(student, 4)
        seeds = [list(range(len(group))) for group in prompts]
        sampled = student.sample(adapters, prompts, seeds=seeds, **options)
        results.append((student.answer(adapters, prompts, **options), sampled))
    assert results[0] == results[1]
    assert len({len(answer.ids) for group in results[0][1] for answer in group}) > 1, "rows leave at different times"


@pytest.mark.parametrize("model", ["llama", "qwen2", "shape:llama-2m"])
@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_kernels_give_the_same_bits_in_any_batch(model_path, model, threads):
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
    if model.startswith("shape:"):
        student = Student(random_model(shape_config(model)), byte_tokenizer(), lora)
    else:
        student = Student.from_pretrained(model_path(model), lora)
    if not isinstance(student.network.ops, NativeOps):
        pytest.skip("no C compiler here")
    rng = random.Random(0)
    updates = [
        Update(
            [TokenExample(tuple(rng.randrange(258) for _ in range(rng.randint(5, 300)))) for _ in range(4)],
            UpdateConfig(epochs=2),
        )
        for _ in range(6)
    ]
    prompts = prompts_for(student, len(updates))
    with torch_threads(threads):
        together = student.fit(updates).adapters
        likelihoods = student.log_likelihood(together, prompts, prompts)
        for i, update in enumerate(updates):
            alone = student.fit([update]).adapters
            assert torch.equal(alone[0], together[i])
            assert student.log_likelihood(alone, [prompts[i]], [prompts[i]])[0] == likelihoods[i]


@contextlib.contextmanager
def torch_threads(threads: int):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_compiled_kernels_agree_with_pytorch_at_every_length(model_path, monkeypatch):
    path, lora = model_path("qwen2"), LoraConfig(r=5, lora_alpha=8, target_modules="all-linear")
    native = Student.from_pretrained(path, lora)
    monkeypatch.setenv("SEAL_ENV_NATIVE", "0")
    plain = Student.from_pretrained(path, lora)
    assert not isinstance(plain.network.ops, NativeOps)
    ids = tuple(random.Random(0).randrange(2, 258) for _ in range(900))
    lengths = (2, 15, 16, 17, 33, 255, 257, 511, 513, 900)
    updates = [Update([TokenExample(ids[:n])], UpdateConfig(epochs=1, max_grad_norm=1e-3, learning_rate=1e-4)) for n in lengths]
    ours, theirs = native.fit(updates), plain.fit(updates)
    for report, other in zip(ours.reports, theirs.reports):
        assert report.losses == pytest.approx(other.losses, rel=1e-5)
    torch.testing.assert_close(ours.adapters, theirs.adapters, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model", "network"), NETWORKS)
def test_an_exported_adapter_is_a_peft_adapter(model_path, tmp_path, model, network):
    path = model_path(model)
    student = Student.from_pretrained(path, LoraConfig(**LORA), network=network)
    adapter = student.fit(make_updates()[:2]).adapters[1]
    student.save_adapter(adapter, tmp_path / "adapter")
    assert torch.equal(student.load_adapter(tmp_path / "adapter"), adapter)

    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(path), tmp_path / "adapter").eval()
    tokens = torch.randint(2, 258, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        log_probs = loaded(tokens).logits.log_softmax(-1)
        expected = log_probs[:, :-1].gather(2, tokens[:, 1:, None]).squeeze(2)
        plain = student.network.token_log_probs(torch.zeros(1, student.adapter_size), [0, 0], tokens)
    ours = student.network.token_log_probs(adapter[None], [0, 0], tokens)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    assert (plain - expected).abs().max() > 1e-3

    student.merge(adapter)  # the merged base is the adapted one
    merged = student.network.token_log_probs(torch.zeros(1, student.adapter_size), [0, 0], tokens)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-4)


def test_an_adapter_can_be_trained_further(model_path):
    path, lora = model_path("llama"), LoraConfig(**LORA)
    student = Student.from_pretrained(path, lora)
    update = make_updates()[0]
    first = student.fit([update]).adapters
    second = student.fit([update], start=first).adapters
    loop = PeftLoop(AutoModelForCausalLM.from_pretrained(path), lora)
    torch.testing.assert_close(second[0], loop.fit(update, first[0]), rtol=0, atol=1e-5)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("options", [{"r": 3, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]}, {"r": 2}])
@pytest.mark.parametrize("network", ["llama", "generic"])
def test_every_supported_way_to_choose_targets(model_path, network, options):
    path, lora = model_path("qwen2"), LoraConfig(lora_alpha=6, **options)
    student = Student.from_pretrained(path, lora, network=network)
    update = make_updates()[1]
    loop = PeftLoop(AutoModelForCausalLM.from_pretrained(path), lora)
    expected = loop.fit(update, student.fresh([update.seed])[0])
    torch.testing.assert_close(student.fit([update]).adapters[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("network", ["llama", "generic"])
def test_bfloat16_trains_float32_adapters(model_path, network):
    student = Student.from_pretrained(model_path("qwen2"), LoraConfig(**LORA), dtype="bfloat16", network=network)
    exact = Student.from_pretrained(model_path("qwen2"), LoraConfig(**LORA), network=network)
    updates = make_updates()
    result, expected = student.fit(updates), exact.fit(updates)
    assert result.adapters.dtype == torch.float32
    for report, other in zip(result.reports, expected.reports):
        assert report.losses[-1] == pytest.approx(other.losses[-1], rel=0.02)
    assert all(student.answer(result.adapters, prompts_for(student, len(updates)), max_new_tokens=4))
