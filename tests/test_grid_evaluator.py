"""Grid evaluation: views and their inverses, the vote, and which tasks count as solved."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from seal_env.chat import Chat
from seal_env.evaluation import VIEWS, GridEvaluator
from seal_env.evaluation.grid_evaluator import attempts
from seal_env.tasks.arc import ArcPrompts, ArcTask, MiniArc, MiniArcConfig, Pair, grid_text, pairs_text, read_grid, read_pairs
from seal_env.update import TokenExample

TASK = MiniArc(MiniArcConfig(tests=2)).task("test", 4)


def written(evaluator: GridEvaluator, task: ArcTask, predict, style="spaced") -> list[str]:
    """What a model would write that reads its prompt and answers ``predict(view, test)``, seen through the view."""
    texts = []
    for test in task.tests:
        for view in evaluator.views:
            for _ in range(min(evaluator.orders, len(task.demonstrations))):
                texts.append(grid_text(view.apply(predict(view, test)), style))
    return texts


@pytest.mark.parametrize("style", ["spaced", "labelled"])
def test_prompts_show_every_view_with_its_demonstrations(style):
    evaluator = GridEvaluator(ArcPrompts(style), orders=2)
    prompts = evaluator.prompts(TASK)
    assert len(prompts) == len(TASK.tests) * len(VIEWS) * 2
    plain = pairs_text(TASK.demonstrations, style)
    assert prompts[0].startswith(plain) and grid_text(TASK.tests[0].input, style) in prompts[0]
    assert prompts[0].endswith("\nOutput:\n" + ("a" if style == "labelled" else ""))
    turned = pairs_text(
        [Pair(*(tuple(map(tuple, np.rot90(grid).tolist())) for grid in pair)) for pair in TASK.demonstrations], style
    )
    assert turned in prompts[2 * VIEWS.index(next(view for view in VIEWS if view.name == "rotate 90"))]
    moved = pairs_text(TASK.demonstrations[1:] + TASK.demonstrations[:1], style)
    assert prompts[1].startswith(moved)
    assert all(grid_text(test.output, style) not in prompts[-1].rpartition("Input:")[2] for test in TASK.tests)


def test_views_are_turned_back():
    evaluator = GridEvaluator(ArcPrompts())
    answers = evaluator.answers(TASK, written(evaluator, TASK, lambda view, test: test.output))
    assert [attempts(answer) for answer in answers] == [[test.output] for test in TASK.tests]
    (verdicts,) = evaluator.verdicts([(TASK, answers)])
    assert verdicts == (True, True) and evaluator.score(verdicts) == 1.0


def test_two_attempts_by_vote_and_of_equals_the_first():
    evaluator = GridEvaluator(ArcPrompts(), orders=1)
    first, second, third = ((1,),), ((2,),), ((3,),)
    predicted = dict(zip([view.name for view in VIEWS], (third, first, second, first, second, second, first)))
    answers = evaluator.answers(TASK, written(evaluator, TASK, lambda view, test: predicted[view.name]))
    assert [attempts(answer) for answer in answers] == [[first, second]] * 2
    predicted = dict(zip([view.name for view in VIEWS], (third, first, second, first, second, third, third)))
    answers = evaluator.answers(TASK, written(evaluator, TASK, lambda view, test: predicted[view.name]))
    assert attempts(answers[0]) == [third, first]


def test_a_task_is_solved_when_every_test_is_matched_by_either_attempt():
    evaluator = GridEvaluator(ArcPrompts(), orders=1)
    right, wrong = TASK.tests[0].output, ((9, 9),)

    def second_is_right(view, test):
        return test.output if view.name in ("identity", "transpose") else wrong

    answers = evaluator.answers(TASK, written(evaluator, TASK, second_is_right))
    assert attempts(answers[0]) == [wrong, right]
    assert evaluator.verdicts([(TASK, answers)]) == [(True, True)]
    half = (answers[0], grid_text(wrong))
    assert evaluator.verdicts([(TASK, half)]) == [(True, False)] and evaluator.score((True, False)) == 0.0


def test_what_is_no_grid_gets_no_vote():
    evaluator = GridEvaluator(ArcPrompts(), views=3, orders=1)
    texts = ["no grid", "", "1 2\n3"] * len(TASK.tests)
    answers = evaluator.answers(TASK, texts)
    assert answers == ("", "") and attempts(answers[0]) == []
    assert evaluator.verdicts([(TASK, answers)]) == [(False, False)]


def test_one_demonstration_has_one_order():
    task = MiniArc(MiniArcConfig(demonstrations=1)).task("test", 0)
    evaluator = GridEvaluator(ArcPrompts(), views=2, orders=3)
    assert len(evaluator.prompts(task)) == 2
    assert len(evaluator.answers(task, ["1"] * 2)) == 1


@pytest.mark.parametrize(
    ("values", "message"), [({"views": 0}, "views"), ({"views": 8}, "at most 7"), ({"orders": 0}, "orders")]
)
def test_wrong_arguments_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        GridEvaluator(ArcPrompts(), **values)


@pytest.mark.parametrize("style", ["spaced", "labelled"])
def test_an_example_is_a_prompt_and_its_output(style):
    prompts = ArcPrompts(style)
    text, output = prompts.example(TASK.demonstrations, TASK.tests[0])
    assert text[:output] == prompts.prompt(TASK.demonstrations, TASK.tests[0].input)
    assert prompts.read(text[output:]) == TASK.tests[0].output
    assert text.endswith("\n\n")


def test_demonstrations_are_read_back():
    assert read_pairs(pairs_text(TASK.demonstrations)) == read_pairs(TASK.context) == TASK.demonstrations
    with pytest.raises(ValueError, match="no demonstration"):
        read_pairs("Input:\n1 2\n")


BOS_FIRST = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)


@pytest.mark.parametrize("template", [BOS_FIRST, BOS_FIRST.removeprefix("{{ bos_token }}")])
@pytest.mark.parametrize("adds", ["", "<s> ", "<s> $A </s>"])
def test_an_instruct_model_is_asked_in_its_chat_template(model_path, template: str, adds: str):
    tokenizer = AutoTokenizer.from_pretrained(model_path("llama"))
    tokenizer.chat_template = template
    if adds:
        single = adds if "$A" in adds else f"{adds}$A"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=single, pair=f"{single} $B", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    prompts = ArcPrompts(chat=Chat(tokenizer))
    prompt = prompts.prompt(TASK.demonstrations, TASK.tests[0].input)
    message = pairs_text(TASK.demonstrations) + f"Input:\n{grid_text(TASK.tests[0].input)}\nOutput:\n"
    turn = [{"role": "user", "content": message}]
    assert list(prompt) == tokenizer.apply_chat_template(turn, add_generation_prompt=True, enable_thinking=False)["input_ids"]
    text, output = prompts.example(TASK.demonstrations, TASK.tests[0])
    assert text[:output].endswith("<end><assistant><think></think>") and text.endswith("<end>")
    assert read_grid(text[output:].removesuffix("<end>")) == TASK.tests[0].output
    example = prompts.encode(text, output)
    assert isinstance(example, TokenExample)
    assert example.ids[: len(prompt)] == prompt and example.loss_from == len(prompt)
    assert tokenizer.decode(example.ids) == text
    assert prompts.encode(text, 0) == TokenExample(example.ids, 0)


@pytest.mark.parametrize("written", ["{}", "\n\n{}\n", "<think>\nTurn it.\n\nYes.\n</think>\n\n{}\n\nIt was turned."])
def test_a_grid_is_read_after_thoughts_and_blank_lines_and_before_an_explanation(model_path, written: str):
    tokenizer = AutoTokenizer.from_pretrained(model_path("llama"))
    tokenizer.chat_template = BOS_FIRST
    prompts = ArcPrompts(chat=Chat(tokenizer))
    assert prompts.stop == ()
    assert prompts.read(written.format(grid_text(TASK.tests[0].output))) == TASK.tests[0].output
