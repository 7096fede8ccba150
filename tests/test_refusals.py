"""Endpoints that refuse: a refused prompt does not end a run, and a wrong setting ends it with the endpoint's message."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from benchmarks.cli import main
from seal_env.chat import without_thoughts
from seal_env.evaluation.graders import UNGRADED, Answered, GradingError, get_grader, grade
from seal_env.evaluation.graders.judge import Judge
from seal_env.evaluation.graders.judge_prompt import MAX_CHARACTERS, SYSTEM, TEST_PROMPT, messages
from seal_env.evaluation.graders.local_judge import LocalJudge
from seal_env.rewards import EditText, Rating, rate
from seal_env.rewards import rubric as rubrics
from seal_env.rewards.rubric import CRITERIA, Rubric
from tests.endpoint import ChatHandler, ChatServer, serving
from tests.test_judge import TEMPLATE, VARIED, by_hand
from tests.test_judge import folder as folder

KEY = "sk-9f0e-never-to-be-seen"
Reply = tuple[int, Any]  # status and JSON
FILTERED = "The response was filtered due to the prompt triggering the content management policy."


def completion(content: Any, finish: str = "stop", **message: Any) -> Reply:
    return 200, {"choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}]}


def refused(message: str, status: int = 400, **fields: Any) -> Reply:
    return status, {"error": {"message": message, **fields}}


class Endpoint(ChatServer):
    """Replies to a request's body with ``reply(body)``; ``test_prompts`` counts the requests with the harmless prompt."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.reply: Callable[[dict[str, Any]], Reply] = lambda body: completion("yes")

    def __call__(self, reply: Callable[[dict[str, Any]], Reply]) -> None:
        self.bodies.clear()
        self.reply = reply

    @property
    def test_prompts(self) -> int:
        return sum(TEST_PROMPT[-1]["content"] in body["messages"][-1]["content"] for body in self.bodies)


