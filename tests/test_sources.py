"""Tasks are read from the Almanac, SQuAD's layouts, tables, the hub and documents; errors name what cannot be read."""

from __future__ import annotations

import json
import logging
import pickle
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from seal_env.tasks import Document, Question, Task, TaskSource, load_tasks
from seal_env.tasks.almanac import Almanac, AlmanacConfig, to_dataset, write_squad
from tests.shared import SQUAD_VAL, needs_squad

OTRAR = "Otrar fell in 1219. The Shah fled."
FLAT = [  # SQuAD's flat rows: two passages, the first one's questions apart
    {"id": "a", "title": "Otrar", "context": OTRAR, "question": "When did Otrar fall?", "answers": ("1219", 14)},
    {
        "id": "b",
        "title": "Estonian",
        "context": "It has fourteen cases.",
        "question": "How many cases?",
        "answers": ("fourteen", 7),
    },
    {"id": "c", "title": "Otrar", "context": OTRAR, "question": "Who fled?", "answers": ("The Shah", 20)},
]
ROWS = [{**row, "answers": {"text": [row["answers"][0]], "answer_start": [row["answers"][1]]}} for row in FLAT]
NESTED = [
    {"title": "Otrar", "context": OTRAR, "questions": [{"question": "When did Otrar fall?", "answer": "1219"}]},
    {
        "title": "Estonian",
        "context": "It has fourteen cases.",
        "questions": [{"question": "How many cases?", "answer": "fourteen"}],
    },
]


