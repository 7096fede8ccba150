"""A choice of tools: which JSON is valid, and the training set that it builds from demonstrations."""

from __future__ import annotations

import json
import random
from itertools import permutations

import pytest

from seal_env.edits import EditStatus, ToolEdit, ToolEditError, ToolSettings, parse_tools
from seal_env.edits.tools import STRATEGIES, leave_out, training_set
from seal_env.tasks.arc import GROUPS, ArcPrompts, MiniArc, MiniArcConfig, Pair
from seal_env.tasks.arc.grids import size

EDIT = ToolEdit(True, False, False, False, "train_using_output_tokens", 1e-3, 3)
TASK = MiniArc(MiniArcConfig(demonstrations=4)).task("test", 0)
PROMPTS = ArcPrompts()


SETTINGS = ToolSettings()


def parsed(action: object, settings: ToolSettings = SETTINGS, seed: int = 0, demonstrations=TASK.demonstrations):
    return parse_tools(action, demonstrations, settings, seed, prompts=PROMPTS, tokens=len)


def changed(**values: object) -> str:
    """The edit's JSON with other values, valid or not."""
    tree = json.loads(EDIT.text())
    for name, value in values.items():
        tree["training" if name in tree["training"] else "data_generation"][name] = value
    return json.dumps(tree)


def test_an_edit_is_written_and_read_as_the_papers_json():
    tree = json.loads(EDIT.text())
    assert tree == {
        "data_generation": {
            "use_basic_augmentations": True,
            "use_size_augmentations": False,
            "use_chain_augmentations": False,
            "use_repeat_augmentations": False,
        },
        "training": {"strategy": "train_using_output_tokens", "learning_rate": 1e-3, "num_train_epochs": 3},
    }
    assert ToolEdit.read(EDIT.text()) == EDIT
    assert ToolEdit.read(f"\n {json.dumps(tree, indent=2)} \n") == EDIT


@pytest.mark.parametrize("thoughts", ["<think>\n{}?\n</think>\n\n", "All of them?\n</think>\n", "[THINK]Hm.[/THINK]"])
def test_thoughts_before_the_json_are_no_part_of_it(thoughts: str):
    assert parsed(thoughts + EDIT.text()) == parsed(EDIT.text())
    assert parsed(f"<think>\n{EDIT.text()}").status is EditStatus.EMPTY


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        (None, EditStatus.NOT_TEXT, ""),
        (b"{}", EditStatus.NOT_TEXT, ""),
        (" \n", EditStatus.EMPTY, ""),
        ("Use all augmentations.", EditStatus.NOT_JSON, "no JSON"),
        (EDIT.text()[:-1], EditStatus.NOT_JSON, "no JSON"),
        (f"```json\n{EDIT.text()}\n```", EditStatus.NOT_JSON, "no JSON"),
        ("[" * 100_000, EditStatus.NOT_JSON, "no JSON"),
        ("1" * 100_000, EditStatus.NOT_JSON, "no JSON"),
        ("[]", EditStatus.WRONG_VALUE, "must be an object"),
        ('{"data_generation": 3, "training": {}}', EditStatus.WRONG_VALUE, "data_generation must be an object"),
        ("{}", EditStatus.WRONG_KEYS, "lacks 'data_generation'"),
        (EDIT.text().replace("num_train_epochs", "epochs"), EditStatus.WRONG_KEYS, "unknown key 'epochs'"),
        (EDIT.text()[:-1] + ', "note": "please"}', EditStatus.WRONG_KEYS, "unknown key 'note'"),
        (changed(use_size_augmentations=1), EditStatus.WRONG_VALUE, "use_size_augmentations must be true or false, got 1"),
        (changed(use_size_augmentations="true"), EditStatus.WRONG_VALUE, "must be true or false"),
        (changed(strategy="train_using_input_tokens"), EditStatus.WRONG_VALUE, "strategy must be"),
        (changed(learning_rate="1e-3"), EditStatus.WRONG_VALUE, "learning_rate must be a finite number"),
        (changed(learning_rate=True), EditStatus.WRONG_VALUE, "learning_rate"),
        (changed(learning_rate=-1e-3), EditStatus.WRONG_VALUE, "learning_rate"),
        (changed(learning_rate=float("nan")), EditStatus.WRONG_VALUE, "learning_rate"),
        (changed(learning_rate=float("inf")), EditStatus.WRONG_VALUE, "learning_rate"),
        (changed(learning_rate=10**400), EditStatus.WRONG_VALUE, "learning_rate"),
        (changed(num_train_epochs=0), EditStatus.WRONG_VALUE, "num_train_epochs must be an integer of at least 1"),
        (changed(num_train_epochs=2.0), EditStatus.WRONG_VALUE, "num_train_epochs"),
        (changed(num_train_epochs=10**6), EditStatus.TOO_MANY_STEPS, "more than 375"),
    ],
)
def test_an_invalid_choice_of_tools_trains_nothing_and_names_the_problem(action, status, message):
    edit = parsed(action)
    assert edit.status == status and message in edit.problem
    assert edit.update.examples == () and edit.sequences == ()
    assert len(edit.problem) < 300


def test_a_learning_rate_of_a_billion_is_a_choice():
    assert parsed(changed(learning_rate=1e9)).status == EditStatus.OK


