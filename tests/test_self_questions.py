"""Questions that a model writes: how they are parsed, which are kept, and an evaluation made of them end to end."""

from __future__ import annotations

import json
import random
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from seal_env import Student
from seal_env.chat import Template
from seal_env.domains.self_questions import (
    Agreed,
    NoQuestions,
    QuestionWriter,
    SelfQuestions,
    distinct,
    parse_pairs,
    reorderings,
    settle,
    usable_questions,
    write_questions,
)
from seal_env.edits import get_format
from seal_env.tasks import Document, Question, Task, load_tasks, open_book_prompt, question_prompt

OTRAR = Document("Otrar", "Otrar fell in 1219. The Shah fled east.", "otrar.md")
TARA = Document("Tara", "Tara has 40 gates. Its king is Erc.", "tara.txt")
DULL = Document("Dull", "Nothing is known of it.", "dull.md")

# What a model writes


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Question 1: When?\nAnswer: 1219\nQuestion 2: Who?\nAnswer: The Shah.", [("When?", "1219"), ("Who?", "The Shah")]),
        (
            "Question 1: When?\nAnswer 1: 1219\n\nQuestion 2: Who?\nAnswer 2: The Shah",
            [("When?", "1219"), ("Who?", "The Shah")],
        ),
        ("Question: When? Answer: 1219 Question: Who? Answer: Erc", [("When?", "1219"), ("Who?", "Erc")]),
        ("1. **Question:** When?\n   **Answer:** 1219\n2. **Question:** Who?", [("When?", "1219")]),
        ("**Question 1:** When?\n**Answer**: *1219*\n", [("When?", "1219")]),
        ("Q1: When\n did it fall?\nA1: 1219\nand more\nQ: Who?\nA: Erc", [("When did it fall?", "1219"), ("Who?", "Erc")]),
        ('Question 1: Which?\nAnswer: "The Paper Needle"', [("Which?", "The Paper Needle")]),
        ("Question 1: When?\nQuestion 2: Who?\nAnswer: Erc\nAnswer: Ana", [("Who?", "Erc")]),
        ("Question 1: When?\nAnswer:\nQuestion 2: Who?\nAnswer:", [("When?", ""), ("Who?", "")]),
        ("Vitamin A: it is a vitamin. FAQ: none", []),
        ("\x00🙂\ud800", []),
        ("", []),
    ],
)
def test_pairs_are_read_from_what_models_write(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_pairs(text) == pairs


def test_pairs_are_read_in_linear_time() -> None:
    for text in ("* _#>-", "\n", "Question ", "Q", "Answer*"):
        assert parse_pairs(text * 50_000) == []
    assert len(parse_pairs("Question 1: Who?\nAnswer: Erc\n" * 20_000)) == 20_000


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When did Otrar fall", "1219"),  # no question
        ("What does the passage say of 1219?", "fell"),
        ("When did Otrar fall?", ""),
        ("When did Otrar fall?", " The "),  # nothing after normalization
        ("When did Otrar fall?", "1220"),  # not in the passage
        ("When did Otrar fall?", "19"),  # only inside a number
        ("Who was it who fled east?", "The Shah fled east"),  # too long
        ("Which way, east or west?", "east"),  # the question says it
        ("What fell?", "Otrar"),  # the title says it
        ("Who fled, and " + "when " * 10 + "?", "1219"),  # too long
        ("", "1219"),
    ],
)
def test_an_unusable_question_is_dropped(question: str, answer: str) -> None:
    settings = SelfQuestions(max_question=40, max_answer=12)
    assert usable_questions([(question, answer)], OTRAR, settings) == {}


def test_pronouns_yes_and_no_are_no_answers() -> None:
    document = Document("Otrar", "No, it fell. Yes, they knew.")
    pairs = [("Did it stand?", "No"), ("Did they know?", "Yes."), ("What fell?", "it"), ("Who knew?", "They")]
    assert usable_questions(pairs, document, SelfQuestions()) == {}


