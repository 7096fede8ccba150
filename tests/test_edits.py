"""Edit formats: the prompts SEAL's authors recorded, their rules for splitting on all their edits, and bad actions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from statistics import mean, median

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seal_env.chat import without_thoughts
from seal_env.edits import (
    FORMATS,
    EditFormat,
    EditSettings,
    EditStatus,
    get_format,
    parse,
    passage_only,
    segments,
)
from seal_env.tasks import Document, Question, Task
from seal_env.update import Update, UpdateConfig
from tests.shared import RUNS, needs_runs

RECORDS = {  # file: the format of its edits
    "train/rank_iter0.json": "implications",
    "train/rank_iter0_proxy.json": "implications",
    "train/rank_iter0_prompt-rewrite.json": "rewrite",
    "train/rank_iter0_prompt-self-qa.json": "self-qa",
    "eval/base.json": "implications",
    "eval/iter2.json": "implications",
    "eval/naive.json": "implications",  # its prompts and edits are empty: the passage alone was learnt
    "selection/sft_best1of5_iter0.jsonl": "implications",
    "selection/sft_best1of5_iter0_prompt-rewrite.jsonl": "rewrite",
}
TASK = Task("Otrar", "Otrar fell in 1219.", (Question("When did Otrar fall?", ("1219",)),))


@dataclass(frozen=True)
class Record:
    format: str
    task: Task
    prompt: str
    text: str


@cache
def records(file: str) -> tuple[Record, ...]:
    name, text = RECORDS[file], (RUNS / file).read_text(encoding="utf-8")
    if file.endswith(".jsonl"):  # has neither title nor context: they are those of the run that was selected from
        run = "train/rank_iter0_prompt-rewrite.json" if name == "rewrite" else "train/rank_iter0.json"
        tasks = {record.prompt: record.task for record in records(run)}
        rows = map(json.loads, text.splitlines())
        return tuple(Record(name, tasks[row["prompt"]], row["prompt"], row["completion"]) for row in rows)
    return tuple(
        Record(name, Task(article["title"], article["context"], TASK.questions), article["prompt"], completion["text"])
        for article in json.loads(text)["articles"]
        for completion in article["completions"]
    )


def all_records() -> Iterator[Record]:
    for file in RECORDS:
        yield from records(file)


# Prompts


@needs_runs
@pytest.mark.parametrize("file", [file for file in RECORDS if "naive" not in file])
def test_prompts_are_the_recorded_ones_character_by_character(file: str) -> None:
    for record in records(file):
        assert get_format(record.format).prompt(record.task) == record.prompt


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("none", "Passage:\nOtrar\nOtrar fell in 1219.\n\n"),
        (
            "implications-very-long",
            "Let's read the following passage and produce a very long list of implications derived directly or indirectly "
            "from the content.\n\nPassage:\nOtrar\nOtrar fell in 1219.\n\nImplications:\n",
        ),
        (
            "chain-of-thought",
            "Let's read the following passage, think step by step, and then produce a list of implications derived directly or "
            'indirectly from the content. We should first generate a "Thought Process" and then "Implications"\n\n'
            "Passage:\nOtrar\nOtrar fell in 1219.\n\nThought Process:\n",
        ),
    ],
)
def test_prompts_without_records(name: str, prompt: str) -> None:
    assert get_format(name).prompt(TASK) == prompt


@pytest.mark.parametrize("name", FORMATS.names())
def test_an_instruct_model_gets_the_same_request_as_a_message_without_the_cue(name: str) -> None:
    edit_format = get_format(name)
    (message,) = edit_format.messages(TASK)
    assert message["role"] == "user"
    assert f"{message['content']}\n\n{edit_format.cue}" == edit_format.prompt(TASK)


def test_braces_in_a_passage_are_only_braces() -> None:
    task = Task("{title}", "{context} {0} %s", TASK.questions)
    assert "Passage:\n{title}\n{context} {0} %s\n" in get_format("implications").prompt(task)


# Splitting


def oracle(record: Record) -> list[str]:
    """SEAL.md's rules once more, by marks in the text."""
    by_question = "Answer:" in record.text and any(f"Question {n}:" in record.text for n in range(1000))
    text = record.text.replace("---", "\0")
    if by_question:
        for n in range(1000):
            text = text.replace(f"Question {n}:", f"\0Question {n}:")
    else:
        text = text.replace("\n", "\0")
    parts = [part.strip() for part in text.split("\0") if part.strip()]
    if by_question and not parts[0].startswith("Question "):
        parts[0] = "Question 1: " + parts[0]  # the end of the prompt
    if not by_question and [part[:2] for part in parts[1:2]] == ["1."]:
        parts.pop(0)
    if not parts:
        return []
    return [f"{record.task.title}\n{part}" for part in [*parts, record.task.context]]