class _Handler(ChatHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.body()
        with self.server.lock:
            self.server.bodies.append(body)
        status, reply = self.server.reply(body)
        self.send(status, json.dumps(reply).encode())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    with serving(server):
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def options(endpoint: Endpoint, tmp_path: Path) -> dict[str, Any]:
    return {"model": "m", "base_url": endpoint.url, "cache": str(tmp_path / "cache"), "backoff": 0.001}


@pytest.fixture
def judge(options: dict[str, Any]) -> Callable[..., Judge]:
    return lambda **more: get_grader("judge", {**options, **more})


def items(n: int) -> list[Answered]:
    return [Answered("When did Otrar fall?", f"in 1219, case {i}.", ("1219",)) for i in range(n)]


def answer_of(body: dict[str, Any]) -> str:
    """The answer that a request grades; empty for the harmless prompt."""
    content = body["messages"][-1]["content"]
    return "" if TEST_PROMPT[-1]["content"] in content else json.loads(content[content.index("{") :])["answer"]


def is_case(body: dict[str, Any], *cases: int) -> bool:
    return any(answer_of(body).endswith(f"case {i}.") for i in cases)


# One prompt -------------------------------------------------------------------------------------------------------------

REFUSED = {
    "content filter": refused(FILTERED, code="content_filter"),
    "too long": refused("This model's maximum context length is 2048 tokens, however you requested 2100 tokens"),
    "too large": refused("Request Entity Too Large", 413),
    "cannot be processed": refused("Prompt contains invalid characters", 422),
    "detail of a validation": (422, {"detail": [{"loc": ["body", "messages"], "msg": "string too long"}]}),
    "a list": (400, [{"error": {"code": 400, "message": "The prompt was blocked"}}]),
    "a string": (400, {"error": "prompt blocked"}),
    "no JSON object": (400, "blocked"),
    "filtered reply": completion(None, "content_filter"),
    "filtered half-way": completion("ye", "content_filter"),
    "error in a 200": refused("content_filter: " + FILTERED, 200),
    "status in a 200": refused("Input was flagged", 200, code=400),
    "string in a 200": (200, {"error": "prompt blocked"}),
    "an echo in a 200": refused("blocked: 'rate limit, try again, invalid API key'", 200, type="invalid_request_error"),
    "error of a choice": (200, {"choices": [{"error": {"code": 422, "message": "blocked"}, "finish_reason": "error"}]}),
    "the model's refusal": completion(None, refusal="I'm sorry, I cannot assist with that."),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("concurrency", [1, 16])
def test_one_refused_prompt_is_left_out_and_the_others_are_judged(
    judge, endpoint: Endpoint, caplog: pytest.LogCaptureFixture, name: str, concurrency: int
) -> None:
    endpoint(lambda body: REFUSED[name] if is_case(body, 1) else completion("yes"))
    grader = judge(concurrency=concurrency)
    assert list(grade(grader, items(5)).values()) == [True, None, True, True, True]
    assert grader(items(3)) == [True, UNGRADED, True]
    assert len(endpoint.bodies) == 6 and endpoint.test_prompts == 1  # asked once, besides a test of the endpoint
    assert "on_refused='skip' holds for 1 of 5 answers: " in caplog.text


def test_the_log_says_why_in_the_endpoints_words_without_the_key(judge, endpoint: Endpoint, caplog, tmp_path: Path) -> None:
    endpoint(lambda body: refused(f"flagged,\nyou sent Bearer {KEY}") if is_case(body, 0) else completion("yes"))
    assert list(grade(judge(), items(2)).values()) == [None, True]
    assert "1 of 2 answers: HTTP 400, flagged, you sent Bearer *** (1)" in caplog.text
    kept = "".join(path.read_text() for path in (tmp_path / "cache").iterdir())
    assert KEY not in caplog.text + kept and "you sent Bearer ***" in kept


def test_whichever_are_refused_the_verdicts_are_the_same_whatever_the_order(judge, endpoint: Endpoint) -> None:
    endpoint(lambda body: refused(FILTERED) if is_case(body, *range(0, 40, 3)) else completion("yes"))
    expected = [UNGRADED if i % 3 == 0 else True for i in range(40)]
    for concurrency in (1, 3, 16, 40):
        grader = judge(concurrency=concurrency, cache=None)
        assert grader(items(40)) == expected and grader.requests == 41
    assert judge(cache=None)(items(40)[::-1]) == expected[::-1]


@pytest.mark.parametrize("count", [1, 3])
def test_where_every_prompt_is_refused_a_harmless_one_decides(judge, endpoint: Endpoint, count: int) -> None:
    endpoint(lambda body: refused(FILTERED) if answer_of(body) else completion("Yes, there are."))
    assert judge()(items(count)) == [UNGRADED] * count
    endpoint(lambda body: refused("Unknown parameter: 'messages'"))
    with pytest.raises(ValueError, match="HTTP 400, Unknown parameter: 'messages'; the key is taken from OPENAI_API_KEY"):
        judge(cache=None)(items(count))
    assert endpoint.test_prompts == 1


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_wrong_setting_is_an_error_at_once_in_the_endpoints_words(judge, endpoint: Endpoint, concurrency: int) -> None:
    for reply in (
        refused("logit_bias is not allowed"),
        refused("logit_bias is not allowed", 200),
        refused("no such model", 422),
    ):
        endpoint(lambda body, reply=reply: reply)
        with pytest.raises(ValueError, match=reply[1]["error"]["message"]) as caught:
            judge(concurrency=concurrency, backoff=30.0)(items(50))
        assert "\n" not in str(caught.value) and len(endpoint.bodies) <= concurrency + 1


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (refused("Incorrect API key provided", 401), "HTTP 401, the key was refused"),
        (refused("no access to this model", 403), "HTTP 403, the key was refused"),
        (refused("The model `m` does not exist", 404), "HTTP 404, The model `m` does not exist"),
        (refused(f"Incorrect API key {KEY[:9]}", 200, code="invalid_api_key"), "HTTP 200, the key was refused"),
        (refused("The model `m` does not exist", 200, code=404), "HTTP 200, The model `m` does not exist"),
    ],
)
def test_what_is_never_about_one_prompt_is_an_error_at_once(judge, endpoint: Endpoint, reply: Reply, message: str) -> None:
    endpoint(lambda body: reply if is_case(body, 2) else completion("yes"))
    with pytest.raises(ValueError, match=message) as caught:
        judge(concurrency=1)(items(50))
    assert endpoint.test_prompts == 0 and len(endpoint.bodies) == 3 and KEY[:9] not in str(caught.value)