def test_equal_questions_are_one_and_keep_every_answer() -> None:
    pairs = [("When did Otrar fall?", "1219"), ("when did  otrar fall ?", "In 1219"), ("When did Otrar fall?", "east")]
    pairs += [("Who fled?", "the shah"), ("When did Otrar fall?", "1219")]
    usable = usable_questions(pairs, OTRAR, SelfQuestions())
    assert usable == {"When did Otrar fall?": ["1219", "In 1219", "east", "1219"], "Who fled?": ["the shah"]}


def test_questions_may_be_in_a_script_without_spaces() -> None:
    document = Document("訛答剌", "訛答剌在1219年陷落。沙阿向東逃。")
    pairs = [("訛答剌何時陷落？", "1219年"), ("誰向東逃？", "沙阿")]  # noqa: RUF001
    assert list(usable_questions(pairs, document, SelfQuestions())) == [question for question, _ in pairs]
    assert len(set(reorderings(document.context, 20, seed=0))) == 3  # as it is, and two sentences in both orders


# What is kept


def test_a_clear_majority_that_says_what_was_written_settles_a_question() -> None:
    agreed = settle("Who fled?", ["the Shah", "Shah", "nobody"], ["The Shah", "The Shah.", "shah", "the Shah", "1219"], 0.75)
    assert agreed == Agreed("Who fled?", ("the Shah", "Shah", "The Shah", "The Shah.", "shah"), 0.8, 2)
    assert settle("Who fled?", ["Shah"], ["The Shah", "The Shah", "1219", "1219", "Shah"], 0.75) is None  # 3 of 5
    assert settle("Who fled?", ["nobody"], ["The Shah"] * 5, 0.75) is None  # agreed, but not what was written
    assert settle("Who fled?", ["nobody"], [""] * 5, 0.75) is None


def test_one_question_an_answer_with_the_strongest_agreement_first() -> None:
    weak, strong = Agreed("When?", ("1219",), 0.8, 3), Agreed("Which year?", ("1219",), 1.0, 1)
    often, rare = Agreed("Who?", ("Shah",), 0.8, 4), Agreed("Where to?", ("east",), 0.8, 1)
    assert distinct([weak, rare, strong, often]) == [strong, often, rare]


def test_the_gold_answer_is_a_form_that_stands_in_the_passage() -> None:
    question = Agreed("Who fled?", ("the shah", "Shah."), 1.0, 1).located("Otrar fell. The Shah. East.")
    assert question == Question("Who fled?", ("Shah.", "the shah"), 16, self_written=True)
    assert Agreed("When?", ("12",), 1.0, 1).located("In 1219 or 12.") == Question("When?", ("12",), 11, self_written=True)
    assert Agreed("Who fled?", ("SHAH",), 1.0, 1).located("The Shah.").answer_start is None


def test_the_first_reading_is_the_passage_and_the_others_reorder_its_sentences() -> None:
    first, *others = reorderings("Otrar fell in 1219. Did it burn? It did!\n\nThe Shah fled east.", 6, seed=3)
    assert first == "Otrar fell in 1219. Did it burn? It did!\n\nThe Shah fled east."
    assert len(set(others)) > 2
    assert {tuple(sorted(other.split())) for other in others} == {tuple(sorted(first.split()))}
    assert reorderings(first, 6, seed=3) == [first, *others] != reorderings(first, 6, seed=4)


# End to end, on a model that learnt three passages by heart

PAIRS = {
    OTRAR: [("When did Otrar fall?", "1219"), ("Where did the Shah flee?", "east")],
    TARA: [("How many gates has Tara?", "40"), ("Who is king of Tara?", "Erc")],
    DULL: [("Who knows it?", "Nobody")],
}
KNOWN = "Erc"  # answered without the passage, too