@needs_runs
def test_an_independent_oracle_agrees_on_every_recorded_edit() -> None:
    seen = 0
    for record in all_records():
        parsed = parse(record.text, record.task, EditSettings(record.format), seed=0)
        assert list(parsed.sequences) == oracle(record), record.text
        assert parsed.status is (EditStatus.OK if record.text else EditStatus.EMPTY)
        seen += 1
    assert seen == 1700


@needs_runs
def test_the_records_hold_every_case_of_the_rules() -> None:
    self_qa = [record.text for record in records("train/rank_iter0_prompt-self-qa.json")]
    by_question = [text for text in self_qa if segments(text, "Question 1: ")[0].startswith("Question 1: ")]
    assert len(by_question) == 24
    rewrites = [record.text for record in records("train/rank_iter0_prompt-rewrite.json")]
    assert sum("---" in text for text in rewrites) == 5
    lines = [[line for line in text.replace("---", "\n").splitlines() if line.strip()] for text in rewrites]
    assert sum(len(segments(text)) < len(of_text) for text, of_text in zip(rewrites, lines)) == 5  # preambles


@needs_runs
@pytest.mark.parametrize(
    ("file", "expected"),
    [  # mean, median, 90th percentile, maximum; SEAL.md's figures are those of the first training round
        ("train/rank_iter0.json", (8.73, 7, 11, 67)),
        ("eval/base.json", (8.57, 7, 11, 57)),
    ],
)
def test_published_statistics_of_sequences_per_edit(file: str, expected: tuple[float, ...]) -> None:
    """8.7 sequences per edit, median 7, p90 11, max 67: ``implications``, 50 passages x 5, the passage counted."""
    counts = sorted(len(parse(r.text, r.task, EditSettings(r.format), seed=0).sequences) for r in records(file))
    statistics = (round(mean(counts), 2), median(counts), counts[int(0.9 * len(counts))], counts[-1])
    assert statistics == pytest.approx(expected, abs=0.005)


@needs_runs
def test_without_split_newlines_the_joint_update_has_its_recorded_1200_sequences() -> None:
    recorded = json.loads((RUNS / "eval/cpt_full_iter2_200.json").read_text(encoding="utf-8"))
    assert recorded["args"]["split_newlines"] is False
    joint = EditSettings(split_newlines=False)
    counts = [len(parse(r.text, r.task, joint, seed=0).sequences) for r in records("eval/iter2.json")]
    assert set(counts) == {2}  # the edit and the passage
    assert len(counts) * (recorded["k_completions"] + 1) == recorded["train_sequences"] == 1200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. a\n\n  2. b  \n", ["1. a", "2. b"]),
        ("Sure:\n\n1. a\n2. b", ["1. a", "2. b"]),
        ("Sure:\n---\n1. a", ["1. a"]),
        ("Sure:\n2. a", ["Sure:", "2. a"]),
        ("1. a", ["1. a"]),
        ("a---b\r\nc", ["a", "b", "c"]),
        ("When?\nAnswer: 1219\n\nQuestion 2: Who?\n", ["Question 1: When?\nAnswer: 1219", "Question 2: Who?"]),
        ("Question 1: When? Answer: 1219 Question 2: Who?", ["Question 1: When? Answer: 1219", "Question 2: Who?"]),
        ("When?\nAnswer 1: 1219\nQuestion 2: Who?", ["When?", "Answer 1: 1219", "Question 2: Who?"]),
        ("---\n \n------", []),
    ],
)
def test_the_rules_by_example(text: str, expected: list[str]) -> None:
    assert segments(text, opening="Question 1: ") == expected