def squad(*qas: dict[str, Any], context: str = OTRAR) -> dict[str, Any]:
    return {"version": "v2.0", "data": [{"title": "Otrar", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def squad_question(question: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"question": question, "answers": [{"text": text, "answer_start": start} for text, start in answers], **more}


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tasks(source: TaskSource) -> list[tuple[str, str, list[tuple[str, tuple[str, ...]]]]]:
    return [(task.title, task.context, [(q.question, q.answers) for q in task.questions]) for task in source]


# The Almanac


def test_the_almanac_is_the_default_and_endless() -> None:
    source = load_tasks()
    assert (source.name, source.size, source.has_questions) == ("almanac", None, True)
    assert source[3] == Almanac().task("train", 3)
    assert source[10**9] == Almanac().task("train", 10**9)
    assert [task.id for task in islice(source, 2)] == [source[0].id, source[1].id]
    assert bool(source) and source[5:].size is None and source[5:][0] == source[5]
    with pytest.raises(TypeError, match="endless and has no len"):
        len(source)
    with pytest.raises(IndexError, match="no task -1 from its end"):
        source[-1]
    with pytest.raises(ValueError, match="cannot be counted from its end"):
        source[:-1]


def test_the_almanac_takes_its_split_and_config() -> None:
    config = AlmanacConfig(seed=7)
    source = load_tasks("almanac", "test", almanac=config, offset=2, limit=3)
    assert list(source) == [Almanac(config).task("test", i) for i in (2, 3, 4)]


# A source


def test_a_source_is_read_by_index_and_cut_by_slices(tmp_path: Path) -> None:
    passages = [{**NESTED[0], "title": f"Otrar {i}"} for i in range(10)]
    source = load_tasks(str(write_json(tmp_path / "p.json", passages)))
    assert (len(source), source.size, source[-1]) == (10, 10, source[9])
    assert [task.title for task in source[4:6]] == ["Otrar 4", "Otrar 5"]
    assert list(load_tasks(tmp_path / "p.json", offset=4, limit=2)) == list(source[4:6])
    assert len(load_tasks(tmp_path / "p.json", limit=99)) == 10
    assert not source[5:5] and repr(source[:2]) == "<TaskSource 'p': 2 tasks>"
    with pytest.raises(IndexError, match="'p' has no task 10: there are 10"):
        source[10]
    for part in (source, source[2:4], load_tasks("almanac", limit=4)):
        assert list(pickle.loads(pickle.dumps(part))) == list(part)


def test_held_out_tasks_are_cut_from_datasets_without_splits(tmp_path: Path) -> None:
    passages = [{**NESTED[0], "title": f"Otrar {i}"} for i in range(50)]
    path, held_out = write_json(tmp_path / "p.json", passages), {"test": 20, "validation": 10}

    def titles(data: Any, split: str, **options: Any) -> list[str]:
        return [task.title for task in load_tasks(data, split, held_out={**held_out, **options})]

    random.Random(42).shuffle(passages)
    shuffled = [p["title"] for p in passages]
    for data in (path, passages_in_order := [{**NESTED[0], "title": f"Otrar {i}"} for i in range(50)]):
        assert titles(data, "test") == shuffled[:20]
        assert titles(data, "validation") == shuffled[20:30]
        assert titles(data, "train") == shuffled[30:]
    assert titles(path, "test", seed=1) != shuffled[:20]
    assert titles(path, "train", test=0, validation=0) == shuffled
    assert [task.title for task in load_tasks(path, "test", held_out=held_out, offset=5, limit=3)] == shuffled[5:8]
    # Datasets with splits are as they are.
    assert titles({"train": passages_in_order}, "train") == [p["title"] for p in passages_in_order]
    assert list(load_tasks("almanac", "test", limit=3, held_out=held_out)) == list(load_tasks("almanac", "test", limit=3))


def test_a_seed_shuffles_as_random_does_before_anything_is_left_out(tmp_path: Path) -> None:
    passages = [{**NESTED[0], "title": f"Otrar {i}"} for i in range(50)]
    path = write_json(tmp_path / "p.json", passages)
    random.Random(42).shuffle(passages)
    assert [task.title for task in load_tasks(path, seed=42, offset=3, limit=20)] == [p["title"] for p in passages[3:23]]
    assert {task.id for task in load_tasks(path, seed=42)} == {task.id for task in load_tasks(path)}
    unshuffled = {task.title: task.id for task in load_tasks(path)}
    assert all(task.id == unshuffled[task.title] for task in load_tasks(path, seed=1))


@needs_squad
def test_the_authors_evaluation_set_is_the_first_200_of_seed_42() -> None:
    source = load_tasks(str(SQUAD_VAL), "validation", seed=42, limit=200)
    passages = json.loads(SQUAD_VAL.read_text(encoding="utf-8"))
    random.seed(42)
    random.shuffle(passages)
    assert tasks(source) == [
        (p["title"], p["context"], [(q["question"], (q["answer"],)) for q in p["questions"]]) for p in passages[:200]
    ]
    assert (len(source), sum(len(task.questions) for task in source)) == (200, 974)
    everything = load_tasks(SQUAD_VAL)
    assert (len(everything), sum(len(task.questions) for task in everything)) == (2067, 10570)
    assert len({task.id for task in everything}) == 2067 and len({q.id for task in everything for q in task.questions}) == 10570


# SQuAD's own JSON


def test_squad_json_is_a_task_a_paragraph_with_the_first_answer_as_gold(tmp_path: Path) -> None:
    answers = [("The Shah", 20), ("Shah", 24), ("The Shah", 20)]
    source = load_tasks(write_json(tmp_path / "dev.json", squad(squad_question("Who fled?", *answers, id="5733"))))
    assert list(source) == [Task("Otrar", OTRAR, (Question("Who fled?", ("The Shah", "Shah"), 20, "5733"),), "dev-0")]


def test_impossible_questions_are_skipped_and_paragraphs_that_have_no_others(tmp_path: Path) -> None:
    data = squad(squad_question("Who fled?", ("The Shah", 20)), squad_question("Who won?", is_impossible=True))
    data["data"][0]["paragraphs"] += [
        {"context": "X.", "qas": [squad_question("Why?", is_impossible=True)]},
        {"context": "Y.", "qas": []},
    ]
    source = load_tasks(write_json(tmp_path / "dev.json", data))
    assert tasks(source) == [("Otrar", OTRAR, [("Who fled?", ("The Shah",))])]


@pytest.mark.parametrize("start", [19, -1, 10**6, None, "20"])
def test_a_start_that_is_off_is_dropped_and_not_an_error(tmp_path: Path, start: Any) -> None:
    source = load_tasks(write_json(tmp_path / "dev.json", squad(squad_question("Who fled?", ("The Shah", start)))))
    assert source[0].questions[0].answer_start is None


def test_the_almanac_comes_back_from_the_squad_that_it_wrote(tmp_path: Path) -> None:
    articles = list(load_tasks("almanac", limit=5))
    write_squad(articles, tmp_path / "almanac.json")
    assert [(t.title, t.context, t.questions) for t in load_tasks(tmp_path / "almanac.json")] == [
        (t.title, t.context, t.questions) for t in articles
    ]


def test_ids_that_stand_twice_are_replaced_so_that_all_are_unique(tmp_path: Path) -> None:
    data = squad(
        squad_question("Who fled?", ("The Shah", 20), id="x"),
        squad_question("Who ran?", ("The Shah", 20), id="x"),
        squad_question("Who?", ("Shah", 24)),
    )
    (task,) = load_tasks(write_json(tmp_path / "dev.json", data))
    assert [question.id for question in task.questions] == ["dev-0-0", "dev-0-1", "dev-0-2"]


# Tables


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    from datasets import Dataset

    if path.suffix == ".jsonl":
        return write_jsonl(path, rows)
    if path.suffix == ".json":
        return write_json(path, rows)
    table = Dataset.from_list(rows)
    if path.suffix == ".csv":
        table.to_csv(str(path))
    else:
        table.to_parquet(str(path))
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_flat_rows_of_one_passage_are_one_task_in_order_of_appearance(tmp_path: Path, kind: str) -> None:
    source = load_tasks(write_table(tmp_path / f"rows.{kind}", ROWS))
    assert [(task.title, task.id, task.questions) for task in source] == [
        (
            "Otrar",
            "rows-0",
            (Question("When did Otrar fall?", ("1219",), 14, "a"), Question("Who fled?", ("The Shah",), 20, "c")),
        ),
        ("Estonian", "rows-1", (Question("How many cases?", ("fourteen",), 7, "b"),)),
    ]


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_nested_questions_are_a_task_a_row(tmp_path: Path, kind: str) -> None:
    source = load_tasks(write_table(tmp_path / f"rows.{kind}", [*NESTED, NESTED[0]]))
    assert [task.title for task in source] == ["Otrar", "Estonian", "Otrar"]
    assert source[0].questions == (Question("When did Otrar fall?", ("1219",), None, "rows-0-0"),)
    assert len({task.id for task in source}) == 3


def test_a_csv_cell_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    answers = ["007", "NA", "1,219", "1e3", "True", "[sic]"]
    lines = ["title,context,question,answer", *(f'Otrar,It fell.,Why {i}?,"{answer}"' for i, answer in enumerate(answers))]
    (tmp_path / "rows.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    (task,) = load_tasks(tmp_path / "rows.csv")
    assert [question.answers for question in task.questions] == [(answer,) for answer in answers]


def test_csv_lists_may_be_json(tmp_path: Path) -> None:
    text = 'title,context,question,answers\nOtrar,It fell.,Why?,"[""hunger"", ""thirst""]"\nOtrar,It fell.,When?,1219\n'
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    assert [question.answers for question in load_tasks(tmp_path / "rows.csv")[0].questions] == [
        ("hunger", "thirst"),
        ("1219",),
    ]


def test_columns_say_what_a_key_is_called(tmp_path: Path) -> None:
    rows = [{"topic": "Otrar", "passage": OTRAR, "question": "Who fled?", "short": "The Shah", "id": 5}]
    columns = {"title": "topic", "context": "passage", "answer": "short"}
    source = load_tasks(write_jsonl(tmp_path / "rows.jsonl", rows), columns=columns)
    assert source[0].questions == (Question("Who fled?", ("The Shah",), None, "5"),)


def test_rows_that_the_hub_marks_as_impossible_are_skipped(tmp_path: Path) -> None:
    rows = [*ROWS, {**ROWS[0], "id": "z", "answers": {"text": [], "answer_start": []}}]
    assert sum(len(task.questions) for task in load_tasks(write_jsonl(tmp_path / "rows.jsonl", rows))) == 3


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_nul_bytes_emoji_line_ends_and_a_megabyte_come_through(tmp_path: Path, kind: str) -> None:
    context = "Otrar \0 fell 🏰 in\r\n1219.\u2028 É " + "word " * 200_000 + "end."
    row = {"title": "🏰", "context": context, "question": "When?\0", "answers": {"text": ["1219"], "answer_start": [19]}}
    (task,) = load_tasks(write_table(tmp_path / f"rows.{kind}", [row]))
    assert (task.title, task.context, task.questions[0].question) == ("🏰", context, "When?\0")
    assert task.questions[0].answer_start == context.index("1219")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_byte_order_mark_and_either_line_end_are_fine(tmp_path: Path, ending: str) -> None:
    text = ending.join(json.dumps(row) for row in NESTED) + ending + ending
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [task.title for task in load_tasks(tmp_path / "rows.jsonl")] == ["Otrar", "Estonian"]


# JSON lines and CSV as common tools write them


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson", "rows.JSONL"])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES.strip(),
        "\ufeff" + LINES.replace("\n", "\r\n"),
        LINES.replace("\n", "\n\n \n"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(json.dumps(ROWS).replace("}, {", "},\n{").partition("[")),
    ],
)
def test_json_lines_and_lists_are_read_under_any_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert tasks(load_tasks(tmp_path / name)) == tasks(load_tasks(write_json(tmp_path / "plain.json", ROWS)))


@pytest.mark.parametrize("rows", [ROWS, NESTED])
@pytest.mark.parametrize("count", [1, 2])
def test_what_datasets_writes_as_json_is_read(tmp_path: Path, rows: list[dict[str, Any]], count: int) -> None:
    from datasets import Dataset

    Dataset.from_list(rows[:count]).to_json(str(tmp_path / "rows.json"))
    assert tasks(load_tasks(tmp_path / "rows.json")) == tasks(load_tasks(write_json(tmp_path / "plain.json", rows[:count])))


def test_a_single_json_line_may_have_columns_of_its_own(tmp_path: Path) -> None:
    row = {"topic": "Otrar", "passage": OTRAR, "ask": "Who fled?", "answer": "The Shah"}
    columns = {"title": "topic", "context": "passage", "question": "ask"}
    assert tasks(load_tasks(write_json(tmp_path / "rows.json", row), columns=columns)) == [
        ("Otrar", OTRAR, [("Who fled?", ("The Shah",))])
    ]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson"])
def test_a_torn_json_line_is_named_by_its_number(tmp_path: Path, name: str) -> None:
    lines = LINES.splitlines()
    for torn in range(3):
        text = "\n".join(line[:40] if i == torn else line for i, line in enumerate(lines))
        (tmp_path / name).write_text(text, encoding="utf-8")
        refused(f"{name}, line {torn + 1} is not JSON", tmp_path / name)
    (tmp_path / name).write_text(f"{lines[0]}\n\n3\n", encoding="utf-8")
    refused(f"{name}, line 3: expected keys and values, got int", tmp_path / name)


def test_json_over_several_lines_that_is_broken_is_named_by_its_position(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps(squad(), indent=1)[:-1], encoding="utf-8")
    refused("dev.json is not JSON: Expecting", tmp_path / "dev.json")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, indent=1)[:-1], encoding="utf-8")
    refused("rows.json is not JSON: Expecting", tmp_path / "rows.json")


@pytest.mark.parametrize(
    "text",
    [
        'title;context;question;answer\nOtrar;"A town; it fell, then.";Who, when?;"1219,5"\n',
        '\ufefftitle;context;question;answer\r\nOtrar;"A town; it fell, then.";Who, when?;1219,5\r\n',
        '"title";"context";"question";"answer"\n"Otrar";"A town; it fell, then.";"Who, when?";"1219,5"\n',
        "title\tcontext\tquestion\tanswer\nOtrar\tA town; it fell, then.\tWho, when?\t1219,5\n",
        "title|context|question|answer\nOtrar|A town; it fell, then.|Who, when?|1219,5\n",
        'title,context,question,answer\nOtrar,"A town; it fell, then.","Who, when?","1219,5"\n',
        'a;b;title;context;question;answer\n1,2,3,4,5;,;Otrar;"A town; it fell, then.";Who, when?;1219,5\n',
        '"notes; a, b, c, d, e",title,context,question,answer\n,Otrar,"A town; it fell, then.","Who, when?","1219,5"\n',
        'answer;question;context;title;"with, commas, in, it, and, more"\n1219,5;Who, when?;A town"; it fell;Otrar;\n'.replace(
            'A town"; it fell', '"A town; it fell, then."'
        ),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_the_header_of_csv_says_what_separates_its_cells(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert tasks(load_tasks(tmp_path / name)) == [("Otrar", "A town; it fell, then.", [("Who, when?", ("1219,5",))])]


def test_a_header_of_other_names_is_known_by_columns_or_shown_cell_by_cell(tmp_path: Path) -> None:
    text = "Thema;Text;Frage, kurz, klar;Antwort\nOtrar;It fell.;When, then?;1219\n"
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    columns = {"title": "Thema", "context": "Text", "question": "Frage, kurz, klar", "answer": "Antwort"}
    assert tasks(load_tasks(tmp_path / "rows.csv", columns=columns)) == [("Otrar", "It fell.", [("When, then?", ("1219",))])]
    refused("only 'Thema', 'Text', 'Frage, kurz, klar', 'Antwort'", tmp_path / "rows.csv")


@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "csv", "tsv", "parquet"])
def test_questions_beside_a_document_are_of_any_kind(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.md").write_text(OTRAR, encoding="utf-8")
    rows = [{"question": "When; then?", "answer": "1219"}, {"question": "Who, there?", "answer": "The Shah"}]
    path = tmp_path / f"a.questions.{kind}"
    if kind == "parquet":
        write_table(path, rows)
    elif kind in ("csv", "tsv"):
        between = ";" if kind == "csv" else "\t"
        lines = (between.join(f'"{cell}"' for cell in cells) for cells in (("question", "answer"), *(r.values() for r in rows)))
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        write_jsonl(path, rows)
    assert tasks(load_tasks(tmp_path)) == [("a", OTRAR, [(r["question"], (r["answer"],)) for r in rows])]


def test_one_json_line_beside_a_document_is_one_question(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(OTRAR, encoding="utf-8")
    write_jsonl(tmp_path / "a.questions.json", [{"question": "Who fled?", "answers": ["The Shah"]}])
    assert [question.question for question in load_tasks(tmp_path)[0].questions] == ["Who fled?"]


# Questions without an answer


MARKED = [{"answers": {"text": [], "answer_start": []}}, {"is_impossible": True, "answers": ["x"]}, {"is_impossible": True}]
LACKING = [{"answers": []}, {"answers": None}, {"answer": None}, {"answer": ""}, {"answer": " "}, {"answer": float("nan")}]


@pytest.mark.parametrize("lacks", [*MARKED, *LACKING, {"answer": None, "answers": []}])
def test_a_question_without_an_answer_is_skipped_and_counted_in_one_line(
    tmp_path: Path, lacks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    base = {"title": "Otrar", "context": OTRAR, "question": "Who?"}
    path = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {**base, **lacks}, {**base, "title": "Other", **lacks}])
    with caplog.at_level(logging.INFO, "seal_env.tasks"):
        assert tasks(load_tasks(path)) == tasks(load_tasks(write_json(tmp_path / "plain.json", ROWS)))
    (record,) = caplog.records
    kind, level = ("marked as unanswerable", "INFO") if lacks in MARKED else ("without an answer", "WARNING")
    assert (record.getMessage(), record.levelname) == (f"{path}: skipped 2 of 5 questions (2 {kind})", level)


def test_both_kinds_are_counted_in_the_same_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = {"title": "Otrar", "context": OTRAR, "question": "Who?"}
    path = write_json(tmp_path / "rows.json", [ROWS[0], *({**base, **lacks} for lacks in (*MARKED, *LACKING))])
    load_tasks(path)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{path}: skipped 9 of 10 questions (3 marked as unanswerable, 6 without an answer)")
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_skip_what_their_cells_leave_out(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    hub = [*ROWS, {**ROWS[0], "id": "z", "answers": {"text": [], "answer_start": []}}]
    flat = [{"title": "T", "context": "C.", "question": "Q?", "answer": answer} for answer in ("x", None)]
    listed = [{"title": "T", "context": "C.", "question": "Q?", "answers": answers} for answers in (["x"], [])]
    numbers = [{"title": "T", "context": "C.", "question": "Q?", "answers": answer} for answer in ("x", None)]
    with caplog.at_level(logging.INFO, "seal_env.tasks"):
        for name, rows, count in (("hub", hub, 3), ("flat", flat, 1), ("listed", listed, 1), ("numbers", numbers, 1)):
            source = load_tasks(write_table(tmp_path / f"{name}.{kind}", rows))
            assert sum(len(task.questions) for task in source) == count
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING", "WARNING"]


def test_csv_marks_are_text(tmp_path: Path) -> None:
    text = "title,context,question,answer,is_impossible,self_written\nT,C.,Q?,x,False,True\nT,C.,Who?,y,true,\nT,C.,Why?,z,,\n"
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    (task,) = load_tasks(tmp_path / "rows.csv")
    assert [(question.question, question.self_written) for question in task.questions] == [("Q?", True), ("Why?", False)]


def test_the_questions_of_a_folder_are_counted_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(OTRAR, encoding="utf-8")
    write_json(tmp_path / "a.questions.json", [{"question": "Who?", "answer": "The Shah"}, {"question": "Why?", "answers": []}])
    write_json(tmp_path / "b.questions.json", [{"question": "Why?", "answer": ""}])
    assert [task.id for task in load_tasks(tmp_path)] == ["a.txt"]
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: skipped 2 of 3 questions (2 without an answer)"]
    (tmp_path / "a.questions.json").unlink()
    refused("b.questions.json holds no question that has an answer", tmp_path)
    write_json(tmp_path / "a.questions.json", [{"question": "Why?", "is_impossible": True}])
    refused(f"{tmp_path} holds no question that has an answer", tmp_path)


# The hub and folders that `datasets` reads


@pytest.fixture
def datasets_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def test_a_folder_that_datasets_can_load_has_the_splits_it_has(tmp_path: Path, datasets_cache: None) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "README.md").write_text("# About this data set\n", encoding="utf-8")
    articles = list(load_tasks("almanac", limit=3))
    to_dataset(articles[:2]).to_parquet(str(folder / "train.parquet"))
    to_dataset(articles[2:]).to_parquet(str(folder / "validation.parquet"))
    source = load_tasks(str(folder))
    assert [task.id for task in source] == ["mine-train-0", "mine-train-1"]
    assert [task.questions for task in source] == [task.questions for task in articles[:2]]
    assert [task.title for task in load_tasks(str(folder), "validation")] == [articles[2].title]
    with pytest.raises(ValueError, match=r"cannot load split 'nope' of .*mine.*train.*validation"):
        load_tasks(str(folder), "nope")


def test_what_save_to_disk_wrote_can_be_read(tmp_path: Path) -> None:
    from datasets import DatasetDict

    articles = list(load_tasks("almanac", limit=2))
    to_dataset(articles).save_to_disk(str(tmp_path / "one"))
    DatasetDict({"test": to_dataset(articles)}).save_to_disk(str(tmp_path / "many"))
    for source in (load_tasks(tmp_path / "one"), load_tasks(tmp_path / "many", "test")):
        assert [task.questions for task in source] == [task.questions for task in articles]
    with pytest.raises(ValueError, match=r"cannot load split 'train' of .*many"):
        load_tasks(tmp_path / "many")


def test_a_hub_id_out_of_reach_is_named_with_what_would_work(datasets_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)  # both as HF_HUB_OFFLINE=1 sets them at import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("cannot load split 'train' of 'nobody/no-such-squad': ", "nobody/no-such-squad")
    refused("What works offline: a path to a file, or a dataset in the cache (HF_HOME)", "nobody/no-such-squad", revision="v1")
    refused("dataset 'nobody/no-such-squad': no option 'almanac'", "nobody/no-such-squad", almanac=AlmanacConfig())


# Documents


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfFirst line.\r\n\r\nSecond.\r\n")
    (folder / "a.md").write_text("# The fall of Otrar #\n\nIt fell in 1219.\n\n## Later\n\nThe Shah fled.\n", encoding="utf-8")
    (folder / "deep" / "c.md").write_text("```\n# no heading\n```\nPlain.", encoding="utf-8")
    (folder / ".hidden.md").write_text("Not this.", encoding="utf-8")
    return folder


def test_documents_without_questions_are_documents(notes: Path) -> None:
    source = load_tasks(notes, "test")
    assert (source.name, len(source), source.has_questions) == ("notes", 3, False)
    assert [source.document(i) for i in range(3)] == [
        Document("The fall of Otrar", "It fell in 1219.\n\n## Later\n\nThe Shah fled.", "a.md"),
        Document("b", "First line.\n\nSecond.", "b.txt"),
        Document("c", "```\n# no heading\n```\nPlain.", "deep/c.md"),
    ]
    assert repr(source) == "<TaskSource 'notes': 3 documents without questions>"
    with pytest.raises(ValueError, match=r"'notes' has no questions \(document 'a.md'\).*NAME.questions.json.*document\(i\)"):
        source[0]


def test_questions_beside_documents_make_tasks_and_the_rest_is_left_out(notes: Path) -> None:
    write_json(notes / "a.questions.json", [{"question": "When did Otrar fall?", "answer": "1219"}])
    write_jsonl(notes / "deep" / "c.questions.jsonl", [{"question": "How?", "answers": ["plain", "plainly"]}])
    source = load_tasks(notes)
    assert source.has_questions and [task.id for task in source] == ["a.md", "deep/c.md"]
    assert source[0].questions == (Question("When did Otrar fall?", ("1219",), None, "a.md-0"),)
    assert source[1].questions[0].answers == ("plain", "plainly")
    assert source.document(0) == Document(source[0].title, source[0].context, "a.md")
    assert tasks(load_tasks(notes / "a.md")) == tasks(source[:1])


def test_long_documents_are_cut_between_paragraphs_under_one_title(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {i} " + "word " * 40 + f"fact{i}." for i in range(20)]
    (tmp_path / "long.md").write_text("# Long\n\n" + "\n\n".join(paragraphs), encoding="utf-8")
    source = load_tasks(tmp_path)
    documents = [source.document(i) for i in range(len(source))]
    assert "\n\n".join(document.context for document in documents) == "\n\n".join(paragraphs)
    assert [(document.title, document.id) for document in documents] == [("Long", f"long.md#{i}") for i in (1, 2, 3)]
    assert all(250 <= len(document.context.split()) <= 330 for document in documents)
    assert len(load_tasks(tmp_path, passage_words=10_000)) == 1 and len(load_tasks(tmp_path, passage_words=43)) == 20

    questions = [{"question": "What does paragraph 19 say?", "answer": "FACT19"}, {"question": "Which?", "answer": "fact0."}]
    write_json(tmp_path / "long.questions.json", questions)
    assert [(task.id, task.questions[0].answers) for task in load_tasks(tmp_path)] == [
        ("long.md#1", ("fact0.",)),
        ("long.md#3", ("FACT19",)),
    ]


def test_a_document_of_one_huge_paragraph_with_nul_bytes_and_emoji_is_cut_into_equal_passages(tmp_path: Path) -> None:
    text = "🏰 \0 " + "word " * 200_000 + "end."
    (tmp_path / "huge.txt").write_text(text, encoding="utf-8")
    source = load_tasks(tmp_path)
    documents = [source.document(i) for i in range(len(source))]
    assert " ".join(document.context for document in documents) == text
    assert {len(document.context.split()) for document in documents} == {299, 300}


# Errors


def refused(words: str, *args: Any, **options: Any) -> None:
    with pytest.raises(ValueError) as caught:
        load_tasks(*args, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_names_and_options_are_named_with_what_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    path = write_json(tmp_path / "squad_val.json", NESTED)
    refused("no dataset 'almanach'. Did you mean 'almanac'?", "almanach")
    refused("Did you mean 'almanac'?", "Almanac")
    refused("Did you mean 'notes'?", "note")
    refused("a hub id such as 'rajpurkar/squad'", "squad_v2")
    refused(f"Did you mean '{path}'?", str(tmp_path / "squad_vl.json"))
    refused("Did you mean 'squad_val.json'?", "squad-val.json")
    refused("there is no folder", str(tmp_path / "nowhere" / "squad.json"))
    refused("got 3", 3)
    refused("no dataset ''", "")
    refused("no file or folder", "a\0b.json")
    refused("no file or folder", "x" * 5000 + ".json")
    refused("split must be one of train, validation, test, got 'tests'. Did you mean 'test'?", "almanac", "tests")
    refused("Did you mean 'validation'?", path, "valid")
    refused("got None", "almanac", None)
    refused("limit must be an integer >= 1, got 0", limit=0)
    refused("offset must be an integer >= 0, got -1", offset=-1)
    refused("passage_words must be an integer >= 1, got 0", path, passage_words=0)
    refused("seed must be an integer or None, got 'x'", path, seed="x")
    refused("offset 2 leaves nothing of 'squad_val', which has 2", path, offset=2)
    refused("held_out={'test': 2} leaves nothing of the split 'train' of 'squad_val', which has 2", path, held_out={"test": 2})
    refused("held_out: no option 'tests'. Did you mean 'test'?", path, held_out={"tests": 2})
    refused("held_out.test must be an integer >= 0, got 0.5", path, held_out={"test": 0.5})
    refused("held_out must be a dictionary such as", path, held_out=200)
    refused("'almanac' is endless and cannot be shuffled, got seed=42", seed=42)
    refused(f"dataset '{path}': no option 'almanac'. There are: path, columns, config_name", path, almanac=AlmanacConfig())
    refused("dataset 'almanac': no option 'columns'. There are: almanac", columns={"title": "t"})
    refused("almanac must be an AlmanacConfig, got {'seed': 3}", almanac={"seed": 3})
    refused("no option 'revision'", path, revision="main")
    refused(f"config_name does not apply to the file '{path}', got config_name='en'", path, config_name="en")
    refused("columns has the key 'contxt'. Did you mean 'context'?", path, columns={"contxt": "passage"})
    refused("no column 'passage' (columns['context']), only 'title', 'context'", path, columns={"context": "passage"})


def test_json_that_is_not_squad_says_which_key_is_missing(tmp_path: Path) -> None:
    def bad(words: str, value: Any) -> None:
        refused(words, write_json(tmp_path / "x.json", value))

    bad("x.json: no key 'data', only 'articles'", {"articles": []})
    bad("no key 'data', only '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', ...", dict.fromkeys(range(99), 0))
    bad("'data' must be a list, got str: 'x'", {"data": "x"})
    bad("x.json, article 1: no key 'paragraphs', only 'title'", {"data": [{"title": "Otrar"}]})
    bad("article 1, paragraph 1: no key 'context', only 'qas'", {"data": [{"title": "Otrar", "paragraphs": [{"qas": []}]}]})
    bad("article 1, paragraph 1: no key 'qas'", {"data": [{"title": "Otrar", "paragraphs": [{"context": "X."}]}]})
    bad("no key 'title'", {"data": [{"paragraphs": [{"context": "X.", "qas": []}]}]})
    bad("paragraph 1, question 1: no key 'question'", squad({"answers": []}))
    bad("paragraph 1, question 1: no answer to 'Who?' (keys 'answer' or 'answers')", squad({"question": "Who?"}))
    bad("holds no question that has an answer", squad({"question": "Who?", "answers": []}))
    bad("question 1: answer must not be empty, got ' '", squad(squad_question("Who?", (" ", 0))))
    bad("question 1: answer must be text, got NoneType", squad({"question": "Who?", "answers": [{"answer_start": 3}]}))
    bad("context must not be empty", squad(squad_question("Who?", ("x", 0)), context=" "))
    bad("holds no question that has an answer", squad())
    bad("holds no question that has an answer", [])
    bad("neither SQuAD's 'data' nor a list of passages, but '3'", 3)
    bad("item 1: expected keys and values, got str: 'x'", ["x"])
    bad("item 1: no key 'question' (or 'questions'), only 'title', 'context'", [{"title": "Otrar", "context": "X."}])
    bad("item 1: the list of questions is empty", [{"title": "Otrar", "context": "X.", "questions": []}])
    bad("item 1: 'questions' must be a list, got str", [{"title": "Otrar", "context": "X.", "questions": "Who?"}])
    bad("answer must be text, got int: 1219", [{**NESTED[0], "questions": [{"question": "When?", "answer": 1219}]}])
    bad("title holds half of a surrogate pair", [{**NESTED[0], "title": "\ud83d"}])


def test_files_that_cannot_be_parsed_are_named(tmp_path: Path) -> None:
    def bad(words: str, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        refused(words, tmp_path / name)
        refused(str(tmp_path / name), tmp_path / name)

    bad("x.json is not JSON: Expecting value (column 10)", "x.json", b'{"data": }')
    bad("nested too deep", "x.json", b"[" * 200_000)
    bad("x.json is not UTF-8 (byte 1: invalid start byte); save it as UTF-8", "x.json", b"[\xff]")
    bad("x.jsonl, line 2 is not JSON", "x.jsonl", json.dumps(NESTED[0]).encode() + b"\n{\n")
    bad("x.jsonl holds no question", "x.jsonl", b'{"title": "T", "context": "C.", "question": "Q?", "answers": null}')
    bad("x.jsonl, line 1: no answer to 'Q?'", "x.jsonl", b'{"title": "T", "context": "C.", "question": "Q?", "reply": "x"}')
    bad("x.jsonl holds no question", "x.jsonl", b"")
    bad("x.csv is not CSV with a header", "x.csv", b"")
    bad("x.csv is not CSV with a header", "x.csv", b"title,context\nA,B,C\nA,B,C\n")
    bad("x.csv is not CSV with a header", "x.csv", b'title,context\nA,"B\n')
    bad("x.csv, row 1: no key 'question' (or 'questions')", "x.csv", b"title,context\nA,B\n")
    bad("x.csv, row 1: no answer to 'Q?'", "x.csv", b"title,context,question,reply\nA,B,Q?,x\n")
    bad("x.csv holds no question that has an answer", "x.csv", b"title,context,question,answer\nA,B,Q?,\n")
    bad("row 1: answers must be JSON, got '[x'; plain text belongs in", "x.csv", b"title,context,question,answers\nA,B,Q?,[x\n")
    bad("x.csv, row 1: no key 'title', only 'topic'", "x.csv", b"topic,context,question,answer\nA,B,Q?,x\n")
    bad("say columns={ours: yours}", "x.csv", b"topic,context,question,answer\nA,B,Q?,x\n")
    bad("x.parquet is not Parquet", "x.parquet", b"PAR1 not")
    kinds = ".json, .jsonl, .ndjson, .csv, .tsv, .parquet, .txt, .md, .markdown"
    bad(f"has none of the endings that can be read: {kinds}", "x.xlsx", b"PK")


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    refused("holds no document (.txt, .md, .markdown) and no table (.json, .jsonl", folder)
    (folder / "a.txt").write_text(" \n", encoding="utf-8")
    refused("a.txt has no text", folder)
    (folder / "a.txt").write_bytes(b"caf\xe9")
    refused("a.txt is not UTF-8", folder)
    (folder / "a.txt").write_text("Otrar fell.", encoding="utf-8")
    write_json(folder / "b.questions.json", [])
    refused("b.questions.json belongs to no document: there is no b.txt, b.md or b.markdown beside it", folder)
    (folder / "b.questions.json").rename(folder / "a.questions.json")
    refused("a.questions.json: the list of questions is empty", folder)
    write_json(folder / "a.questions.json", [{"question": "Who?"}])
    refused("a.questions.json, question 1: no answer to 'Who?'", folder)
    write_json(folder / "a.questions.json", {"question": "Who?"})
    refused("'questions' must be a list, got dict", folder)
    refused("columns does not apply to documents", folder, columns={"title": "topic"})
    (folder / "a.md").write_text("# Only a heading\n", encoding="utf-8")
    refused("a.md has no text but its heading", folder)


def test_a_folder_of_tables_that_datasets_cannot_read_says_why(tmp_path: Path, datasets_cache: None) -> None:
    (tmp_path / "train.json").write_text("{nothing", encoding="utf-8")
    refused("JSON parse error", tmp_path)