def test_a_test_prompt_that_fails_in_passing_decides_nothing(judge, endpoint: Endpoint, caplog) -> None:
    endpoint(lambda body: refused(FILTERED) if answer_of(body) else (503, {}))
    with pytest.raises(GradingError, match="no verdict on 2 of 2"):
        grade(judge(attempts=2), items(2))
    assert "no verdict on 2 of 2 answers: HTTP 503 (2)" in caplog.text
    endpoint(
        lambda body: refused(FILTERED) if answer_of(body) else (503, {}) if endpoint.test_prompts < 2 else completion("yes")
    )
    assert judge()(items(2)) == [UNGRADED] * 2


def test_a_test_prompt_that_is_answered_unclearly_got_through(judge, endpoint: Endpoint) -> None:
    endpoint(lambda body: refused(FILTERED) if answer_of(body) else completion("I think that"))
    assert judge()(items(2)) == [UNGRADED] * 2


def test_on_refused_decides_how_refused_prompts_count(judge, endpoint: Endpoint) -> None:
    endpoint(lambda body: refused(FILTERED) if is_case(body, 1) else completion("yes"))
    assert judge(on_refused="skip", cache=None)(items(3)) == [True, UNGRADED, True]
    assert judge(on_refused="wrong", cache=None)(items(3)) == [True, False, True]
    with pytest.raises(
        ValueError, match=rf"HTTP 400, {FILTERED} \(one prompt is refused: on_refused='skip' or 'wrong' goes on"
    ):
        judge(on_refused="error", cache=None)(items(3))
    with pytest.raises(ValueError, match="on_refused must be one of skip, wrong, error, got 'ignore'"):
        judge(on_refused="ignore")


def test_refusals_are_kept_and_not_asked_again(judge, endpoint: Endpoint) -> None:
    endpoint(lambda body: refused(FILTERED) if is_case(body, 1) else completion("yes"))
    assert judge()(items(3)) == [True, UNGRADED, True]
    requests = len(endpoint.bodies)
    again = judge()
    assert again(items(3)) == [True, UNGRADED, True] and (again.requests, again.cache_hits) == (0, 3)
    assert judge(on_refused="wrong")(items(3)) == [True, False, True] and len(endpoint.bodies) == requests
    # on_refused="error" asks the endpoint again instead of reading the cache.
    with pytest.raises(ValueError, match="content management policy"):
        judge(on_refused="error")(items(3))
    endpoint(lambda body: completion("no"))
    assert judge(on_refused="error")(items(3)) == [True, False, True] and len(endpoint.bodies) == 1
    assert judge()(items(3)) == [True, False, True] and len(endpoint.bodies) == 1  # a verdict replaces a refusal


def test_lines_of_the_cache_that_are_no_refusals_are_passed_over(judge, endpoint: Endpoint, tmp_path: Path) -> None:
    assert judge()(items(1)) == [True]
    (file,) = (tmp_path / "cache").iterdir()
    key = json.loads(file.read_text())["key"]
    for junk in ({"refused": 1}, {"refused": None}, {"refused": ["x"]}, {}):
        file.write_text(json.dumps({"key": key, **junk}) + "\n")
        assert judge()(items(1)) == [True]
    file.write_text(json.dumps({"key": key, "refused": "x"}) + "\n" + json.dumps({"key": key, "verdict": False}) + "\n")
    assert judge()(items(1)) == [False]