def test_whole_pieces_without_split_newlines() -> None:
    assert segments("a\nb\n---\nQuestion 1: c\nAnswer: d", split_newlines=False) == ["a\nb", "Question 1: c\nAnswer: d"]


@pytest.mark.parametrize("heading", ["Implications:", "**Implications:**", "## Implications: "])
def test_thoughts_are_not_learnt(heading: str) -> None:
    parsed = parse(f"Otrar was a city.\n\n{heading}\n1. It fell.\n", TASK, EditSettings("chain-of-thought"), seed=0)
    assert parsed.sequences == ("Otrar\n1. It fell.", "Otrar\nOtrar fell in 1219.")


THOUGHT = "The user wants facts.\n---\nQuestion 1: which?\nAnswer: those"
EDIT = {"self-qa": "Question 1: When?\nAnswer: 1219", "chain-of-thought": "Otrar was a city.\nImplications:\n1. It fell."}


@pytest.mark.parametrize(
    "tags",
    [
        ("<think>", "</think>"),
        ("<Thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<seed:think>", "</seed:think>"),
    ],
)
@pytest.mark.parametrize("template", ["base", "instruct"])
@pytest.mark.parametrize("name", FORMATS.names())
def test_a_block_of_thoughts_that_opens_an_edit_is_no_part_of_it(name: str, template, tags: tuple[str, str]) -> None:
    opening, closing = tags
    edit, chosen = EDIT.get(name, "1. It fell.\n2. They won."), EditSettings(name, template)
    expected = parse(edit, TASK, chosen, seed=0)
    assert expected.status is EditStatus.OK
    block = f"{opening}\n{THOUGHT}\n{closing}"
    for written in (
        f"{block}\n\n{edit}",
        f"\n {block}{edit}",
        f"{opening}\n\n{closing}\n\n{edit}",
        f"{block}\n\n{block}\n{edit}",
    ):
        assert parse(written, TASK, chosen, seed=0) == expected
    for unfinished in (f"{opening}\n{THOUGHT}", f"{block}\n{opening} {THOUGHT}", f"{block}\n"):
        parsed = parse(unfinished, TASK, chosen, seed=0)
        assert (parsed.status, parsed.sequences) == (EditStatus.EMPTY, ())


@pytest.mark.parametrize(
    ("written", "learnt"),
    [
        ("Let me think.\nIt fell?\n</think>\n\n1. It fell.", ["1. It fell."]),  # the prompt had opened the block
        ("Let me think.</think>\n1. It fell.", ["1. It fell."]),
        ("</think>1. It fell.", ["1. It fell."]),
        ("Hm.\n</think>\n<think>\nStill.\n</think>\n1. It fell.", ["1. It fell."]),
        ("1. It fell.\n<think>And then?</think>\n2. They won.", ["1. It fell.", "2. They won."]),
        ("Sure!\n<think>\nAnd then?\n</think>\n1. It fell.", ["1. It fell."]),
        ("1. It fell.\n<think>\nAnd then?", ["1. It fell."]),
        (
            "1. A <think> tag opens a block.\n2. A </think> tag ends it.",
            ["1. A <think> tag opens a block.", "2. A </think> tag ends it."],
        ),
        ("1. A <think> block ends in </think>.", ["1. A <think> block ends in </think>."]),
    ],
)
def test_an_instruct_models_thoughts_go_wherever_they_stand(written: str, learnt: list[str]) -> None:
    parsed = parse(written, TASK, EditSettings(template="instruct", append_passage=False), seed=0)
    assert list(parsed.sequences) == [f"Otrar\n{segment}" for segment in learnt]


@pytest.mark.parametrize(
    "written",
    [
        "1. The <think> tag of HTML was never standard.\n2. </think> ends it.",
        "1. Models write\n<think>\nsome thoughts\n</think>\nbefore they answer.",
        "1. Thoughts end with </think>\n2. Then the answer begins.",
        "1. <think> is a tag.",
    ],
)
def test_a_base_models_text_about_tags_keeps_them(written: str) -> None:
    parsed = parse(written, TASK, EditSettings(append_passage=False), seed=0)
    assert list(parsed.sequences) == [f"Otrar\n{line}" for line in written.splitlines()]