def test_leave_out_sets_equal_an_independent_enumeration():
    for count in range(1, 6):
        pairs = MiniArc(MiniArcConfig(demonstrations=count)).task("test", 1).demonstrations
        # In every order of the demonstrations the last is the target; orders of the others are one set.
        for left_out in (1, 2):
            expected = {
                (frozenset(order[: count - left_out]), order[-1])
                for order in permutations(range(count))
                if count - left_out >= 0
            }
            sets = leave_out(pairs, left_out)
            indices = [(frozenset(map(pairs.index, others)), pairs.index(target)) for *others, target in sets]
            assert len(indices) == len(set(indices)) and set(indices) == expected
    assert len(leave_out(TASK.demonstrations, 1)) == 4 and len(leave_out(TASK.demonstrations, 2)) == 4 * 3


def choice(**switches: bool) -> ToolEdit:
    return ToolEdit(*(switches.get(group, False) for group in GROUPS), STRATEGIES[1], 1e-3, 1)


def test_without_augmentations_only_the_order_changes():
    small = training_set(TASK.demonstrations, choice(), random.Random(0))
    assert {pair for task in small for pair in task} == set(TASK.demonstrations)
    assert 4 + 12 < len(small) <= 2 * (4 + 12)
    assert len({(frozenset(others), target) for *others, target in small}) == 16


def test_augmentations_multiply_the_set_and_permute_colours():
    small = training_set(TASK.demonstrations, choice(basic=True), random.Random(0))
    assert 16 * 11 < len(small) <= 2 * 16 * 12
    assert len(small) == len(set(small))
    inputs = {pair.input for pair in TASK.demonstrations}
    plain = [task for task in small if {pair.input for pair in task} <= inputs]
    assert len(plain) >= 16
    # Every task has a copy with other colours and the same background.
    for task in plain[:5]:
        shape = [[tuple(c > 0 for c in row) for row in grid] for pair in task for grid in pair]
        alike = [
            other
            for other in small
            if sorted([[tuple(c > 0 for c in row) for row in grid] for pair in other for grid in pair]) == sorted(shape)
        ]
        assert len(alike) >= 2


def test_each_switch_adds_its_group_of_augmentations():
    plain = {size(pair.input) for task in training_set(TASK.demonstrations, choice(), random.Random(0)) for pair in task}
    assert plain == {(3, 3)}
    expected = {
        "basic": {(6, 3), (3, 6)},
        "size": {(6, 6), (6, 3), (3, 6)},
        "chain": {(6, 6)},
        "repeat": {(6, 3), (3, 6), (6, 6)},
    }
    for group, sizes in expected.items():
        small = training_set(TASK.demonstrations, choice(**{group: True}), random.Random(0))
        assert {size(pair.input) for task in small for pair in task} == plain | sizes


def test_grids_over_30_are_left_out():
    large = tuple(tuple((i + j) % 3 for j in range(20)) for i in range(20))
    pairs = (Pair(large, large[::-1]), Pair(large[::-1], large))
    small = training_set(pairs, choice(size=True, repeat=True), random.Random(0))
    assert {size(grid) for task in small for pair in task for grid in pair} == {(20, 20)}


def test_limits_are_kept():
    edit = parsed(EDIT.text())
    assert edit.status == EditStatus.OK and len(edit.update.examples) == 250 and edit.dropped > 0
    assert len(parsed(EDIT.text(), ToolSettings(max_examples=7)).update.examples) == 7
    assert parsed(changed(num_train_epochs=4)).status == EditStatus.TOO_MANY_STEPS  # 4 x 125 steps
    short = parsed(EDIT.text(), ToolSettings(max_tokens=250))
    assert short.update.examples and max(len(example.text) for example in short.update.examples) <= 250


def test_the_update_is_seals_and_a_function_of_the_seed():
    update = parsed(EDIT.text(), seed=5).update
    assert (
        update.config.learning_rate,
        update.config.epochs,
        update.config.batch_size,
        update.config.schedule,
        update.config.warmup_steps,
    ) == (1e-3, 3, 2, "cosine", 11)
    assert update == parsed(EDIT.text(), seed=5).update != parsed(EDIT.text(), seed=6).update


def test_the_loss_is_on_the_output_alone_or_on_everything():
    for strategy, everything in (("train_using_output_tokens", False), ("train_using_all_tokens", True)):
        for example in parsed(changed(strategy=strategy)).update.examples[:20]:
            before, output = example.text[: example.loss_from], example.text[example.loss_from :]
            if everything:
                assert before == ""
            else:
                assert before.endswith("\nOutput:\n") and "Input" not in output and output.endswith("\n\n")


def test_two_demonstrations_and_one_make_a_training_set():
    for count, least in ((2, 4), (1, 1)):
        edit = parsed(choice().text(), demonstrations=TASK.demonstrations[:count])
        assert edit.status == EditStatus.OK and len(edit.update.examples) >= least


@pytest.mark.parametrize(
    "values", [{"max_examples": 0}, {"max_steps": 2.5}, {"batch_size": -1}, {"schedule": "step"}, {"max_tokens": 0}]
)
def test_settings_that_cannot_work_are_named(values):
    (name,) = values
    with pytest.raises(ValueError, match=name if name != "max_tokens" else "max_length"):
        ToolSettings().with_options(**values)


def test_errors_of_an_edit_made_in_code_name_the_value():
    with pytest.raises(ToolEditError, match="strategy must be"):
        ToolEdit(True, True, True, True, "all", 1e-3, 1)