def test_an_environment_goes_on_and_says_how_many(options, endpoint: Endpoint) -> None:
    endpoint(lambda body: refused(FILTERED) if "e" in answer_of(body) else completion("no"))
    env = gym.make("SEAL-SQuAD-v0", grader="judge", grader_options=options)
    observation, _ = env.reset(seed=3)
    _, reward, *_, info = env.step(observation["context"])
    rows = info["questions"]
    assert info["ungraded"] == sum(None in (row["correct"], row["correct_before"]) for row in rows) > 0
    assert reward == info["score"]
    requests = len(endpoint.bodies)
    again = gym.make("SEAL-SQuAD-v0", grader="judge", grader_options=options)
    again.reset(seed=3)
    assert again.step(observation["context"])[4] == info and len(endpoint.bodies) == requests


def test_the_command_goes_on_and_a_wrong_setting_is_one_line(options, endpoint: Endpoint, capsys) -> None:
    def run() -> int:
        graded = ["-P", "grader=judge", "-P", f"grader_options={json.dumps(options)}"]
        return main(["eval", "--env", "SEAL-SQuAD-v0", "--agent", "oracle", "--tasks", "2", *graded])

    endpoint(lambda body: refused("no such parameter"))
    assert run() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seal-bench: judge 'm' at ") and "HTTP 400, no such parameter" in line
    endpoint(lambda body: refused(FILTERED) if answer_of(body) else completion("yes"))
    assert run() == 0
    assert "questions without a verdict" in capsys.readouterr().out


# How requests are put ---------------------------------------------------------------------------------------------------

UNSUPPORTED = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported.",
    "system": "System role not supported",
}


def picky(*wanted: str, status: int = 400, system: str = UNSUPPORTED["system"]) -> Callable[[dict[str, Any]], Reply]:
    """An endpoint that refuses requests with the named fields."""

    def reply(body: dict[str, Any]) -> Reply:
        for name in wanted:
            if name in body or (name == "system" and body["messages"][0]["role"] == "system"):
                return refused(system if name == "system" else UNSUPPORTED[name], status, param=name)
        return completion("yes" if "case 0" not in answer_of(body) else "no")

    return reply


@pytest.mark.parametrize(
    "wanted",
    [["max_tokens"], ["temperature"], ["system"], ["max_tokens", "temperature"], ["temperature", "system", "max_tokens"]],
    ids="+".join,
)
@pytest.mark.parametrize("concurrency", [1, 16])
def test_requests_are_put_as_an_endpoint_wants_them(judge, endpoint: Endpoint, caplog, wanted, concurrency: int) -> None:
    endpoint(picky(*wanted))
    grader = judge(concurrency=concurrency)
    assert grader(items(20)) == [False] + [True] * 19
    assert endpoint.test_prompts == 1 + len(wanted)
    body = endpoint.bodies[-1]
    assert ("temperature" in body) == ("temperature" not in wanted)
    assert [body.get(name) for name in ("max_tokens", "max_completion_tokens")] == (
        [None, 8] if "max_tokens" in wanted else [8, None]
    )
    prompt = messages(next(item for item in items(20) if item.prediction == answer_of(body)))
    if "system" in wanted:
        assert body["messages"] == [{"role": "user", "content": f"{SYSTEM}\n\n{prompt[1]['content']}"}]
    else:
        assert body["messages"] == prompt
    (line,) = [record.getMessage() for record in caplog.records if "the endpoint asks for" in record.getMessage()]
    assert all(
        (change in line) == (name in wanted)
        for name, change in {"max_tokens": "max_completion_tokens", "temperature": "no temp", "system": "instruction"}.items()
    )
    endpoint.bodies.clear()
    assert grader(items(30)[20:]) == [True] * 10 and len(endpoint.bodies) == 10  # learnt once


@pytest.mark.parametrize(
    "words",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
    ],
)
def test_a_refused_system_message_is_known_by_many_words(judge, endpoint: Endpoint, words: str) -> None:
    endpoint(picky("system", system=words, status=422))
    assert judge()(items(3)) == [False, True, True]


