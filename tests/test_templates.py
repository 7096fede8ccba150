"""Token ids of prompts, for policies and for students, and the models that are prompted through a chat template."""

from __future__ import annotations

import json
import logging
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest
import torch
import yaml
from peft import LoraConfig
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase

import seal_env.edits
from agents import Policy, get_agent
from agents.saved import open_policy
from agents.seeding import task_seeds
from benchmarks import CONFIGS
from benchmarks.cli import main
from benchmarks.measurements.shapes import byte_tokenizer
from benchmarks.settings import from_mapping
from seal_env import chat
from seal_env.chat import Chat, prompt_ids, resolve_template
from seal_env.domains.self_questions import QuestionWriter, SelfQuestions
from seal_env.edits import EditSettings, get_format, parse
from seal_env.envs import TokenIds
from seal_env.evaluation import ClosedBook
from seal_env.evaluation.graders import Answered, grade
from seal_env.registration import ENVIRONMENTS
from seal_env.student import Student
from seal_env.student.requests import UpdateRequest
from seal_env.tasks import Document, Question, Task, open_book_prompt, question_prompt
from seal_env.update import Example, TokenExample, Update, UpdateConfig
from tests.toy import LORA, SMALL

TASK = Task("Otrar", "Otrar fell in 1219.", (Question("When did it fall?", ("1219",)), Question("What fell?", ("Otrar",))))
NAME = "SEAL-SQuAD-v0"

