"""Bad input gets a clear error or status, and affects no other update."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from seal_env import Example, Student, TokenExample, Update, UpdateConfig
from seal_env.student import FitStatus

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
GOOD = Update([Example("The ship sailed in 1871."), Example("It sank.")], UpdateConfig(epochs=3), seed=5)
ODD = {
    "huge learning rate": (Update(GOOD.examples, UpdateConfig(epochs=4, learning_rate=1e6)), FitStatus.DIVERGED),
    "infinite-looking rate": (Update(GOOD.examples, UpdateConfig(epochs=4, learning_rate=1e30)), FitStatus.DIVERGED),
    "no examples": (Update([]), FitStatus.NOTHING_TO_TRAIN),
    "empty text": (Update([Example(""), Example("a")]), FitStatus.NOTHING_TO_TRAIN),
    "no epochs": (Update(GOOD.examples, UpdateConfig(epochs=0)), FitStatus.NOTHING_TO_TRAIN),
    "nothing after the offset": (Update([Example("abc", loss_from=99)]), FitStatus.NOTHING_TO_TRAIN),
    "5,000 tokens": (Update([TokenExample((7, 8) * 2500)], UpdateConfig(epochs=1)), FitStatus.TRUNCATED),
    "one megabyte": (Update([Example("x" * 2**20)], UpdateConfig(epochs=1, max_length=64)), FitStatus.TRUNCATED),
    "emoji": (Update([Example("🦭 seals 🧑‍🚀 ünïcode")], UpdateConfig(epochs=2)), FitStatus.TRAINED),
    "NUL bytes": (Update([Example("a\0b\0\0c")], UpdateConfig(epochs=2)), FitStatus.TRAINED),
    "a lone surrogate": (Update([Example("a\ud800b")], UpdateConfig(epochs=2)), FitStatus.TRAINED),
}


@pytest.fixture(scope="module", params=["llama", "generic"])
def student(model_path, request) -> Student:
    return Student.from_pretrained(model_path("qwen2"), LoraConfig(**LORA), network=request.param)


def test_odd_updates_get_a_status_and_affect_no_other(student):
    updates = [GOOD]
    for update, _ in ODD.values():
        updates += [update, GOOD]
    start = student.fresh([update.seed for update in updates])
    start[:, ::97] += 0.01  # not fresh: a failed update must return it
    result = student.fit(updates, start)
    alone = student.fit([GOOD], start[:1]).adapters[0]
    for adapter in result.adapters[::2]:
        torch.testing.assert_close(adapter, alone, rtol=0, atol=1e-6)
    assert torch.isfinite(result.adapters).all()
    for i, (name, (_, status)) in enumerate(ODD.items()):
        report, adapter, began = result.reports[2 * i + 1], result.adapters[2 * i + 1], start[2 * i + 1]
        assert report.status == status, name
        kept = status in (FitStatus.DIVERGED, FitStatus.NOTHING_TO_TRAIN)
        assert torch.equal(adapter, began) == kept, name


def test_loss_from_an_offset_learns_nothing_before_it(student):
    text, cut = "Question: who?\nAnswer: nobody at all", len("Question: who?\nAnswer:")
    everything = student.fit([Update([Example(text)], UpdateConfig(epochs=20, learning_rate=1e-2))])
    tail = student.fit([Update([Example(text, loss_from=cut)], UpdateConfig(epochs=20, learning_rate=1e-2))])
    heads = [student.log_likelihood(result.adapters, [["Q"]], [[text[1:cut]]])[0][0] for result in (everything, tail)]
    tails = [student.log_likelihood(result.adapters, [[text[:cut]]], [[text[cut:]]])[0][0] for result in (everything, tail)]
    assert heads[0] > heads[1] + 5
    assert tails[1] > student.log_likelihood(student.zero(), [[text[:cut]]], [[text[cut:]]])[0][0] + 5


def test_stop_strings_cut_the_answer_and_rows_leave_at_the_end(student):
    update = Update([Example("Say it: one two three. four five</s>")], UpdateConfig(epochs=60, learning_rate=1e-2))
    adapter = student.fit([update]).adapters
    prompts = [["Say it:", "Say it: one", "Say it: one two three. four five"]]
    plain = student.answer(adapter, prompts, max_new_tokens=60)[0]
    assert plain[0].text == " one two three. four five"
    assert [answer.finish for answer in plain] == ["eos"] * 3
    stopped = student.answer(adapter, prompts, max_new_tokens=60, stop=[". ", "four"])[0]
    assert (stopped[0].text, stopped[0].finish) == (" one two three", "stop")
    short = student.answer(adapter, prompts, max_new_tokens=4)[0]
    assert (short[0].text, short[0].finish) == (" one", "length")
    assert student.answer(student.zero(2), [[], ["a"]], max_new_tokens=1)[0] == []


def test_the_base_can_be_replaced_by_complete_weights_only(student, model_path):
    other = Student.from_pretrained(model_path("qwen2"), LoraConfig(**LORA))
    before = student.log_likelihood(student.zero(), [["abc"]], [["def"]])
    original = {name: value.clone() for name, value in student.model.state_dict().items()}
    other.merge(torch.randn(other.adapter_size) * 0.05)
    student.load_base(other.model.state_dict())
    after = student.log_likelihood(student.zero(), [["abc"]], [["def"]])
    assert after[0][0] == pytest.approx(other.log_likelihood(other.zero(), [["abc"]], [["def"]])[0][0], abs=1e-4)
    assert after != before
    with pytest.raises(ValueError, match="lack"):
        student.load_base({"model.norm.weight": original["model.norm.weight"]})
    student.load_base(original)
    assert student.log_likelihood(student.zero(), [["abc"]], [["def"]]) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_dropout": 0.1}, "lora_dropout"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"target_modules": ["lm_head"]}, "lm_head"),
        ({"target_modules": ["nowhere"]}, "nowhere"),
        ({"r": -1}, "r"),
    ],
)
def test_what_is_not_supported_is_named(model_path, options, named):
    with pytest.raises(ValueError, match=named):
        Student.from_pretrained(model_path("qwen2"), LoraConfig(**options))


def test_wrong_arguments_say_what_would_work(student, model_path, tmp_path):
    zero = student.zero()
    cases = [
        (lambda: Student.from_pretrained("/no/such/folder"), "no such folder"),
        (lambda: Student.from_pretrained(str(tmp_path)), "could not be loaded"),
        (lambda: Student.from_pretrained(model_path("qwen2"), device="tpu9"), "tpu9"),
        (lambda: Student.from_pretrained(model_path("qwen2"), dtype="int4"), "float32, bfloat16"),
        (lambda: Student.from_pretrained(model_path("gpt2"), network="llama"), "generic"),
        (lambda: Student.from_pretrained(model_path("qwen2"), max_slots=0), "max_slots"),
        (lambda: student.fit([GOOD, GOOD], zero), "shape"),
        (lambda: student.fit([Update([TokenExample((1, 2, 999))])]), "vocabulary"),
        (lambda: student.answer(zero, [[""]]), "empty"),
        (lambda: student.answer(zero, [["a"]], stop="x"), "list of strings"),
        (lambda: student.answer(zero, [["a" * 3000]]), "no room"),
        (lambda: student.answer(zero, [["a"]], max_new_tokens=0), "max_new_tokens"),
        (lambda: student.log_likelihood(zero, [["a"]], [[]]), "one answer a prompt"),
        (lambda: UpdateConfig(learning_rate=float("nan")), "learning_rate"),
        (lambda: UpdateConfig(epochs=-1), "epochs"),
        (lambda: UpdateConfig(schedule="step"), "linear, cosine, constant"),
        (lambda: UpdateConfig(batch_size=-1), "batch_size"),
        (lambda: UpdateConfig(max_grad_norm=0), "max_grad_norm"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="Example"):
        Update(["just text"])
    with pytest.raises(FileNotFoundError, match="no PEFT adapter"):
        student.load_adapter(tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(student, model_path, tmp_path):
    student.save_adapter(student.fresh([0])[0], tmp_path)
    for options, named in (
        ({"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}, "lora_alpha"),
        ({"r": 2, "lora_alpha": 8, "target_modules": "all-linear"}, "shape"),
        ({"r": 4, "lora_alpha": 8}, "also adapts"),
    ):
        with pytest.raises(ValueError, match=named):
            Student.from_pretrained(model_path("qwen2"), LoraConfig(**options)).load_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="safetensors"):
        student.load_adapter(tmp_path)