def test_an_endpoint_that_nothing_suits_is_an_error_not_a_loop(judge, endpoint: Endpoint) -> None:
    everything = "temperature and max_tokens are refused, use max_completion_tokens and no system message"
    endpoint(lambda body: refused(everything))
    with pytest.raises(ValueError, match=everything):
        judge(concurrency=1)(items(9))
    assert len(endpoint.bodies) == 1 + 4


def test_what_a_refused_prompt_says_does_not_change_how_others_are_put(judge, endpoint: Endpoint) -> None:
    """The message of a content filter may repeat untrusted text."""
    words = "blocked: 'temperature and max_tokens are not supported, use max_completion_tokens, no system role'"
    endpoint(lambda body: refused(words) if is_case(body, 1) else completion("yes"))
    assert judge(concurrency=1)(items(3)) == [True, UNGRADED, True]
    assert all(body["temperature"] == 0 and body["max_tokens"] == 8 and len(body["messages"]) == 2 for body in endpoint.bodies)


def test_refused_prompts_are_known_as_such_where_requests_are_put_differently(judge, endpoint: Endpoint) -> None:
    wants = picky("max_tokens", "temperature")
    endpoint(lambda body: refused(FILTERED) if is_case(body, 1) and "max_tokens" not in body else wants(body))
    for concurrency in (1, 8):
        assert judge(concurrency=concurrency, cache=None)(items(3)) == [False, UNGRADED, True]


def test_further_fields_are_sent_and_verdicts_kept_apart_by_them(judge, endpoint: Endpoint) -> None:
    plain = judge()
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": None, "max_tokens": 99, "seed": 7}
    endpoint(lambda body: completion("no" if "seed" in body else "yes"))
    assert (plain(items(2)), judge(extra_body=extra)(items(2))) == ([True] * 2, [False] * 2)
    body = endpoint.bodies[-1]
    assert {name: body.get(name) for name in extra} == extra and "temperature" not in body and body["model"] == "m"
    requests = len(endpoint.bodies)
    same = {"seed": 7, **{name: extra[name] for name in reversed(extra)}}
    assert judge(extra_body=same)(items(2)) == [False] * 2 and judge(extra_body={})(items(2)) == [True] * 2
    assert len(endpoint.bodies) == requests
    judge(extra_body={**extra, "seed": 8})(items(2))
    assert len(endpoint.bodies) == requests + 2
    judge(extra_body={"max_completion_tokens": 500})(items(1))
    assert endpoint.bodies[-1]["max_completion_tokens"] == 500 and "max_tokens" not in endpoint.bodies[-1]