_TURNS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
_GENERATE = "{% if add_generation_prompt %}[assistant]{% endif %}"
_THINK = (
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TEMPLATES = {
    "plain": _TURNS + _GENERATE,
    "bos": "{{ bos_token }}" + _TURNS + _GENERATE,
    "can think": _TURNS + _THINK,
    "always thinks": _TURNS + _GENERATE.replace("[assistant]", "[assistant]<think>\n"),
    "no system role": "{% for m in messages if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endfor %}"
    + "{{ bos_token }}"
    + _TURNS.replace("m['content']", "m['content'] | trim")
    + _GENERATE,
}
ADDED = {"nothing": "$A", "bos": "<s> $A", "eos": "$A </s>", "both": "<s> $A </s>"}


def tokenizer_that(adds: str, template: str | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer of bytes that adds special tokens to every text; ``byt5``: the Python one, which appends ``</s>``."""
    if adds == "byt5":
        tokenizer = ByT5Tokenizer(bos_token="<extra_id_0>")
    else:
        tokenizer = byte_tokenizer()
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=ADDED[adds], pair="$A $B", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    tokenizer.chat_template = template and TEMPLATES[template]
    return tokenizer


def user_turn(tokenizer: PreTrainedTokenizerBase, message: str, **options) -> list[int]:
    """The ids of a user message from Transformers."""
    turn = [{"role": "user", "content": message}]
    return tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, enable_thinking=False, **options)[
        "input_ids"
    ]


@pytest.fixture(scope="module")
def folder(model_path, tmp_path_factory):
    """``folder(adds, template)``: a small random Llama with such a tokenizer."""
    saved: dict[tuple[str, str | None], str] = {}

    def path(adds: str = "nothing", template: str | None = "plain") -> str:
        if (adds, template) not in saved:
            target = tmp_path_factory.mktemp("model")
            AutoModelForCausalLM.from_pretrained(model_path("toy")).save_pretrained(target)
            tokenizer_that(adds, template).save_pretrained(target)
            saved[adds, template] = str(target)
        return saved[adds, template]

    return path


# Raw text ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Otrar", "", " é🙂\n", "ends in </s>", "<s>begins", "</s>", "lone \ud800"])
@pytest.mark.parametrize("adds", [*ADDED, "byt5"])
def test_a_raw_prompt_has_the_tokens_that_a_tokenizer_prepends_and_not_those_it_appends(adds: str, text: str) -> None:
    tokenizer = tokenizer_that(adds)
    bare = tokenizer(text.replace("\ud800", "?"), add_special_tokens=False)["input_ids"]
    assert prompt_ids(tokenizer, text, "base") == ([0] if adds in ("bos", "both") else []) + bare


def test_all_prompts_go_through_the_same_function() -> None:
    assert seal_env.edits.prompt_ids is seal_env.edits.formats.prompt_ids is chat.prompt_ids


def test_no_prompt_ends_in_an_appended_end_token(folder) -> None:
    path = folder("eos", None)
    student = Student.from_pretrained(path, LoraConfig(r=2))
    ids = student.tokenizer("Otrar fell", add_special_tokens=False)["input_ids"]
    assert student.tokenizer("Otrar fell")["input_ids"] == [*ids, 1]
    answer, ended = ([a.ids for a in student.answer(student.zero(), [[p]], max_new_tokens=6)[0]] for p in (ids, [*ids, 1]))
    assert [a.ids for a in student.answer(student.zero(), [["Otrar fell"]], max_new_tokens=6)[0]] == answer != ended
    sampled = [student.sample(student.zero(), [[p]], seeds=[[3]], max_new_tokens=6)[0][0].ids for p in ("Otrar fell", ids)]
    assert sampled[0] == sampled[1]
    likely = [student.log_likelihood(student.zero(), [[p]], [[" in 1219"]])[0][0] for p in ("Otrar fell", ids, [*ids, 1])]
    assert likely[0] == likely[1] != likely[2]  # ids stay as they are given

    env = gym.make(NAME, model=path, **SMALL)
    observation, _ = env.reset(seed=0)
    expected = student.tokenizer(observation["instruction"], add_special_tokens=False)["input_ids"]
    (completion,) = Policy.from_pretrained(path, LORA, max_new_tokens=2).sample([observation["instruction"]], [0])
    assert list(completion.prompt) == expected
    encoded, _ = TokenIds(gym.make(NAME, model=path, **SMALL), max_observation_tokens=2048).reset(seed=0)
    assert encoded["prompt"][encoded["attention_mask"] == 1].tolist() == expected


def test_a_training_example_keeps_what_the_tokenizer_adds(folder) -> None:
    student = Student.from_pretrained(folder("both", None), LoraConfig(r=2))
    ids = tuple(student.tokenizer("Otrar fell")["input_ids"])
    assert (ids[0], ids[-1]) == (0, 1)
    updates = [
        Update((example,), UpdateConfig(epochs=2))
        for example in (Example("Otrar fell"), TokenExample(ids), TokenExample(ids[:-1]))
    ]
    from_text, from_ids, from_fewer_ids = student.fit(updates).adapters
    assert torch.equal(from_text, from_ids) and not torch.equal(from_text, from_fewer_ids)


# Chats ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("adds", [*ADDED, "byt5"])
def test_every_chat_prompt_is_what_apply_chat_template_gives(adds: str, template: str) -> None:
    tokenizer = tokenizer_that(adds, template)
    messages = [question_prompt("Otrar", question.question, "instruct") for question in TASK.questions]
    prompts = ClosedBook(chat=Chat(tokenizer)).prompts(TASK)
    assert [list(prompt) for prompt in prompts] == [user_turn(tokenizer, message) for message in messages]
    bos = tokenizer.bos_token_id
    assert all(prompt.count(bos) == ("bos_token" in TEMPLATES[template]) for prompt in prompts)
    for message in (
        open_book_prompt("Otrar", "It fell.", "When?", "instruct"),
        get_format("self-qa").prompt(TASK, "instruct"),
    ):
        assert prompt_ids(tokenizer, message, "instruct") == user_turn(tokenizer, message)


def test_questions_to_an_instruct_model_have_no_cue() -> None:
    base, instruct = (question_prompt("Otrar", "When?", template) for template in ("base", "instruct"))
    assert base == f"{instruct}\nAnswer:\n" and instruct.endswith("Topic: Otrar\nWhen?")
    assert open_book_prompt("Otrar", "It fell.", "When?", "instruct") == f"Otrar\nIt fell.\n\n{instruct}"


def test_thinking_is_enabled_only_on_request() -> None:
    tokenizer = tokenizer_that("nothing", "can think")
    off, on = (tokenizer.decode(prompt_ids(tokenizer, "Why?", "instruct", thinks)) for thinks in (False, True))
    assert off == "[user]Why?</s>[assistant]<think>\n\n</think>\n\n" and on == "[user]Why?</s>[assistant]"


def test_a_chat_needs_a_template() -> None:
    with pytest.raises(ValueError, match=r"template='instruct' needs a tokenizer with a chat template.*use template='base'"):
        prompt_ids(byte_tokenizer(), "Why?", "instruct")
    with pytest.raises(ValueError, match="template must be one of base, instruct, got 'auto'"):
        prompt_ids(byte_tokenizer(), "Why?", "auto")  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["plain", "bos", "can think"])
@pytest.mark.parametrize("adds", ADDED)
def test_an_instruct_student_answers_as_generate_does(folder, adds: str, template: str) -> None:
    """Closed-book through an environment, and open-book."""
    path = folder(adds, template)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)

    def generated(message: str) -> list[int]:
        ids = torch.tensor([user_turn(tokenizer, message)])
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[
            0, ids.shape[1] :
        ].tolist()

    env = gym.make(NAME, model=path, **{**SMALL, "max_new_tokens": 12})
    config = env.unwrapped.config
    assert (config.template, config.student_template) == ("instruct", "instruct")
    env.reset(seed=0)
    _, _, _, _, info = env.step("")
    task = env.unwrapped.engine.states[0].last_task
    messages = [question_prompt(task.title, row["question"], "instruct") for row in info["questions"]]
    expected = [tokenizer.decode(generated(message), skip_special_tokens=True).strip() for message in messages]
    assert [row["answer"] for row in info["questions"]] == expected and any(expected)

    student, chat_template = env.unwrapped.engine.student, Chat(tokenizer)
    messages = [open_book_prompt(task.title, task.context, question.question, "instruct") for question in task.questions]
    (answers,) = student.answer(student.zero(), [[chat_template.prompt(message) for message in messages]], max_new_tokens=12)
    assert [[*answer.ids, *([1] if answer.eos else [])] for answer in answers] == [generated(message) for message in messages]


@pytest.mark.parametrize("mode", ["continual", "corpus"])
def test_questions_on_earlier_passages_use_the_chat_template(folder, monkeypatch, mode: str) -> None:
    env = gym.make(NAME, model=folder("both", "bos"), mode=mode, updates_per_episode=3, **SMALL)
    student, prompts = env.unwrapped.engine.student, []
    answer = student.answer
    monkeypatch.setattr(student, "answer", lambda *a, **k: prompts.append(a[1]) or answer(*a, **k))
    env.reset(seed=0)
    tasks = env.unwrapped.engine.states[0].tasks
    for edit in ("One fact.", "Another.", "A third."):
        env.step(edit)
    expected = [
        tuple(user_turn(student.tokenizer, question_prompt(t.title, q.question, "instruct")))
        for t in tasks
        for q in t.questions
    ]
    assert list(prompts[-1][-1]) == expected  # the last adapter answers about all passages
    assert {prompt for groups in prompts for group in groups for prompt in group} == set(expected)


def test_update_requests_can_be_sent_to_workers(folder) -> None:
    """Prompts are plain numbers, and a student on a worker answers them as this one does."""
    outcomes = []
    for on_worker in (False, True):
        env = gym.make(NAME, model=folder("both", "bos"), **SMALL)
        if on_worker:
            env.unwrapped.score_on(ThreadPoolExecutor(1))
        env.reset(seed=0)
        outcomes.append(env.step("One fact.")[4]["questions"])
    assert outcomes[0] == outcomes[1]
    request = UpdateRequest(tuple(env.unwrapped.engine.domain.evaluator.prompts(env.unwrapped.engine.source[0])))
    assert pickle.loads(pickle.dumps(request)) == request
    assert {type(prompt) for prompt in request.prompts} == {tuple} and {
        type(i) for prompt in request.prompts for i in prompt
    } == {int}


# Generated texts ------------------------------------------------------------------------------------------------------


def test_an_instruct_student_may_begin_with_a_line_break_or_thoughts() -> None:
    evaluator = ClosedBook(chat=Chat(tokenizer_that("nothing", "plain")))
    assert evaluator.stop == () and ClosedBook().stop == ("\n",)
    written = ["\n1219", "<think>\nIt fell\nin 1219.\n</think>\n\n1219\n"]
    assert evaluator.answers(TASK, written) == ("1219", "1219")
    assert ClosedBook().answers(TASK, [" 1219", "<think>"]) == ("1219", "<think>")  # a base student's texts keep their tags


def test_thoughts_that_the_template_opens_are_removed_from_an_answer() -> None:
    evaluator = ClosedBook(chat=Chat(tokenizer_that("nothing", "always thinks")))
    assert evaluator.chat is not None and evaluator.chat.opening == "<think>\n"
    assert evaluator.answers(TASK, ["In 1219?\n</think>\n\n1219", "Let me see, it"]) == ("1219", "")


def test_a_student_that_always_thinks_is_logged(folder, caplog) -> None:
    with caplog.at_level(logging.WARNING, "seal_env"):
        gym.make(NAME, model=folder("nothing", "always thinks"), **SMALL)
    assert "begins every answer with '<think>'" in caplog.text


# auto -------------------------------------------------------------------------------------------------------------------

_ENDS_DIFFERENTLY = (
    _TURNS.replace("{{ eos_token }}", "<s>") + _GENERATE
)  # as Qwen2.5-7B: <|im_end|>, and <|endoftext|> ends a text


@pytest.mark.parametrize(
    ("template", "ends", "expected"),
    [
        (None, 1, "base"),
        (TEMPLATES["plain"], 1, "instruct"),
        (TEMPLATES["bos"], [3, 1], "instruct"),
        (TEMPLATES["can think"], None, "instruct"),  # the tokenizer's end token is enough
        (_ENDS_DIFFERENTLY, 1, "base"),
        (_ENDS_DIFFERENTLY, None, "base"),
        (_ENDS_DIFFERENTLY, [1, 0], "instruct"),  # as Llama 3: the generation config has more end tokens
        (TEMPLATES["plain"].replace("{{ eos_token }}", " \n{{ eos_token }}\n"), 1, "instruct"),  # as Llama 2 and Gemma
        (TEMPLATES["plain"].replace("{{ eos_token }}", "\n### "), 1, "base"),
        (TEMPLATES["plain"].replace("{{ eos_token }}", ""), 1, "base"),
        ("{{ raise_exception('not for chats') }}", 1, "base"),
        ("{{ messages[0]['content'] }}", 1, "base"),  # does not render the answer
    ],
)
def test_a_model_is_an_instruct_model_if_its_end_tokens_end_the_assistants_turn(caplog, template, ends, expected: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ends))
    with caplog.at_level(logging.INFO, "seal_env"):
        assert resolve_template("auto", model, tokenizer, "student_template") == expected  # type: ignore[arg-type]
    levels = [record.levelname for record in caplog.records]
    assert levels == ([] if template is None else ["INFO" if expected == "instruct" else "WARNING"])
    if template:
        assert f"student_template='{expected}'" in caplog.text
    caplog.clear()
    for choice in ("base", "instruct"):
        assert resolve_template(choice, model, tokenizer) == choice  # type: ignore[arg-type]
    assert not caplog.records


def test_both_keywords_and_the_policy_resolve_to_the_same_template_and_can_be_set(folder, caplog) -> None:
    with caplog.at_level(logging.INFO, "seal_env"):
        env = gym.make(NAME, model=folder(), **SMALL)
    (line,) = caplog.messages
    assert "template and student_template='instruct'" in line and "'base' prompts it with raw text" in line
    config = env.unwrapped.config
    assert (config.template, config.student_template) == ("instruct", "instruct") and config is env.unwrapped.engine.config
    assert not env.reset(seed=0)[0]["instruction"].endswith("Implications:\n")
    assert Policy.from_pretrained(folder(), LORA).template == "instruct"

    mixed = gym.make_vec(NAME, num_envs=1, model=folder(), template="base", **SMALL)
    assert (mixed.unwrapped.config.template, mixed.unwrapped.config.student_template) == ("base", "instruct")
    assert mixed.reset(seed=0)[0]["instruction"][0].endswith("Implications:\n")
    raw = gym.make(NAME, model=folder(), student_template="base", **SMALL).unwrapped
    assert all(isinstance(prompt, str) for prompt in raw.engine.domain.evaluator.prompts(raw.engine.source[0]))
    # The instruct student answers in sentences and the base student in a word: each gets a suitable grader.
    item = Answered("When was the bridge built?", "The bridge was built in 1874.", ("1874",))
    verdicts = [grade(unwrapped.engine.domain.evaluator.grader, [item])[item] for unwrapped in (env.unwrapped, raw)]
    assert verdicts == [True, False]


def test_bundled_and_published_models_are_base_models() -> None:
    for name, keywords in ENVIRONMENTS.items():
        if "SmolLM2" in name:
            assert not keywords.keys() & {"template", "student_template"}  # the model decides: it is an instruct model
        elif "Qwen" in name:
            assert keywords["template"] == keywords["student_template"] == "base"  # they come with a chat template
        else:
            config = gym.make(name).unwrapped.config
            assert (config.template, config.student_template) == ("base", "base")
    paper = yaml.safe_load((CONFIGS / "paper.yaml").read_text())
    assert paper["env_options"]["template"] == paper["env_options"]["student_template"] == "base"
    assert from_mapping(paper).env_config(training=True).template == "base"


@pytest.mark.parametrize("name", [NAME, "SEAL-ARC-v0"])
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"student_template": "instruct"}, "student_template='instruct' needs a tokenizer with a chat template"),
        ({"student_template": "chat"}, "student_template must be one of auto, base, instruct, got 'chat'"),
        ({"template": "chat"}, "template must be one of auto, base, instruct, got 'chat'"),
        ({"enable_thinking": "yes"}, "enable_thinking must be True, False or None, got 'yes'"),
    ],
)
def test_invalid_templates_raise_an_error_when_the_environment_is_made(name: str, keywords, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        gym.make(name, **keywords)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_policy_without_a_chat_template_is_no_instruct_model(folder) -> None:
    with pytest.raises(ValueError, match="template='instruct' needs a tokenizer with a chat template"):
        Policy.from_pretrained(folder("nothing", None), LORA, template="instruct")


# Policies and environments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["untrained", "best_of_k", "rest_em", "grpo"])
def test_a_policy_must_have_the_template_of_the_environment(folder, agent: str) -> None:
    instruct, base = folder(), folder("nothing", None)
    policies = {kind: Policy.from_pretrained(path, LORA) for kind, path in (("instruct", instruct), ("base", base))}
    envs = {
        kind: gym.make_vec(NAME, num_envs=1, model=path, **SMALL) for kind, path in (("instruct", instruct), ("base", base))
    }
    make = get_agent(agent)
    for kind, other in (("base", "instruct"), ("instruct", "base")):
        make(envs[kind], policies[kind])
        with pytest.raises(
            ValueError, match=f"make the environment with template='{other}'.*student is questioned.*student_template"
        ):
            make(envs[kind], policies[other])
    for kind, other in (("base", "instruct"), ("instruct", "base")):  # policies that write for the other kind of student
        make(
            gym.make_vec(
                NAME, num_envs=1, model=folder(*(("nothing", None) if kind == "base" else ())), template=other, **SMALL
            ),
            policies[other],
        )


def test_agents_that_do_not_use_the_policy_accept_any(folder) -> None:
    env, policy = gym.make_vec(NAME, num_envs=1, model=folder(), **SMALL), Policy.from_pretrained(folder("nothing", None), LORA)
    for name in ("no_update", "passage_only", "oracle"):
        get_agent(name)(env, policy)


def test_a_saved_policy_samples_the_same_texts(folder, tmp_path: Path) -> None:
    path = folder("both", "can think")
    policy = Policy.from_pretrained(path, LORA, enable_thinking=True, max_new_tokens=4)
    policy.save(tmp_path / "policy")
    writing = json.loads((tmp_path / "policy" / "writing.json").read_text())
    assert (writing["template"], writing["enable_thinking"]) == ("instruct", True)
    opened = open_policy(tmp_path / "policy")
    first, again = (saved.sample(["Go on."], [7])[0] for saved in (policy, opened))
    assert first == again and policy.tokenizer.decode(first.prompt) == "[user]Go on.</s>[assistant]"
    off = open_policy(tmp_path / "policy", enable_thinking=False).sample(["Go on."], [7])[0]
    assert off.prompt == tuple(user_turn(policy.tokenizer, "Go on."))


def test_a_tag_that_the_template_opens_is_part_of_the_completion(folder) -> None:
    """If the tokens run out before the thoughts end, only this tag shows that they are thoughts."""
    policy = Policy.from_pretrained(folder("nothing", "always thinks"), LORA, max_new_tokens=4)
    (written,) = policy.sample(["Go on."], [7])
    assert written.text.startswith("<think>\n") and written.finish == "length"
    assert parse(written.text, TASK, EditSettings(template="instruct"), 0).status == "empty"


def test_the_benchmark_passes_the_environments_options_to_its_policy(folder) -> None:
    options = {"model": folder("nothing", "can think"), "lora": {"r": 2}, "enable_thinking": True}
    run = {"env": NAME, "agents": ["untrained"], "env_options": options, "policy": {"lora": {"r": 2}}}
    policy = from_mapping(run).make_policy()
    assert (policy.template, policy.enable_thinking) == ("instruct", True)
    policy = from_mapping({**run, "policy": {"lora": {"r": 2}, "enable_thinking": False, "template": "base"}}).make_policy()
    assert (policy.template, policy.enable_thinking) == ("base", False)


@pytest.mark.parametrize("template", ["plain", None])
def test_adapt_uses_the_template_of_the_model(folder, tmp_path: Path, template: str | None) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "otrar.txt").write_text("Otrar fell in 1219.\n")
    path, out = folder("nothing", template), tmp_path / "adapter"
    small = ["--edit-tokens", "8", "-P", "lora.r=2", "-P", "inner_loop.epochs=1"]
    assert main(["adapt", str(tmp_path / "notes"), "--model", path, "--out", str(out), *small]) == 0
    (line,) = map(json.loads, (out / "edits.jsonl").read_text().splitlines())
    kind: chat.Template = "instruct" if template else "base"
    document = Document(line["title"], line["context"])
    prompt = get_format("implications").prompt(document, kind)
    policy = Policy.from_pretrained(path, max_new_tokens=8)
    assert policy.template == kind and policy.sample([prompt], task_seeds(0, [0], "adapt"))[0].text == line["edit"]


def test_token_ids_are_those_of_the_chat(folder) -> None:
    for options, thinks in (({}, False), ({"enable_thinking": True}, True)):
        text = gym.make(NAME, model=folder("both", "can think"), **options, **SMALL)
        env = TokenIds(text, max_observation_tokens=2048)
        observation, _ = env.reset(seed=0)
        prompt = observation["prompt"][observation["attention_mask"] == 1].tolist()
        assert prompt == prompt_ids(env.tokenizer, text.reset(seed=0)[0]["instruction"], "instruct", thinks)


def test_questions_are_written_through_the_chat_template_by_default(folder) -> None:
    student = Student.from_pretrained(folder("both", "bos"), LoraConfig(r=2))
    document = Document("Otrar", "It fell in 1219.", "otrar")
    prompt, opening = QuestionWriter(student).prompt(document)
    assert list(prompt) == user_turn(student.tokenizer, get_format("self-qa").prompt(document, "instruct")) and opening == ""
    raw, opening = QuestionWriter(student, SelfQuestions(template="base")).prompt(document)
    assert (raw, opening) == (get_format("self-qa").prompt(document), "Question 1: ")


# A real model -----------------------------------------------------------------------------------------------------------

INSTRUCT = os.environ.get("SEAL_ENV_INSTRUCT_MODEL", "")


@pytest.mark.skipif(not INSTRUCT, reason="SEAL_ENV_INSTRUCT_MODEL is not set to the folder of an instruct model")
def test_a_real_instruct_model_answers_open_book_as_generate_does() -> None:
    student = Student.from_pretrained(INSTRUCT, LoraConfig(r=2))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(INSTRUCT, dtype=torch.float32), student.tokenizer
    assert resolve_template("auto", model, tokenizer) == "instruct"
    source = gym.make(NAME).unwrapped.engine.source
    tasks = [source[i] for i in range(4)]
    messages = [open_book_prompt(t.title, t.context, q.question, "instruct") for t in tasks for q in t.questions][:20]
    (answers,) = student.answer(student.zero(), [[Chat(tokenizer).prompt(m) for m in messages]], max_new_tokens=24)
    for message, answer in zip(messages, answers):
        ids = torch.tensor([user_turn(tokenizer, message)])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[
            0, ids.shape[1] :
        ]
        assert [*answer.ids, *([] if answer.eos is None else [answer.eos])] == expected.tolist()