def test_the_passage_after_thoughts_is_the_passage_alone_and_a_passage_about_tags_is_whole() -> None:
    written = f"<think>\nJust copy it.\n</think>\n\n{TASK.context}"
    assert parse(written, TASK, EditSettings(), seed=0) == passage_only(TASK, EditSettings(), seed=0)
    html = Document("Tags", "<think>\nThis opens a block.", "tags")
    assert parse(html.context, html, EditSettings(), seed=0) == passage_only(html, EditSettings(), seed=0)


def test_thoughts_do_not_count_as_characters_of_the_edit() -> None:
    parsed = parse(f"<think>{'hm ' * 99}</think>abc", TASK, EditSettings(max_characters=5), seed=0)
    assert (parsed.status, parsed.sequences[0]) == (EditStatus.OK, "Otrar\nabc")


@pytest.mark.parametrize("template", ["base", "instruct"])
@pytest.mark.parametrize(
    "unit",
    ["<think>", "</think>", "<think></think>", "a<think>", "a</think>", "\n<think>a", "<think>\n</think>\na\n", " </think> \n"],
)
def test_megabytes_of_tags_are_read_in_linear_time(unit: str, template) -> None:
    def seconds(characters: int) -> float:
        begun = time.process_time()
        without_thoughts(unit * (characters // len(unit)), template)
        return time.process_time() - begun

    assert seconds(2**21) < 24 * max(seconds(2**18), 0.01)


def test_only_a_base_models_prompt_opens_the_first_question() -> None:
    text = "When?\nAnswer: 1219\nQuestion 2: Who?\nAnswer: They"
    assert parse(text, TASK, EditSettings("self-qa"), seed=0).sequences[0] == "Otrar\nQuestion 1: When?\nAnswer: 1219"
    assert parse(text, TASK, EditSettings("self-qa", template="instruct"), seed=0).sequences[0] == "Otrar\nWhen?\nAnswer: 1219"
    assert parse(text, TASK, EditSettings("implications"), seed=0).sequences[0] == "Otrar\nWhen?\nAnswer: 1219"


# Settings and updates


def test_the_defaults_are_the_papers() -> None:
    update = parse("a\nb", TASK, EditSettings(), seed=3).update
    assert update == Update(update.examples, seed=3)
    assert (update.config.epochs, update.config.learning_rate, update.config.batch_size, update.config.schedule) == (
        10,
        1e-3,
        1,
        "linear",
    )
    assert [example.text for example in update.examples] == ["Otrar\na", "Otrar\nb", "Otrar\nOtrar fell in 1219."]
    assert {example.loss_from for example in update.examples} == {0}  # the title line is learnt, too


def test_settings_reach_the_update() -> None:
    config = UpdateConfig("adamw", {}, 0.1, 2, 4, "cosine", 1, 2.0, 0.5, 9, False)
    settings = EditSettings(append_passage=False, update_config=config)
    update = parse("a", TASK, settings, seed=7).update
    assert [example.text for example in update.examples] == ["Otrar\na"]
    assert update == Update(update.examples, config, seed=7)
    flat = {f.name: getattr(config, f.name) for f in fields(config)}
    assert EditSettings().with_options(append_passage=False, **flat) == settings


@pytest.mark.parametrize(("text", "expected"), [("a\nb\nc", [4] * 10), ("", [])])
def test_batch_size_zero_trains_on_all_sequences_in_one_step(text: str, expected: list[int]) -> None:
    update = parse(text, TASK, EditSettings().with_options(batch_size=0), seed=0).update
    assert [len(step) for step in update.steps(len(update.examples))] == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"format": "implication"}, "no edit format 'implication'. Did you mean 'implications'"),
        ({"template": "chat"}, "template must be one of base, instruct, got 'chat'"),
        ({"split_newlines": "false"}, "split_newlines must be True or False, got 'false'"),
        ({"max_characters": 0}, "max_characters must be an integer >= 1, got 0"),
        ({"max_sequences": -1}, "max_sequences must be an integer >= 1, got -1"),
        ({"batch_size": -1}, "batch_size must be an integer >= 0, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"schedule": "step"}, "schedule must be one of"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EditSettings().with_options(**wrong)


def test_the_passage_alone_is_a_baseline_of_its_own() -> None:
    alone = passage_only(TASK, EditSettings(append_passage=False), seed=5)
    assert alone.sequences == ("Otrar\nOtrar fell in 1219.",)
    assert (alone.status, alone.update.seed, len(alone.update.examples)) == (EditStatus.OK, 5, 1)


# Bad actions


@pytest.mark.parametrize("action", ["", " \n\t\u00a0\u2028", "---", "\n---\n---  \n"])
def test_an_edit_without_text_trains_on_nothing_not_even_the_passage(action: str) -> None:
    parsed = parse(action, TASK, EditSettings(append_passage=True), seed=0)
    assert (parsed.status, parsed.sequences, parsed.update.examples) == (EditStatus.EMPTY, (), ())


@pytest.mark.parametrize("action", [None, 3, 0.5, b"1. a", ["1. a"], {"text": "1. a"}, object()])
def test_what_is_not_text_trains_on_nothing(action: object) -> None:
    parsed = parse(action, TASK, EditSettings(), seed=0)
    assert (parsed.status, parsed.sequences, parsed.update.examples) == (EditStatus.NOT_TEXT, (), ())


def test_a_long_edit_is_cut_and_says_so() -> None:
    parsed = parse("abc\ndef", TASK, EditSettings(max_characters=5), seed=0)
    assert parsed.status is EditStatus.TOO_LONG
    assert parsed.sequences == ("Otrar\nabc", "Otrar\nd", "Otrar\nOtrar fell in 1219.")
    assert parse("abc\nd", TASK, EditSettings(max_characters=5), seed=0).status is EditStatus.OK


def test_too_many_segments_are_dropped_and_counted() -> None:
    parsed = parse("a\nb\nc\nd", TASK, EditSettings(max_sequences=3), seed=0)
    assert (parsed.status, parsed.dropped) == (EditStatus.TOO_MANY, 1)
    assert parsed.sequences == ("Otrar\na", "Otrar\nb", "Otrar\nc", "Otrar\nOtrar fell in 1219.")


@pytest.mark.parametrize(
    "unit", ["a", "é🦭", "\n", " ", "---\n", "-\n", "#", "\0", "\ud800", "Question 1:", "Answer:\nQuestion ", "1.\n"]
)
@pytest.mark.parametrize("name", ["implications", "chain-of-thought"])
def test_a_megabyte_of_anything_is_read(name: str, unit: str) -> None:
    text = unit * (2**20 // len(unit))
    parsed = parse(text, TASK, EditSettings(name), seed=0)
    assert parsed.status is (EditStatus.EMPTY if unit in ("\n", " ", "---\n") else EditStatus.TOO_LONG)
    assert len(parsed.sequences) <= 257


@pytest.mark.parametrize(
    ("written", "learnt"),
    [("a\ud800b", "a\ufffdb"), ("\ud83e\uddad", "🦭"), ("🦭\0", "🦭\0"), ("\udc00", "\ufffd"), ("x\ud800", "x\ufffd")],
)
def test_every_sequence_can_be_written_as_utf8(written: str, learnt: str) -> None:
    assert parse(written, TASK, EditSettings(), seed=0).sequences[0] == f"Otrar\n{learnt}"


ANYTHING = st.characters(exclude_categories=())  # surrogates included
MARKS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "---",
        "\n",
        "\r\n",
        "\u2028",
        "1.",
        "Question 1:",
        "Question 22:",
        "Answer:",
        "Implications:",
        "**",
    ]
)
TEXTS = st.lists(st.text(ANYTHING, max_size=20) | MARKS, max_size=30).map("".join)