def test_the_keys_of_verdicts_that_were_kept_before_hold(judge) -> None:
    grader = judge(base_url="http://localhost:8000/v1")
    key = grader._hash(messages(items(1)[0]))
    assert key == "96a3e26fb0cc3b0a196dc5f586b60365f252f27a0a0f7abcbe94bca70d682a49"
    assert judge(base_url="http://localhost:8000/v1", reply_tokens=99)._hash(messages(items(1)[0])) == key


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"model": "other"}, "extra_body cannot set model"),
        ({"stream": True, "messages": []}, "extra_body cannot set messages, stream"),
        ({"seed": float("nan")}, "extra_body must be JSON"),
        ({"seed": {1, 2}}, "extra_body must be JSON"),
        ({"logit_bias": {50256: -100}}, "extra_body must be JSON as it is: names are strings"),
        ({"stop": ("a",)}, "extra_body must be JSON as it is"),
        ({1: 2}, "extra_body must be JSON as it is"),
        ([("seed", 1)], "extra_body must be a dictionary .* got a list"),
        ("seed=1", "extra_body must be a dictionary .* got a str"),
    ],
    ids=repr,
)
def test_fields_that_cannot_be_sent_are_named(judge, extra: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        judge(extra_body=extra)
    with pytest.raises(ValueError, match="reply_tokens must be an integer >= 1, got 0"):
        judge(reply_tokens=0)


# Replies ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (completion("<think>\n\n</think>\n\nyes"), True),
        (completion("<think>They say no, but yes or no?</think>No."), False),
        (completion("\n<think>a</think> yes"), True),
        (completion("It says 1219, so</think>\n\nyes"), True),  # the chat template opened the thoughts
        (completion("yes", reasoning_content="no, no, no"), True),
        (completion([{"type": "text", "text": "yes"}]), True),
        (
            completion([{"type": "thinking", "thinking": "no"}, {"type": "text", "text": "y"}, {"type": "text", "text": "es"}]),
            True,
        ),
        (completion("<think>yes"), None),
        (completion("<think>yes</think>"), None),
        (completion("<think>a</think>\n<think>b</think>yes"), True),
        (completion("[THINK]no[/THINK]yes"), True),
        (completion("yes <think>or</think> no"), None),
        (completion("no <think>or</think> yes"), None),
        (completion(None, reasoning_content="yes"), None),
        (completion([]), None),
        (completion([{"type": "image_url", "text": "yes"}, "yes", None]), None),
        (completion({"text": "yes"}), None),
        ((200, {"choices": [{"message": None}]}), None),
        ((200, {"choices": [None]}), None),
        ((200, {"choices": {}}), None),
        ((200, {"choices": [], "error": None}), None),
        ((200, []), None),
    ],
    ids=lambda value: json.dumps(value[1])[:60] if isinstance(value, tuple) else str(value),
)
def test_thoughts_are_left_out_and_anything_unclear_is_no_verdict(judge, endpoint: Endpoint, caplog, reply, verdict) -> None:
    endpoint(lambda body: reply)
    assert judge(attempts=1)(items(1)) == [verdict]
    assert ("no clear yes or no" in caplog.text) == (verdict is None)


def test_thoughts_need_tokens_and_too_few_are_reported(judge, endpoint: Endpoint, caplog) -> None:
    endpoint(
        lambda body: (
            completion("<think>Let me see", "length") if body["max_tokens"] < 100 else completion("<think>a</think>yes")
        )
    )
    with pytest.raises(GradingError):
        grade(judge(attempts=1), items(2))
    assert "no verdict on 2 of 2 answers: cut off while thinking: raise reply_tokens (2)" in caplog.text
    assert judge(reply_tokens=100)(items(2)) == [True] * 2
    endpoint(lambda body: completion("", "length", reasoning_content="Let me see"))
    assert judge(attempts=1, cache=None)(items(1)) == [None] and "raise reply_tokens (1)" in caplog.text
    endpoint(lambda body: completion("yes, as", "length"))  # a clear verdict counts, although the reply was cut
    assert judge(attempts=1, cache=None)(items(1)) == [True]


def test_no_thoughts_are_nothing_to_leave_out() -> None:
    for reply in ("", "yes", " no.\n", "a < b > c", "<thinks>"):
        assert without_thoughts(reply) == reply


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Rate limit exceeded", "code": 429},
        {"message": "please slow down", "type": "rate_limit_error"},
        {"message": "Provider returned error", "code": 502},
        {"message": "The engine is currently overloaded, please try again later"},
        {"message": "failed", "type": "server_error", "code": None},
        "Too many requests",
    ],
    ids=str,
)
def test_passing_errors_inside_a_reply_are_tried_again(judge, endpoint: Endpoint, caplog, error: Any) -> None:
    attempts_by_answer = Counter[str]()

    def reply(body: dict[str, Any]) -> Reply:
        attempts_by_answer[answer_of(body)] += 1
        return (200, {"error": error}) if attempts_by_answer[answer_of(body)] <= 2 else completion("yes")

    endpoint(reply)
    assert judge()(items(2)) == [True] * 2 and endpoint.test_prompts == 0
    attempts_by_answer.clear()
    assert judge(attempts=2, cache=None)(items(2)) == [None] * 2
    words = error if isinstance(error, str) else error["message"]
    assert f"no verdict on 2 of 2 answers: HTTP 200, {words} (2)" in caplog.text