# A model with this template ends the assistant's turn with its end token, so that it is taken for an instruct model.
CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
THOUGHTS = "<think>\nWhy?\n</think>\n"  # what the instruct model was taught to begin with, and a line break


def lessons(template: Template = "base") -> list[tuple[str, str]]:
    """What the model is to write after which prompt."""
    examples = []
    for document, pairs in PAIRS.items():
        text = "\n".join(f"Question {i}: {q}\nAnswer: {a}" for i, (q, a) in enumerate(pairs, 1))
        opening = get_format("self-qa").opening(template)
        examples.append((get_format("self-qa").prompt(document, template), text.removeprefix(opening)))
        for question, answer in pairs:
            contexts = sorted(set(reorderings(document.context, 8, seed=0)))
            examples += [(open_book_prompt(document.title, context, question, template), answer) for context in contexts]
            examples.append((question_prompt(document.title, question, template), answer if answer == KNOWN else "Who knows"))
    return examples if template == "base" else [(prompt, THOUGHTS + text) for prompt, text in examples]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small Llama that was trained on :func:`lessons`."""
    return trained(tmp_path_factory.mktemp("writer"), "base")


def trained(folder: Path, template: Template) -> str:
    taught = lessons(template)
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words.train_from_iterator(
        [prompt + text for prompt, text in taught] * 5,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    if template == "instruct":
        tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    llama = LlamaForCausalLM(config)
    ids, labels = [], []
    for prompt, text in taught:
        turn = [{"role": "user", "content": prompt}]
        read = tokenizer(prompt)["input_ids"]
        if template == "instruct":
            read = tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
        learnt = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids.append(torch.tensor(read + learnt))
        labels.append(torch.tensor([-100] * len(read) + learnt))
    batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    targets = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    optimizer = torch.optim.AdamW(llama.parameters(), lr=5e-3)
    for _ in range(300):
        loss = llama(input_ids=batch, labels=targets).loss
        if loss.item() < 6e-3:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def student(model: str) -> Student:
    return Student.from_pretrained(model)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for document in (DULL, OTRAR, TARA):
        heading = f"# {document.title}\n\n" if document.id.endswith(".md") else ""
        (folder / document.id.capitalize()).write_text(heading + document.context + "\n", encoding="utf-8")
    return folder


def test_a_model_writes_its_own_questions(student: Student) -> None:
    task = QuestionWriter(student).task(OTRAR)
    assert task == Task(
        "Otrar",
        OTRAR.context,
        (
            Question("When did Otrar fall?", ("1219",), 14, "otrar.md-0", self_written=True),
            Question("Where did the Shah flee?", ("east",), 34, "otrar.md-1", self_written=True),
        ),
        "otrar.md",
    )
    assert task.label_free and not Task("Otrar", OTRAR.context, (Question("When?", ("1219",)),)).label_free
    assert len(QuestionWriter(student, SelfQuestions(count=1)).task(OTRAR).questions) == 1


def test_an_instruct_model_writes_them_through_its_chat_template(student: Student, tmp_path: Path) -> None:
    instruct = Student.from_pretrained(trained(tmp_path, "instruct"))
    writer = QuestionWriter(instruct)
    assert writer.template == "instruct"
    for document in (OTRAR, TARA):
        assert writer.task(document) == QuestionWriter(student).task(document)
    with pytest.raises(NoQuestions, match=r"'dull.md'"):
        writer.task(DULL)


def test_what_the_model_knows_already_is_asked_only_where_it_knows_all(student: Student) -> None:
    assert [question.answers[0] for question in QuestionWriter(student).task(TARA).questions] == ["40"]
    writer = QuestionWriter(student)
    (left,) = writer.choose(TARA, [pair for pair in PAIRS[TARA] if pair[1] == KNOWN])
    assert left.answers == (KNOWN,)


def test_a_document_without_usable_questions_is_named_with_what_would_work(student: Student) -> None:
    writer = QuestionWriter(student)
    with pytest.raises(NoQuestions, match=r"'dull.md': the model wrote \d+ questions.*NAME.questions.json.*larger model"):
        writer.task(DULL)
    long = Document("Long", "word " * 600, "long.txt")
    with pytest.raises(NoQuestions, match=r"'long.txt': a prompt of \d+ tokens leaves no room.*shorter passages"):
        writer.task(long)


def test_questions_depend_on_neither_random_state_nor_what_else_was_asked(model: str, student: Student) -> None:
    writer, other = QuestionWriter(student), QuestionWriter(Student.from_pretrained(model))
    torch.manual_seed(1)
    states = random.getstate(), torch.get_rng_state()
    first = [writer.task(document) for document in (OTRAR, TARA)]
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    torch.manual_seed(2)
    assert [other.task(document) for document in (TARA, OTRAR)] == first[::-1]


def test_samples_of_another_seed_are_others_and_more_samples_keep_the_first(model_path) -> None:
    student = Student.from_pretrained(model_path("llama"))
    short = {"writing_tokens": 600}
    two, three, other = (
        QuestionWriter(student, SelfQuestions(**options, **short)).write(OTRAR)
        for options in ({"samples": 2}, {"samples": 3}, {"samples": 2, "seed": 1})
    )
    assert three[:2] == two and len(set(three + other)) == 5
    assert all(text.startswith("Question 1: ") for text in two)


def test_an_instruct_model_is_asked_by_its_chat_template(student: Student) -> None:
    instruct = SelfQuestions(template="instruct")
    with pytest.raises(ValueError, match="needs a tokenizer with a chat template"):
        QuestionWriter(student, instruct)
    tokenizer = student.tokenizer
    tokenizer.chat_template = "<s>{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    try:
        prompt, opening = QuestionWriter(student, instruct).prompt(OTRAR)
        text = tokenizer.decode(prompt)
        assert opening == "" and text.startswith("<s>[Let's read the following passage") and text.endswith("east.]")
    finally:
        tokenizer.chat_template = None


# In the environment

SMALL = {"lora": {"r": 2, "lora_alpha": 4}, "inner_loop": {"epochs": 1, "batch_size": 0}, "max_new_tokens": 8}


def test_a_folder_without_questions_is_an_environment_whose_reward_is_marked(model: str, notes: Path) -> None:
    keywords = {"dataset": str(notes), "model": model, "self_questions": {"count": 2, "samples": 3}, **SMALL}
    env = gym.make("SEAL-SQuAD-v0", **json.loads(json.dumps(keywords)))
    seen = set()
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        assert info["label_free"] is True
        _, reward, _, _, step = env.step("Otrar fell in 1219.")
        assert step["label_free"] is True and 0 <= reward <= 1
        seen.add(info["title"])
        again = gym.make("SEAL-SQuAD-v0", **keywords)
        assert again.reset(seed=seed)[1] == info and again.step("Otrar fell in 1219.")[4]["questions"] == step["questions"]
    assert seen == {"Otrar", "Tara"}  # nothing can be asked about the third
    with pytest.warns(UserWarning):
        check_env(env.unwrapped, skip_render_check=True)


def test_a_barren_document_is_passed_over_when_drawn_and_refused_when_asked_for(model: str, notes: Path) -> None:
    env = gym.make_vec("SEAL-SQuAD-Corpus-v0", num_envs=2, updates_per_episode=2, dataset=str(notes), model=model, **SMALL)
    _, info = env.reset(seed=0)
    assert [set(indices) for indices in info["task_indices"]] == [{1, 2}] * 2 and info["label_free"].all()
    with pytest.raises(NoQuestions, match=r"'Dull\.md'"):
        env.reset(options={"tasks": [[0, 1], [1, 2]]})
    more = gym.make("SEAL-SQuAD-Corpus-v0", updates_per_episode=3, dataset=str(notes), model=model, **SMALL)
    with pytest.raises(ValueError, match=r"needs 3 passages, the model .* found questions for 2 of the 3 in 'notes'"):
        more.reset(seed=0)
    with pytest.raises(ValueError, match=r"found none for 1 of its 1 documents: put them beside each.*: document '\w+\.\w+"):
        gym.make("SEAL-SQuAD-v0", dataset=str(notes / "Dull.md"), model=model, **SMALL)


def test_the_questions_stay_the_same_when_other_weights_are_loaded(model: str, notes: Path) -> None:
    keywords = {"dataset": str(notes), "model": model, "self_questions": {"seed": 3}, **SMALL}
    env = gym.make("SEAL-SQuAD-v0", **keywords)
    weights = {name: torch.zeros_like(value) for name, value in env.unwrapped.engine.student.model.state_dict().items()}
    env.unwrapped.load_student(weights)
    env.reset(options={"task": 2})  # nobody was asked about this one before
    _, reward, _, _, info = env.step("")
    assert [row["gold"] for row in info["questions"]] == ["40"] and reward == 0


def test_questions_of_a_person_are_not_marked(model: str, notes: Path) -> None:
    (notes / "Otrar.questions.json").write_text('[{"question": "Who fled?", "answer": "The Shah"}]', encoding="utf-8")
    env = gym.make("SEAL-SQuAD-v0", dataset=str(notes), model=model, **SMALL)
    assert env.reset(seed=0)[1]["label_free"] is False and env.step("A fact.")[4]["label_free"] is False


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampels": 3}, "self_questions: no option 'sampels'. Did you mean 'samples'"),
        ({"template": "instruct"}, "no option 'template'"),
        ({"count": 0}, "count must be an integer >= 1, got 0"),
        ({"samples": True}, "samples must be an integer >= 1, got True"),
        ({"agreement": 0.5}, "agreement must be above 0.5 and at most 1, got 0.5"),
        ({"agreement": "high"}, "got 'high'"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        (7, "self_questions must be a dictionary of count"),
        ({"count": 3}, "does not apply to dataset='almanac', which has questions"),
    ],
)
def test_settings_that_cannot_work_are_named(model_path, settings, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        gym.make("SEAL-SQuAD-v0", model=model_path("llama"), self_questions=settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


# On disk


def test_questions_are_written_beside_documents_and_read_back_marked(student: Student, notes: Path) -> None:
    written = write_questions(notes, student)
    assert written == [notes / "Otrar.questions.json", notes / "Tara.questions.json"]
    assert json.loads(written[1].read_text(encoding="utf-8")) == [
        {"question": "How many gates has Tara?", "answers": ["40"], "self_written": True}
    ]
    source = load_tasks(notes)
    assert [(task.id, task.label_free) for task in source] == [("Otrar.md", True), ("Tara.txt", True)]
    assert source[0].questions[0] == Question("When did Otrar fall?", ("1219",), None, "Otrar.md-0", self_written=True)

    corrected = [{"question": "How many gates has Tara?", "answers": ["40", "forty"], "self_written": False}]
    written[1].write_text(json.dumps(corrected), encoding="utf-8")
    written[0].unlink()
    assert write_questions(notes / "Otrar.md", student) == written[:1]
    assert [task.label_free for task in load_tasks(notes)] == [True, False]
    assert not [path for path in notes.iterdir() if path.name.startswith(".")]
    assert write_questions(notes, student) == []
    with pytest.raises(ValueError, match=r"no question for any of 1 documents, the last being document 'Dull.md'"):
        write_questions(notes / "Dull.md", student)


def test_folders_that_cannot_be_written_to_say_why(student: Student, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder must be a folder of documents or one"):
        write_questions(tmp_path / "nowhere", student)
    with pytest.raises(ValueError, match="holds no document"):
        write_questions(tmp_path, student)
    for name in ("a.md", "a.txt"):
        (tmp_path / name).write_text(OTRAR.context, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.md and a\.txt would have their questions in one file"):
        write_questions(tmp_path, student)
