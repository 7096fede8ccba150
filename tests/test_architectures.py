"""Any causal LM of Transformers: answers are those of ``generate``, log-probabilities its own, adapters those of PEFT."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, PeftModel
from tiny import ARCHITECTURES, COMMON, GPT, HEADS, VOCABULARY, save_tiny
from transformers import AutoModelForCausalLM

from agents import Policy
from benchmarks.measurements.reference import PeftLoop
from seal_env import Student, TokenExample, Update, UpdateConfig
from seal_env.student import FitStatus

ALL_LINEAR = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}
PROMPTS = ["When did Otrar fall?", "How many cases has Estonian, and why?", "A", "Otrar fell in 1219. " * 3, "The year"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    paths: dict[str, str] = {}

    def of(name: str) -> str:
        if name not in paths:
            kind, options = ARCHITECTURES[name]
            paths[name] = save_tiny(tmp_path_factory.mktemp(name), kind, **options)
        return paths[name]

    return of


def reference(folder: str):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_are_those_of_generate_whoever_shares_the_batch(folder, name):
    student = Student.from_pretrained(folder(name), LoraConfig(**ALL_LINEAR), network="generic")
    student._eos_ids = frozenset()
    endless = student.answer(student.zero(), [PROMPTS], max_new_tokens=12)[0]
    stops = [endless[1].ids[3], endless[4].ids[6]]
    student._eos_ids = frozenset(stops)  # now answers end at different times, and their rows leave
    together = student.answer(student.zero(), [PROMPTS], max_new_tokens=12)[0]
    assert len({len(answer.ids) for answer in together}) > 1
    model = reference(folder(name))
    for prompt, answer in zip(PROMPTS, together):
        assert student.answer(student.zero(), [[prompt]], max_new_tokens=12)[0] == [answer]
        ids = torch.tensor([student.tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            all_ids = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=stops, pad_token_id=1
            )
        written = [*answer.ids, *([] if answer.eos is None else [answer.eos])]
        assert all_ids[0, ids.shape[1] :].tolist() == written


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probabilities_are_those_of_the_models_own_forward_pass(folder, name, tmp_path):
    policy = Policy.from_pretrained(folder(name), LoraConfig(**ALL_LINEAR), max_new_tokens=8)
    with torch.no_grad():
        policy.adapter.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    completions = policy.sample(PROMPTS, list(range(len(PROMPTS))))
    policy.save(tmp_path / "policy")
    adapted = PeftModel.from_pretrained(reference(folder(name)), tmp_path / "policy").eval()
    ours = policy.log_probs(completions)
    for row, completion in zip(ours, completions):
        ids = torch.tensor([[*completion.prompt, *completion.ids]])
        with torch.no_grad():
            log_probs = adapted(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        expected = log_probs[len(completion.prompt) - 1 : -1].gather(1, torch.tensor(completion.ids)[:, None]).squeeze(1)
        torch.testing.assert_close(row[: len(expected)], expected, rtol=0, atol=1e-5)
        assert row[len(expected) :].abs().sum() == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_adapters_are_those_of_peft_trained_alone(folder, name):
    student = Student.from_pretrained(folder(name), LoraConfig(**ALL_LINEAR), network="generic")
    updates = [
        Update(
            [TokenExample(tuple(range(9 + i, 9 + i + n))) for n in (12, 40, 7)],
            UpdateConfig(epochs=2, learning_rate=3e-4),
            seed=i,
        )
        for i in range(3)
    ]
    result = student.fit(updates)
    loop = PeftLoop(reference(folder(name)), copy.deepcopy(student.layout.lora))
    for i, update in enumerate(updates):
        expected = loop.fit(update, student.fresh([update.seed])[0])
        difference = (result.adapters[i] - expected).abs()
        # AdamW makes a step of a gradient that is all rounding, so a few weights may part by as much.
        assert difference.quantile(0.99) < 1e-5 and difference.norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("name", ["phi3-longrope", "lfm2", "llama", "falcon-h1"])
def test_likelihoods_and_updates_do_not_depend_on_longer_neighbours(folder, name):
    student = Student.from_pretrained(folder(name), LoraConfig(**ALL_LINEAR), network="generic")
    prompts, answers = ["When?", "Otrar fell in 1219. " * 6], [" In 1219.", " In 1219."]
    together = student.log_likelihood(student.zero(), [prompts], [answers])[0]
    for prompt, answer, value in zip(prompts, answers, together):
        assert student.log_likelihood(student.zero(), [[prompt]], [[answer]])[0][0] == pytest.approx(value, abs=1e-4)
    updates = [Update([TokenExample(tuple(range(5, 5 + n)))], UpdateConfig(epochs=2, learning_rate=3e-4)) for n in (20, 100)]
    both = student.fit(updates).adapters
    for update, adapter in zip(updates, both):
        torch.testing.assert_close(student.fit([update]).adapters[0], adapter, rtol=0, atol=1e-6)


def test_a_policy_of_longrope_reads_short_completions_beside_long_ones(folder):
    policy = Policy.from_pretrained(folder("phi3-longrope"), LoraConfig(**ALL_LINEAR), max_new_tokens=6)
    completions = policy.sample(["Otrar?", "Otrar fell in 1219. " * 4, "Why?"], [0, 1, 2])
    together = policy.log_probs(completions)
    for i, completion in enumerate(completions):
        alone = policy.log_probs([completion])[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, rtol=0, atol=1e-5)


# What can be adapted -----------------------------------------------------------------------------------------------------


def targets(folder: str, target_modules: object) -> set[str]:
    student = Student.from_pretrained(folder, LoraConfig(r=2, target_modules=target_modules))
    return {target.name.rpartition(".")[2] for target in student.layout.targets}


def test_mixtures_of_experts_are_adapted_where_every_token_passes(folder):
    assert targets(folder("mixtral"), None) == {"q_proj", "v_proj"}
    assert targets(folder("mixtral"), "all-linear") == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert "shared_expert_gate" in targets(folder("qwen2-moe"), "all-linear")
    for wrong in (["gate"], ["q_proj", "gate"], ["lm_head"]):
        with pytest.raises(ValueError, match=r'lora=\{"target_modules": \["q_proj", "k_proj", "v_proj", "o_proj"\]\}'):
            targets(folder("mixtral"), wrong)


def test_an_architecture_without_default_targets_says_which_it_has(folder):
    with pytest.raises(ValueError, match=r'Phi3ForCausalLM .*lora=\{"target_modules": \["o_proj", "qkv_proj", "gate_up_proj"'):
        targets(folder("phi3"), None)
    with pytest.raises(ValueError, match=r'\["in_proj"\]'):  # PEFT refuses out_proj of Mamba
        targets(folder("mamba2"), None)
    assert targets(folder("mamba2"), "all-linear") == {"in_proj"}


def test_only_the_language_model_of_a_larger_one_is_adapted(folder):
    student = Student.from_pretrained(folder("gemma3"), LoraConfig(r=2, target_modules=["q_proj"]))
    assert [target.name for target in student.layout.targets] == [
        f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(2)
    ]
    assert student.max_length == 512 and student.vocabulary_size == VOCABULARY


def test_layers_that_are_not_called_are_refused_by_name(tmp_path):
    kind = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    mamba = save_tiny(tmp_path / "mamba", "mamba", **kind)
    with pytest.raises(ValueError, match=r'lora=\{"exclude_modules": \["mixer.dt_proj"\]'):
        Student.from_pretrained(mamba, LoraConfig(**ALL_LINEAR))
    lora = LoraConfig(**ALL_LINEAR, exclude_modules=["dt_proj"])
    student = Student.from_pretrained(mamba, lora)
    assert (
        student.fit([Update([TokenExample(tuple(range(20)))], UpdateConfig(epochs=1))]).reports[0].status == FitStatus.TRAINED
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),  # not causal
        ("rwkv", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32}),
        ("recurrent_gemma", {**HEADS, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16}),
        ("xlnet", {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}),
    ],
)
def test_models_that_cannot_be_decoded_with_are_refused_by_name(tmp_path, kind, options):
    folder = save_tiny(tmp_path, kind, **options)
    for make in (Student.from_pretrained, Policy.from_pretrained):
        for dtype in ("float32", "bfloat16"):
            with pytest.raises(ValueError, match=r"^\w+ cannot be a student or a policy: "):
                make(folder, LoraConfig(**ALL_LINEAR), dtype=dtype)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rounding_in_bfloat16_refuses_no_model(folder, name):
    student = Student.from_pretrained(folder(name), LoraConfig(**ALL_LINEAR), network="generic", dtype="bfloat16")
    assert len(student.answer(student.zero(), [["Otrar"]], max_new_tokens=2)[0]) == 1


# Dropout while gradients are recomputed -----------------------------------------------------------------------------------


def test_checkpointing_leaves_dropout_off_and_gradients_as_they_are(tmp_path):
    folder = save_tiny(tmp_path, "gpt2", **GPT, n_positions=512)  # resid_pdrop, attn_pdrop and others are 0.1
    gradients = []
    for checkpointing in (False, True):
        policy = Policy.from_pretrained(
            folder, LoraConfig(**ALL_LINEAR), max_new_tokens=6, gradient_checkpointing=checkpointing
        )
        with torch.no_grad():
            policy.adapter.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
        completions = policy.sample(PROMPTS[:2], [0, 1])
        for scores in policy.scores(completions):
            scores.log_probs.sum().backward()
        gradients.append(policy.adapter.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    assert gradients[0].abs().max() > 0


def test_checkpointing_refuses_layers_with_dropout_of_their_own(tmp_path):
    kind, options = ARCHITECTURES["opt"]
    folder = save_tiny(tmp_path, kind, **{**options, "dropout": 0.1})
    with pytest.raises(ValueError, match=r"OPTDecoder\w* has dropout=0.1"):
        Policy.from_pretrained(folder, LoraConfig(**ALL_LINEAR), gradient_checkpointing=True)


# Tokens beyond the embeddings, and tokenizers in Python --------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose tokenizer knows a token that it has no embedding for."""
    folder = save_tiny(tmp_path_factory.mktemp("larger"), "llama", **COMMON)
    tokenizer = Student.from_pretrained(folder).tokenizer
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("network", ["llama", "generic"])
def test_a_token_without_an_embedding_is_a_status_of_the_update_and_an_error_in_a_prompt(larger_tokenizer, network):
    from seal_env import Example

    student = Student.from_pretrained(larger_tokenizer, LoraConfig(**ALL_LINEAR), network=network)
    good, bad = (
        Update([Example("A fine edit.")], UpdateConfig(epochs=2)),
        Update([Example("Say <tool>."), Example("Fine.")], UpdateConfig(epochs=2)),
    )
    result = student.fit([good, bad, good])
    assert [report.status for report in result.reports] == ["trained", "out_of_vocabulary", "trained"]
    assert (result.reports[1].steps, result.reports[1].sequences, result.reports[1].tokens) == (0, 0, 0)
    assert torch.equal(result.adapters[1], student.fresh([bad.seed])[0])
    alone = student.fit([good]).adapters[0]
    torch.testing.assert_close(result.adapters[0], alone, rtol=0, atol=1e-6)
    for call in (
        lambda: student.answer(student.zero(), [["Say <tool>?"]]),
        lambda: student.sample(student.zero(), [[[5, 258]]], seeds=[[0]]),
        lambda: student.log_likelihood(student.zero(), [["Say <tool>?"]], [["yes"]]),
        lambda: student.log_likelihood(student.zero(), [["Say"]], [["<tool>"]]),
    ):
        with pytest.raises(ValueError, match=r"'<tool>' \(id 258\).* 258 tokens"):
            call()


def test_a_python_tokenizer_learns_from_an_offset_as_a_fast_one_does(tmp_path):
    from transformers import ByT5Tokenizer

    from seal_env import Example

    folder = save_tiny(tmp_path, "llama", **{**COMMON, "vocab_size": 400})
    for path in tmp_path.glob("tokenizer*"):
        path.unlink()
    ByT5Tokenizer().save_pretrained(folder)
    student = Student.from_pretrained(folder, LoraConfig(**ALL_LINEAR))
    assert not student.tokenizer.is_fast
    for text, cut in (("Title\nOtrar fell.", 6), ("Über Otrar\nfiel", 11), ("abc", 0), ("äöü", 1)):
        ids, first = student._encode_example(Example(text, loss_from=cut))
        assert student.tokenizer.decode(ids[first:] if cut else ids, skip_special_tokens=True) == text[cut:]
    ids, first = student._encode_example(Example("abc", loss_from=3))
    assert first == len(ids)  # nothing to learn, and the end token that the tokenizer appends is nothing