# The rubric and the local judge -----------------------------------------------------------------------------------------


def test_an_edit_that_the_rubrics_model_refuses_gets_the_lowest_scores_and_says_so(options, endpoint: Endpoint) -> None:
    edits = [EditText(f"Title {i}", "A passage.", (f"Fact {i}.",)) for i in range(3)]
    best = completion(json.dumps(dict.fromkeys(CRITERIA, 5)))
    endpoint(lambda body: refused(FILTERED) if "Title 1" in body["messages"][1]["content"] else best)
    lowest = Rating(0.0, {**dict.fromkeys(CRITERIA, 1), "refused": 1})
    ratings = list(rate(Rubric(**options), edits).values())
    assert (
        [rating.reward for rating in ratings] == [1.0, 0.0, 1.0]
        and ratings[1] == lowest
        and "refused" not in ratings[0].components
    )
    requests = len(endpoint.bodies)
    assert rate(Rubric(**options), edits)[edits[1]] == lowest and len(endpoint.bodies) == requests
    with pytest.raises(ValueError, match="content management policy"):
        rate(Rubric(**options, on_refused="error"), edits)
    with pytest.raises(ValueError, match="on_refused must be one of lowest, error, got 'skip'"):
        Rubric(**options, on_refused="skip")


def test_a_rubrics_wrong_setting_is_an_error_and_its_model_may_think(options, endpoint: Endpoint) -> None:
    edits = [EditText("Title", "A passage.", ("Fact.",))]
    endpoint(lambda body: refused("no such parameter"))
    with pytest.raises(ValueError, match=r"rubric 'm' at .* HTTP 400, no such parameter"):
        rate(Rubric(**options), edits)
    assert rubrics.TEST_PROMPT[1]["content"] in [body["messages"][1]["content"] for body in endpoint.bodies]
    endpoint(lambda body: completion("<think>{}</think>" + json.dumps(dict.fromkeys(CRITERIA, 5))))
    assert rate(Rubric(**options, reply_tokens=500), edits)[edits[0]].reward == 1.0
    assert endpoint.bodies[-1]["max_tokens"] == 500


def test_a_proxys_refused_edit_goes_into_the_info(options, endpoint: Endpoint) -> None:
    endpoint(
        lambda body: (
            refused(FILTERED)
            if "Fact 1" in body["messages"][1]["content"]
            else completion(json.dumps(dict.fromkeys(CRITERIA, 5)))
        )
    )
    envs = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, reward="proxy", proxy="rubric", proxy_options=options)
    envs.reset(seed=0)
    _, rewards, _, _, infos = envs.step(["Fact 0.", "Fact 1."])
    info = infos["final_info"]
    assert list(rewards) == [1.0, 0.0] and info["refused"][1] == 1 and list(info["_refused"]) == [False, True]


LONG = Answered("q" * MAX_CHARACTERS, "a", ("b",))


def test_a_prompt_that_the_local_judge_cannot_read_is_left_out(folder, caplog) -> None:
    path = folder()
    expected = by_hand(path, VARIED)
    assert LocalJudge(path)([LONG, *VARIED, LONG]) == [UNGRADED, *expected, UNGRADED]
    assert "on_refused='skip' holds for 1 of " in caplog.text and "2048 tokens are read" in caplog.text
    assert LocalJudge(path, on_refused="wrong")([LONG, *VARIED]) == [False, *expected]
    with pytest.raises(ValueError, match=r"take \d+ tokens, .* reads 2048 \(on_refused='skip' or 'wrong' goes on without it\)"):
        LocalJudge(path, on_refused="error")([LONG])


def test_a_local_model_that_reads_next_to_nothing_is_an_error(folder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    path = folder(template=TEMPLATE + "{{ 'x' * 3000 }}")
    with pytest.raises(
        ValueError, match=r"even a short question takes \d+ tokens, and .* reads 2048: take a model that reads more"
    ):
        LocalJudge(path)(VARIED)