@settings(deadline=None, max_examples=300)
@given(
    text=TEXTS,
    name=st.sampled_from(FORMATS.names()),
    template=st.sampled_from(["base", "instruct"]),
    by_line=st.booleans(),
    passage=st.booleans(),
    most=st.integers(1, 5),
)
@example(text="\ud800", name="self-qa", template="base", by_line=True, passage=True, most=1)
def test_any_text_gives_sound_sequences(text: str, name: str, template, by_line: bool, passage: bool, most: int) -> None:
    chosen = EditSettings(name, template, split_newlines=by_line, append_passage=passage, max_sequences=most)
    parsed = parse(text, TASK, chosen, seed=1)
    assert parsed == parse(text, TASK, chosen, seed=1)
    assert tuple(example.text for example in parsed.update.examples) == parsed.sequences
    assert (parsed.status is EditStatus.EMPTY) == (not parsed.sequences)
    assert (parsed.status is EditStatus.TOO_MANY) == (parsed.dropped > 0)
    for sequence in parsed.sequences:
        title, newline, segment = sequence.partition("\n")
        assert (title, newline) == ("Otrar", "\n")
        assert segment.strip() == segment != ""
        sequence.encode()
    if parsed.sequences:
        assert len(parsed.sequences) <= most + passage
        assert (parsed.sequences[-1] == "Otrar\nOtrar fell in 1219.") or not passage


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_splitting_loses_only_blanks_separators_and_a_preamble(text: str) -> None:
    learnt = "".join("".join(segments(text)).split())
    written = "".join("".join(text.split("---")).split())
    assert written.endswith(learnt)
    starts = [text.find(segment) for segment in segments(text)]
    assert all(start >= 0 for start in starts)


