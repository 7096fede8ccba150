"""A document's title and text are what a reader sees, and a long document is split into passages without loss."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from seal_env.tasks import Document, load_tasks
from seal_env.tasks.folder import read_passages
from seal_env.tasks.markup import parts
from seal_env.tasks.passages import phrase, split, word_count

FELL = "Otrar fell in 1219."


def read(folder: Path, text: str, name: str = "note.md") -> tuple[str, str]:
    """Title and passage of a document of one passage."""
    path = folder / name
    path.write_bytes(text.encode())
    (document,) = read_passages(path)[path]
    return document.title, document.context


def refused(folder: Path, text: str, name: str = "note.md") -> str:
    with pytest.raises(ValueError) as caught:
        read(folder, text, name)
    message = str(caught.value)
    assert message.startswith(str(folder / name)) and "\n" not in message
    return message


# Front matter


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: Fall of Otrar\n# draft, not reviewed\ntags: [history]\n---\n",
        '---\ntitle: "Fall of Otrar"\ndate: 2024-02-29\n...\n',
        "---  \ndescription: |\n  Two lines,\n\n  # and no heading\ntitle: >\n  Fall\n  of Otrar\n---\n",
        "\n\n---\nauthor: {name: Ata}\ntitle:   Fall of Otrar\n---\t\n",
        "+++\ntitle = 'Fall of Otrar'\ntags = ['history']\n[author]\nname = 'Ata'\n+++\n",
        '---\r\ntitle: "Fall of \\u004ftrar"\r\n---\r\n',
        "\ufeff---\ntitle: Fall of Otrar\n---\n",
    ],
)
@pytest.mark.parametrize("name", ["note.md", "note.markdown", "note.txt"])
def test_front_matter_gives_the_title_and_is_not_read(tmp_path: Path, front: str, name: str) -> None:
    assert read(tmp_path, f"{front}\n{FELL}\n", name) == ("Fall of Otrar", FELL)


@pytest.mark.parametrize("title", ["1219", "2024-02-29", "[a, b]", "null", "true", "''", "' '"])
def test_a_title_in_the_front_matter_that_is_no_text_is_none(tmp_path: Path, title: str) -> None:
    front = f"---\ntitle: {title}\n---\n"
    assert read(tmp_path, front + FELL) == ("note", FELL)
    assert read(tmp_path, f"{front}# Otrar\n{FELL}") == ("Otrar", FELL)


def test_front_matter_without_a_title_or_without_anything_is_not_read(tmp_path: Path) -> None:
    assert read(tmp_path, f"---\ntags: [a]\n---\n# Otrar\n\n{FELL}") == ("Otrar", FELL)
    assert read(tmp_path, f"---\n---\n{FELL}") == ("note", FELL)
    assert read(tmp_path, f"+++\n+++\n{FELL}") == ("note", FELL)


def test_an_opening_heading_that_says_more_than_the_front_matter_stays(tmp_path: Path) -> None:
    front = "---\ntitle: Fall of Otrar\n---\n\n"
    assert read(tmp_path, f"{front}# Otrar\n\n{FELL}") == ("Fall of Otrar", f"# Otrar\n\n{FELL}")
    assert read(tmp_path, f"{front}The *fall*  of Otrar\n====\n\n{FELL}")[1].startswith("The *fall*")
    assert read(tmp_path, f"{front}# Fall of *otrar*\n\n{FELL}") == ("Fall of Otrar", FELL)
    assert read(tmp_path, f"{front}{FELL}\n\n# Fall of Otrar") == ("Fall of Otrar", f"{FELL}\n\n# Fall of Otrar")


@pytest.mark.parametrize(
    "text",
    [
        f"---\n{FELL}\n\nMore: of it.",  # never closed
        f"---\ntitle: Otrar\n\n{FELL}",
        f"---\n\n{FELL}\n\n---\n\nMore.",  # text between two
        f"---\n- Otrar\n- Bukhara\n\n---\n\n{FELL}",
        f"---\n\nHe said: it fell: {FELL}\n\n---\n\nMore.",
        f"+++\n{FELL}\n+++\nMore.",
        f"-----\nkey: value\n-----\n\n{FELL}",
        f"{FELL}\n\n---\nkey: value\n\n---\n\nMore.",  # not at the beginning
    ],
)
def test_a_line_across_the_page_is_no_front_matter(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)[1] == read(tmp_path, text, "note.txt")[1] == text


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        ("---\ntitle: Otrar: the fall\n---\n", "not YAML: mapping values are not allowed here (at line 2)"),
        ("\n---\ntags: []\ntitle: 'Otrar\n---\n", "not YAML: found unexpected end of stream (at line 5)"),
        ("---\nwhen: 2024-02-31\n---\n", "not YAML: day is out of range for month"),
        ("---\nwhen: !!python/object/apply:os.getcwd []\n---\n", "not YAML: could not determine a constructor for the tag"),
        ("---\nwhen: !!timestamp soon\n---\n", "not YAML: "),
        ("---\ntitle: " + "[" * 1000 + "\n---\n", "not YAML: maximum recursion depth"),
        ("+++\ntags = []\ntitle = Otrar\n+++\n", "not TOML: Invalid value (at line 3"),
    ],
)
def test_front_matter_that_cannot_be_read_is_an_error_with_file_and_line(tmp_path: Path, front: str, problem: str) -> None:
    for name in ("note.md", "note.txt"):
        assert problem in refused(tmp_path, front + FELL, name)


# Headings


@pytest.mark.parametrize(
    "heading",
    [
        "# The fall of Otrar",
        "   ###### The fall of Otrar   ##  ",
        "#\tThe fall of Otrar",
        "The fall of Otrar\n===",
        "  The fall of Otrar\n   ---  ",
        "The fall\nof Otrar\n-",
        "# *The* [fall](x) of `Otrar`",
        "# __The ~~fall~~__ of [Otrar][there] ![](logo.png)",
        "# The&#32;fall of&nbsp;Otrar <!-- a note --> <span>",
        '# ![The fall](x.png "it") of Otrar',
        "The <b>fall</b><br>of **Otrar**  \n=====",
    ],
)
def test_a_heading_of_either_style_is_the_title_without_its_markup(tmp_path: Path, heading: str) -> None:
    title, context = read(tmp_path, f"\n{heading}\n{FELL}\n\n[there]: http://otrar.example\n")
    assert title.replace("fallof", "fall of") == "The fall of Otrar"
    assert context == f"{FELL}\n\n[there]: http://otrar.example"


def test_a_heading_keeps_signs_that_are_no_markup(tmp_path: Path) -> None:
    assert read(tmp_path, f"# C\\# & 1 < 2 * 3, snake_case #1\n{FELL}")[0] == "C# & 1 < 2 * 3, snake_case #1"


@pytest.mark.parametrize(
    "before",
    [
        "```\n# code\n```\n",
        "```python\n# code\n~~~\n# code\n```\n",
        "````\n```\n# code\n```\n# code\n````\n",
        "~~~~~\n# code\n~~~\n# code\n~~~~~~\n",
        "    # code\n    ===\n",
        "- a list\n  ```\n  # code\n  ```\n",
        "<pre>\n# code\n</pre>\n",
        "#hashtag\n",
        "####### seven\n",
        "\\# escaped\n",
        "> # quoted\n",
        "#\n",
        "# ![](logo.png)\n",
        "Some `code # ` in a line\n",
        "| a | b |\n| --- | --- |\n",
        "Text.\n\n---\n",
    ],
)
def test_what_is_no_heading_is_not_the_title_and_stays_in_the_text(tmp_path: Path, before: str) -> None:
    assert read(tmp_path, f"{before}\n# Otrar\n\n{FELL}") == ("Otrar", f"{before}\n# Otrar\n\n{FELL}".strip())


def test_a_fence_that_is_never_closed_is_code_to_the_end(tmp_path: Path) -> None:
    assert read(tmp_path, f"{FELL}\n\n```\n# code") == ("note", f"{FELL}\n\n```\n# code")


def test_text_files_have_neither_headings_nor_comments(tmp_path: Path) -> None:
    text = f"# One\n\n<!-- two -->\n\n{FELL}"
    assert read(tmp_path, text, "note.txt") == ("note", text)


# Comments


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<!--\n# TODO\n-->\n# Otrar\n\nIt fell.", "It fell."),
        ("<!-- # TODO --># Otrar\n\nIt fell.", "It fell."),
        ("# Otrar\nIt <!-- # TODO --> fell.", "It fell."),
        ("# Otrar\nIt<!-- # TODO\nTODO\n=== --> fell.", "It fell."),
        ("# Otrar\nIt <!-- begins\n\n# TODO\n\n```\nA --> B\n```\n\nends --> fell.", "It fell."),
        ("# Otrar\nIt fell.\n\n<!-- never closed\n\n# TODO\n", "It fell."),
        ("# Otrar\n\n<!---->It<!--> fell<!--->.", "It fell."),
        ("<!-- a -->\n<!-- b -->\n\n<!-- c -->\n# Otrar\nIt fell.", "It fell."),
        ("<div>\n<!-- # TODO -->\n</div>\n\n# Otrar\nIt fell.", "<div>\n\n</div>\n\n# Otrar\nIt fell."),
        ("> It <!-- # TODO\n> more --> fell.\n\n# Otrar", "> It fell.\n\n# Otrar"),
        ("- It\n\t- fell <!-- # TODO -->\0 there <!-- # TODO -->\n\n# Otrar", "- It\n\t- fell \0 there \n\n# Otrar"),
    ],
)
def test_comments_are_neither_headings_nor_text(tmp_path: Path, text: str, left: str) -> None:
    assert read(tmp_path, text) == ("Otrar", left)


@pytest.mark.parametrize(
    "text",
    [
        "Write `<!-- so -->` for a note.",
        "```html\n<!-- so -->\n```",
        "Code:\n```\n    <!-- so -->\n```",
        "A \\<!-- so -->",
        "&lt;!-- so -->",
        "An arrow --> and <! -- this -->",
        "Open it with <!-- and close it.",
        "Open it with <!-- there.\n\n```mermaid\nA --> B\n```",
    ],
)
def test_what_is_shown_to_a_reader_stays(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"# Otrar\n\nIt.\n\n{text}") == ("Otrar", f"It.\n\n{text}")


MARKUP = ["#", "# a", "<!--", "-->", "\n", "\n\n", "```", "`", " ", "    ", "> ", "- ", "---", "===", "a", "<div>", "\t", "\\"]


@given(st.lists(st.sampled_from([*MARKUP, "\0", "[x](y)", "&lt;", "\n---\n", "+++", "k: v"]), max_size=25).map("".join))
def test_whatever_the_markup_the_text_is_part_of_the_document_in_its_order(text: str) -> None:
    try:
        document = parts(text, "note.md", markdown=True)
    except ValueError as error:
        assert "the front matter is not" in str(error)
        return
    characters = iter(text)
    assert all(character in characters for character in document.text)
    assert document.removed or document.text == text.strip()


# Files


def test_byte_order_marks_line_ends_and_page_breaks_do_not_show(tmp_path: Path) -> None:
    assert read(tmp_path, f"\ufeff# Otrar\r\n\r\n{FELL}\r\rMore.\r\n") == ("Otrar", f"{FELL}\n\nMore.")
    pages = "\fIt fell after\n\fa siege\fof months.\n\n\fThe Shah fled. \f\n"
    assert read(tmp_path, pages, "note.txt") == ("note", "It fell after\na siege\nof months.\n\nThe Shah fled.")


def test_a_document_without_text_is_named_with_what_it_has(tmp_path: Path) -> None:
    for nothing in ("", "\ufeff \r\n\f\n", "\u200b\n\n\x1c\u00a0"):
        assert "note.txt has no text: write some" in refused(tmp_path, nothing, "note.txt")
    assert "has no text but its front matter: write" in refused(tmp_path, "---\ntitle: Otrar\n---\n")
    assert "has no text but its front matter: write" in refused(tmp_path, "+++\ntitle = 'Otrar'\n+++", "note.txt")
    assert "has no text but its heading: write" in refused(tmp_path, "Otrar\n===\n")
    everything = "---\ntitle: Otrar\n---\n<!-- TODO -->\n\n# Otrar\n"
    assert "has no text but its front matter and comments and heading" in refused(tmp_path, everything)


def test_markdown_has_either_ending(tmp_path: Path) -> None:
    (tmp_path / "a.markdown").write_text(f"# Otrar\n\n{FELL}", encoding="utf-8")
    (tmp_path / "B.MD").write_text("# Bukhara\n\nIt fell.", encoding="utf-8")
    (tmp_path / "c.rst").write_text("Not this", encoding="utf-8")
    source = load_tasks(tmp_path)
    assert [source.document(i) for i in range(len(source))] == [
        Document("Bukhara", "It fell.", "B.MD"),
        Document("Otrar", FELL, "a.markdown"),
    ]


# Words


@pytest.mark.parametrize(
    "text",
    ["", "Otrar fell — in 1219!", "naïve Straße, e.g. «là-bas»", "Город пал", "سقطت المدينة", "도시가 함락"],
)
def test_where_words_have_blanks_between_them_these_are_counted(text: str) -> None:
    assert word_count(text) == len(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [("讹答剌陷落", 5), ("オトラル", 4), ("ที่นี่", 2), ("Otrar是一座城市。", 7), ("陷落 1219", 3), ("x" * 40, 1), ("x" * 400, 40)],
)
def test_where_they_have_none_characters_are_counted(text: str, words: int) -> None:
    assert word_count(text) == words


# Passages

WORDS = ["a", "Otrar ", "fell. ", "No! ", "\n", "\n\n", " \n \n", "1. ", "- ", "x" * 45]
CHARACTERS = ["e\u0301", "城", "落。", "\uff0c", "ตี่", "👨‍👩‍👧", "\u200b", "\x1c", "\u0301" * 50]


@given(st.lists(st.sampled_from(WORDS + CHARACTERS), max_size=200).map("".join).filter(str.strip), st.integers(1, 30))
def test_passages_hold_the_whole_text_in_order_and_none_is_much_longer_than_asked(text: str, most: int) -> None:
    passages = split(text, most)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(passage and passage == passage.strip() for passage in passages)
    assert max(map(word_count, passages)) <= 1.25 * most
    assert all(passage in "\n\n".join(paragraph.strip() for paragraph in split(text, 10**6)) for passage in passages)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=12),
    st.integers(40, 60),
)
def test_paragraphs_that_are_short_enough_stay_whole(lengths: list[int], most: int) -> None:
    paragraphs = [" ".join(f"w{i}" for _ in range(length)) for i, length in enumerate(lengths)]
    passages = split("\n\n".join(paragraphs), most)
    assert [paragraph for passage in passages for paragraph in passage.split("\n\n")] == paragraphs


SENTENCES = [
    f"Otrar fell in 12{i:02} after a siege of some five months, and Dr. J. Doe of St. Ives wrote so." for i in range(40)
]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("\n".join(SENTENCES), ("so.",)),  # a sentence a line
        (" ".join(SENTENCES), ("so.",)),  # one long line
        (textwrap.fill(" ".join(SENTENCES), 71), ("so.",)),  # lines of a PDF
        ("\n".join(f"{i}. The town No. {i} fell to him" for i in range(99)), ("him",)),  # a list
        ("\n".join(f"- Town {i}. It fell, they\n  say" for i in range(99)), ("say",)),
        ("\n".join(f"{'to ' * (i % 9)}be or not" for i in range(99)), ("not",)),  # verse
        ("讹答剌于一二一九年陷落、沙逃走了。他没有回来。" * 30, ("。",)),
        ("オトラルは落ちた。「誰が\uff1f」王は逃げた。" * 30, ("。", "」")),
        ("शहर गिर गया। शाह भाग गया। " * 60, ("।",)),
        ("هل سقطت المدينة؟ نعم سقطت. " * 60, ("؟", ".")),
        ("เมืองแตก พระเจ้าชาห์หนี " * 60, ("แตก", "หนี")),
        ("it fell and he fled " * 90, ("it", "fell", "and", "he", "fled")),
    ],
)
def test_a_long_paragraph_is_cut_where_it_hurts_least(text: str, ends: tuple[str, ...]) -> None:
    passages = split(text, 60)
    assert len(passages) > 2 and all(passage.endswith(ends) for passage in passages)
    assert min(map(word_count, passages)) >= 20 and max(map(word_count, passages)) <= 75


@pytest.mark.parametrize("text", ["x" * 25_000, "城" * 2_500, "e\u0301" * 9_000, "👨‍👩‍👧" * 3_000, "ปี่" * 2_000])
def test_what_has_no_blanks_at_all_is_cut_between_characters(text: str) -> None:
    passages = split(text, 100)
    assert [c for passage in passages for c in regex.findall(r"\X", passage)] == regex.findall(r"\X", text)
    lengths = [word_count(passage) for passage in passages]
    assert max(lengths) <= 125 and max(lengths) - min(lengths) <= 5


def test_a_long_paragraph_among_short_ones_makes_passages_of_equal_length(tmp_path: Path) -> None:
    paragraphs = ["Before it.", " ".join(SENTENCES), "After it."]
    passages = split("\n\n".join(paragraphs), 200)
    assert "Before it.\n\nOtrar" in passages[0] and "so.\n\nAfter it." in passages[-1]
    lengths = [len(passage.split()) for passage in passages]
    assert len(lengths) == -(-sum(lengths) // 200) and max(lengths) - min(lengths) <= 20


def test_passages_are_documents_under_one_title(tmp_path: Path) -> None:
    (tmp_path / "pdf.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    source = load_tasks(tmp_path, passage_words=100)
    documents = [source.document(i) for i in range(len(source))]
    assert [(d.title, d.id) for d in documents] == [("pdf", f"pdf.txt#{i}") for i in range(1, len(documents) + 1)]
    assert "\n".join(document.context for document in documents) == "\n".join(SENTENCES)


# Questions


def asked_of(folder: Path, text: str, answers: list[str], words: int) -> dict[str, str]:
    """The passage that each question was assigned to, by answer."""
    (folder / "note.txt").write_text(text, encoding="utf-8")
    questions = [{"question": f"What is {i}?", "answer": answer} for i, answer in enumerate(answers)]
    (folder / "note.questions.json").write_text(json.dumps(questions), encoding="utf-8")
    tasks = load_tasks(folder, passage_words=words)
    assert {task.id: task.context for task in tasks}.items() <= {
        document.id: document.context for (documents,) in [read_passages(folder, words).values()] for document in documents
    }.items()
    return {question.answers[0]: task.context for task in tasks for question in task.questions}


def test_a_question_goes_to_the_passage_that_holds_its_answer(tmp_path: Path) -> None:
    passages = asked_of(tmp_path, " ".join(SENTENCES), ["1203", "in 1239 AFTER"], 100)
    assert "1203" in passages["1203"] and "1239" not in passages["1203"] and "in 1239 after" in passages["in 1239 AFTER"]


def test_an_answer_across_the_end_of_a_line_is_found(tmp_path: Path) -> None:
    text = "A town.\n\nIt is on the Syr\nDarya.\n\nIt fell in 一二一\n九年."
    passages = asked_of(tmp_path, text, ["Syr Darya", "一二一九年"], 6)
    assert "Syr\nDarya" in passages["Syr Darya"] and "一二一\n九年" in passages["一二一九年"]


@pytest.mark.parametrize(
    "text", ["a b c d e f g h i j k l m n o p q r s t u v", "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"]
)
def test_no_answer_is_cut_in_two(tmp_path: Path, text: str) -> None:
    """An answer at a cut moves the cut."""
    words = text.split() if " " in text else list(text)
    between = " " if " " in text else ""
    for first in range(len(words) - 3):
        answer = between.join(words[first : first + 4])
        assert answer in asked_of(tmp_path, text, [answer], 5)[answer]
    assert any(between.join(words[i : i + 4]) not in "|".join(split(text, 5)) for i in range(len(words) - 3))


def test_answers_that_no_passage_can_hold_change_nothing(tmp_path: Path) -> None:
    text = " ".join(SENTENCES)
    passages = asked_of(tmp_path, text, [text, "Samarkand"], 100)
    assert set(passages) == {text, "Samarkand"} and set(passages.values()) <= set(split(text, 100))


def test_answers_that_are_whole_leave_the_passages_as_they_are(tmp_path: Path) -> None:
    text = " ".join(SENTENCES)
    passages = split(text, 100)
    assert split(text, 100, [phrase("Otrar fell"), phrase("five months")]) == passages
    across = " ".join((passages[0].split()[-1], passages[1].split()[0]))
    assert split(text, 100, [phrase(across + " fell in 12" + passages[1].split()[3][2:])]) != passages


def test_an_environment_takes_passages_of_the_length_that_is_asked_for(tmp_path):
    import gymnasium as gym

    (tmp_path / "otrar.txt").write_text(" ".join(f"Otrar fell in {year} after a siege." for year in range(1219, 1319)))
    options = {"dataset": str(tmp_path), "reward": "proxy"}
    counts = [gym.make("SEAL-SQuAD-v0", **options, **more).unwrapped.task_count for more in ({}, {"passage_words": 70})]
    assert counts == [3, 10]
    with pytest.raises(ValueError, match="passage_words must be an integer >= 1, got 0"):
        gym.make("SEAL-SQuAD-v0", **options, passage_words=0)