@given(lines=st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=1))
def test_plain_lines_come_out_as_they_went_in(lines: list[str]) -> None:
    assert segments("\n".join(lines)) == [line.strip() for line in lines]


# Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FORMATS, "_entries", dict(FORMATS._entries))


def test_the_papers_formats_are_there() -> None:
    expected = ("implications", "implications-long", "implications-very-long", "rewrite", "self-qa", "chain-of-thought", "none")
    assert tuple(FORMATS) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("self_qa", r"no edit format 'self_qa'\. Did you mean 'self-qa'\? There are: implications, .*, none"),
        ("implications-verylong", r"Did you mean 'implications-very-long'\?"),
        ("zzz", r"no edit format 'zzz'\. There are: implications, "),
        (None, r"edit format None is no EditFormat: None\. There are: implications, "),
        (["rewrite"], r"edit format \['rewrite'\] is no EditFormat: .*\. There are: implications, "),
    ],
)
def test_an_unknown_format_is_answered_with_what_exists(name, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_format(name)


def test_a_format_of_ones_own(registry: None) -> None:
    def sentences(text: str, opening: str, split_newlines: bool) -> list[str]:
        return [f"{opening}{sentence}" for sentence in text.split(".")]

    mine = EditFormat("Say it simply.", "Simply: ", sentences)
    FORMATS.register("sentences", mine)
    assert get_format("sentences") is get_format(mine) is mine
    assert FORMATS.names()[-1] == "sentences"
    assert mine.prompt(TASK) == "Say it simply.\n\nPassage:\nOtrar\nOtrar fell in 1219.\n\nSimply: "
    parsed = parse("It fell. They won", TASK, EditSettings("sentences", append_passage=False), seed=0)
    assert parsed.sequences == ("Otrar\nSimply: It fell", "Otrar\nSimply:  They won")


def test_wrong_formats_are_refused(registry: None) -> None:
    with pytest.raises(ValueError, match="the edit format 'rewrite' exists already"):
        FORMATS.register("rewrite", EditFormat("Rewrite it."))
    with pytest.raises(ValueError, match="edit format 'mine' is no EditFormat: 3"):
        FORMATS.register("mine", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="edit format: the name must be a non-empty string without a colon, got ' '"):
        FORMATS.register(" ", EditFormat())
    with pytest.raises(ValueError, match="split must be a function"):
        EditFormat(split="lines")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="template must be one of base, instruct, got 'chat'"):
        get_format("rewrite").prompt(TASK, "chat")  # type: ignore[arg-type]
