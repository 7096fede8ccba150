"""Everything that is found by name can be added from outside: by path, as an object, or as an entry point of a package."""

from __future__ import annotations

import copy
import pickle
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from agents import AGENTS, Policy, get_agent
from agents.baselines import Baseline
from benchmarks.cli import main
from benchmarks.commands.listing import REGISTRIES
from seal_env.domains.arc import ArcConfig
from seal_env.domains.knowledge import KnowledgeConfig
from seal_env.edits import FORMATS, EditFormat
from seal_env.evaluation.graders import GRADERS, Answered, get_grader
from seal_env.evaluation.graders.judge import Judge
from seal_env.evaluation.scoring import Outcome
from seal_env.registry import Registry, callable_problem
from seal_env.rewards import PROXIES, REWARDS, EditText, Rating, get_proxy, get_reward
from seal_env.tasks import DATASETS, Document, Question, Task, load_tasks
from seal_env.tasks.almanac import to_dataset
from seal_env.tasks.arc import ArcTask, MiniArc
from seal_env.tasks.arc.arc_sources import load_arc
from tests.toy import SMALL

OTRAR = "Otrar fell in 1219. The Shah fled."

# What another package adds, one object of each kind ---------------------------------------------------------------------

OUTSIDE = '''
from agents.baselines import Baseline
from seal_env.edits import EditFormat
from seal_env.rewards import Rating
from seal_env.tasks import Question, Task

FORMAT = EditFormat("List the towns of the passage.", "Towns:\\n")


def load(split, *, towns=2):
    return [Task(f"Town {i}", f"Town {i} lies in {split}.", (Question("Where?", (split,)),)) for i in range(towns)]


def grade(answered, verdict=True):
    return [verdict for _ in answered]


def reward(outcome):
    return 3 + outcome.score


class Length:
    def __init__(self, longest=100):
        self.longest = longest

    def __call__(self, edits):
        return [Rating(min(1.0, sum(map(len, edit.segments)) / self.longest), {"length": len(edit.segments)}) for edit in edits]


class Titles(Baseline):
    """Writes the title and nothing else."""

    def predict(self, observations, infos=None, *, seed=0):
        return [info["title"] for info in infos]
'''
KINDS = {  # list, name, object
    "datasets": ("towns", "load"),
    "formats": ("list-towns", "FORMAT"),
    "graders": ("lenient", "grade"),
    "rewards": ("three-more", "reward"),
    "proxies": ("length", "Length"),
    "agents": ("titles", "Titles"),
}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """A package that is installed and adds one object of each kind, and a broken one of each."""
    (tmp_path / "seal_outside.py").write_text(OUTSIDE)
    (tmp_path / "seal_broken.py").write_text("raise RuntimeError('this module\\ncannot be imported')\n")
    about = tmp_path / "seal_outside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: seal-outside\nVersion: 1.0\n")
    lines = []
    for what, (name, attribute) in KINDS.items():
        lines += [f"[{REGISTRIES[what].group}]", f"{name} = seal_outside:{attribute}"]
        lines += ["broken = seal_broken:anything", "malformed = this is = no path"]
    (about / "entry_points.txt").write_text("\n".join([*lines, ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    import seal_outside  # type: ignore[import-not-found]

    yield seal_outside
    for module in ("seal_outside", "seal_broken"):
        sys.modules.pop(module, None)


def given(outside: types.ModuleType, how: str) -> dict[str, Any]:
    """What is given for each kind: an entry point's name, an import path, or the object."""
    if how == "name":
        return {what: name for what, (name, _) in KINDS.items()}
    if how == "path":
        return {what: f"seal_outside:{attribute}" for what, (_, attribute) in KINDS.items()}
    return {what: getattr(outside, attribute) for what, (_, attribute) in KINDS.items()}


@pytest.mark.parametrize("how", ["name", "path", "object"])
def test_every_kind_is_added_from_outside_and_takes_part_in_a_step(outside, model_path, how: str) -> None:
    parts = given(outside, how)
    options = {"model": model_path("toy"), "dataset": parts["datasets"], "edit_format": parts["formats"], **SMALL}
    env = gym.make_vec(
        "SEAL-SQuAD-v0",
        num_envs=2,
        **options,
        dataset_options={"towns": 3},
        split="test",
        reward=parts["rewards"],
        grader=parts["graders"],
        grader_options={"verdict": 0.25},
    )
    agent = get_agent(parts["agents"])(env, Policy.from_pretrained(model_path("toy"), max_new_tokens=2))
    observations, infos = env.reset(seed=0)
    edits = agent.predict(observations, [{"title": title} for title in infos["title"]])
    assert env.unwrapped.task_count == 3 and "Towns:\n" in observations["instruction"][0]
    assert re.fullmatch(r"Town \d lies in test\.", observations["context"][0]) and edits[0].startswith("Town ")
    _, rewards, *_ = env.step(edits)
    assert list(rewards) == [3.25, 3.25]

    env = gym.make("SEAL-SQuAD-v0", **options, reward="proxy", proxy=parts["proxies"], proxy_options={"longest": 10})
    env.reset(seed=0)
    _, reward, *_, info = env.step("Five.")
    assert (reward, info["components"], info["length"]) == (0.5, ("length",), 1)


def test_what_installed_packages_add_is_listed_and_a_broken_one_is_one_line(outside, capsys) -> None:
    for what, (name, _) in KINDS.items():
        assert main(["list", what]) == 0
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert rows[name].endswith("from the package seal-outside")
        kind = REGISTRIES[what].kind
        assert (
            f"({kind} 'broken' cannot be imported from 'seal_broken:anything': this module cannot be imported)"
            in rows["broken"]
        )
        assert f"{kind} 'malformed' cannot be imported" in rows["malformed"]


@pytest.mark.parametrize("what", KINDS)
def test_a_mistaken_name_is_answered_with_the_closest_and_all_that_exist(outside, what: str) -> None:
    registry, (name, _) = REGISTRIES[what], KINDS[what]
    with pytest.raises(ValueError) as caught:
        registry.get(f"{name}s")
    message = str(caught.value)
    assert message.startswith(f"no {registry.kind} '{name}s'. Did you mean '{name}'? There are: {registry.names()[0]}, ")
    assert message.endswith("; or give 'package.module:object'") and all(known in message for known in registry)
    for path, reason in (
        ("no_such:x", "No module named 'no_such'"),
        ("json:x", "has no attribute 'x'"),
        ("json:", "attribute ''"),
    ):
        with pytest.raises(ValueError, match=f"^{registry.kind} '{path}' cannot be imported: .*{reason}"):
            registry.get(path)
    with pytest.raises(ValueError, match=f"^{registry.kind} 3 is no.* There are: {registry.names()[0]}, "):
        registry.get(3)


# Options ----------------------------------------------------------------------------------------------------------------


class Strict:
    """A grader that is a class: its options are those of its constructor."""

    def __init__(self, level: int, twice: bool = False) -> None:
        self.level = level

    def __call__(self, answered: Sequence[Answered]) -> list[Any]:
        return [self.level > 1 for _ in answered]


def lenient(answered: Sequence[Answered], level: int = 0) -> list[Any]:
    return [True for _ in answered]


def anything(answered: Sequence[Answered], **options: Any) -> list[Any]:
    return [bool(options) for _ in answered]


def test_options_are_checked_against_the_signature_of_a_class_and_of_a_function() -> None:
    item = Answered("Who?", "Edda", ("Edda",))
    assert get_grader(f"{__name__}:Strict", {"level": 2})([item]) == get_grader(Strict, {"level": 2})([item]) == [True]
    assert get_grader(lenient, {"level": 3})([item]) == get_grader(anything, {"free": 1})([item]) == [True]
    for grader, options, message in [
        (Strict, {}, "Strict' needs level: grader_options={'level': ...}"),
        (
            f"{__name__}:Strict",
            {"level": 1, "twise": True},
            "Strict': no option 'twise'. Did you mean 'twice'? There are: level",
        ),
        (lenient, {"levl": 1}, "lenient': no option 'levl'. Did you mean 'level'? There are: level"),
        ("exact", {"answers": 1}, "grader 'exact': no option 'answers'"),
        (Strict(2), {"level": 1}, "Strict': no option 'level'"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            get_grader(grader, options)


def test_a_registry_takes_a_name_once_and_only_objects_of_its_kind() -> None:
    registry: Registry[Any] = Registry("thing", "seal_env.no_such_group", callable_problem)
    registry.register("a", lenient, "the first")
    registry.register("b", "not.yet:imported")
    assert [*registry] == registry.names() == ["a", "b"] and "a" in registry and "c" not in registry and None not in registry
    for name, target, message in [
        ("a", lenient, "the thing 'a' exists already"),
        ("x:y", lenient, "thing: the name must be a non-empty string without a colon, got 'x:y'"),
        ("c", 3, "thing 'c' is not callable: 3"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            registry.register(name, target)


# Objects ----------------------------------------------------------------------------------------------------------------

TASKS = [
    Task("Otrar", OTRAR, (Question("Who fled?", ("The Shah",)),), "a"),
    Task("Town", "It lies.", (Question("Q?", ("x",)),)),
]
RECORDS = [{"title": "Otrar", "context": OTRAR, "questions": [{"question": "Who fled?", "answer": "The Shah"}]}]


def test_a_dataset_may_be_in_memory() -> None:
    from datasets import Dataset, DatasetDict

    almanac = list(load_tasks("almanac", limit=3))
    table = to_dataset(almanac)
    for data in (table, DatasetDict({"train": table})):
        source = load_tasks(data)
        assert [task.questions for task in source] == [task.questions for task in almanac]
        assert [task.id for task in source] == ["dataset-0", "dataset-1", "dataset-2"]
    assert [task.id for task in load_tasks(TASKS)] == ["a", "dataset-1"] and load_tasks(TASKS, limit=1)[0].context == OTRAR
    assert load_tasks(RECORDS)[0] == load_tasks({"test": RECORDS}, "test")[0]
    columns = {"context": "text", "answer": "short"}
    renamed = Dataset.from_list([{"title": "Otrar", "text": OTRAR, "question": "Who fled?", "short": "The Shah", "id": "q"}])
    assert load_tasks(renamed, columns=columns)[0].questions[0].answers == ("The Shah",)
    assert not load_tasks([Document("Otrar", OTRAR)]).has_questions
    assert [task.title for task in load_tasks(load_tasks(TASKS), seed=0)] in (["Otrar", "Town"], ["Town", "Otrar"])


def test_an_arc_dataset_may_be_in_memory() -> None:
    task = MiniArc().task("train", 0)
    pairs = {
        part: [{"input": p.input, "output": p.output} for p in getattr(task, part)] for part in ("demonstrations", "tests")
    }
    (read,) = load_arc({"mine": {"train": pairs["demonstrations"], "test": pairs["tests"]}})
    assert isinstance(read, ArcTask) and (read.demonstrations, read.tests, read.id) == (task.demonstrations, task.tests, "mine")
    assert list(load_arc([task])) == list(load_arc(lambda split: [task])) == [task]
    env = gym.make("SEAL-ARC-v0", dataset=[task], adapter_observation="none")
    assert env.reset(seed=0)[1]["task_id"] == task.id


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"test": RECORDS}, "the dataset has no split 'train', only 'test'"),
        ([], "dataset holds no question that has an answer"),
        ([3], "dataset, item 1: expected keys and values, got int"),
        ([{"title": "Otrar"}], "dataset, item 1: no key 'context', only 'title'"),
        (lambda split: 3, "<lambda>' returned something that cannot be read: dataset must be one of almanac, path, hub, "),
        (iter(TASKS), "or tasks or records in memory, got <list_iterator"),
    ],
)
def test_a_dataset_that_cannot_be_read_says_why(dataset: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_tasks(dataset)
    assert "\n" not in str(caught.value)


def test_the_options_of_a_dataset_are_those_of_its_function() -> None:
    for load_dataset, dataset, message in [
        (load_tasks, f"{__name__}:load", f"dataset '{__name__}:load': no option 'towns'"),
        (load_arc, load, f"dataset '{__name__}:load': no option 'towns'"),
        (load_tasks, "path", "dataset 'path' needs path: dataset_options={'path': ...}"),
        (load_tasks, TASKS, "dataset 'in memory': no option 'towns'. There are: data, columns"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            load_dataset(dataset, **({} if dataset == "path" else {"towns": 1}))
    with pytest.raises(ValueError, match="dataset_options must be a dictionary, got 3"):
        KnowledgeConfig(dataset_options=3)  # type: ignore[arg-type]


def half(answered: Sequence[Answered]) -> list[float]:
    return [0.5 for _ in answered]


def constant(outcome: Outcome) -> float:
    return 7.0


def test_objects_take_part_in_a_step_and_copies_of_the_environment_go_on_with_them(model_path) -> None:
    env = gym.make(
        "SEAL-SQuAD-v0", model=model_path("toy"), dataset=TASKS, grader=half, reward=lambda outcome: -outcome.score, **SMALL
    )
    env.reset(seed=0)
    _, reward, *_, info = copy.deepcopy(env).step("An edit.")
    assert reward == env.step("An edit.")[1] == -0.5 and info["questions"][0]["correct"] == 0.5
    with pytest.raises(
        ValueError, match=r"the reward <function .*lambda.* sent to another process: .* 'package.module:object'"
    ):
        pickle.dumps(env)


def test_gym_make_shares_a_dataset_and_a_judge_in_place_of_copying_them(model_path) -> None:
    table, judge = to_dataset(load_tasks("almanac", limit=3)), Judge("m", base_url="http://localhost:1/v1", cache=None)
    env = gym.make("SEAL-SQuAD-v0", model=model_path("toy"), dataset=table, grader=judge, **SMALL)
    assert env.unwrapped.engine.domain.evaluator.grader is judge and env.unwrapped.task_count == 3


def test_a_copy_for_another_process_finds_functions_by_their_path(model_path) -> None:
    env = gym.make("SEAL-SQuAD-v0", model=model_path("toy"), dataset=TASKS, grader=half, reward=constant, **SMALL)
    env.reset(seed=0)
    sent = pickle.loads(pickle.dumps(env))
    assert (sent.unwrapped.config.reward, sent.unwrapped.config.grader) == (f"{__name__}:constant", f"{__name__}:half")
    assert sent.step("An edit.")[1] == env.step("An edit.")[1] == 7.0


def test_a_saved_configuration_names_objects_or_says_that_it_cannot() -> None:
    def local(outcome: Outcome) -> float:
        return 0.0

    config = KnowledgeConfig(reward=constant, grader=half, proxy=Length, edit_format=FORMATS.get("rewrite"))
    values = config.to_dict()
    assert [values[name] for name in ("reward", "grader", "proxy")] == [
        f"{__name__}:{n}" for n in ("constant", "half", "Length")
    ]
    assert values["edit_format"] == "rewrite" and KnowledgeConfig(**values).to_dict() == values
    assert ArcConfig(dataset=load).to_dict()["dataset"] == f"{__name__}:load"
    for keywords, message in [
        ({"reward": local}, "the reward <function .*local.* cannot be saved"),
        ({"grader": Strict(2)}, "the grader <.*Strict object.* cannot be saved"),
        ({"edit_format": EditFormat("Mine.")}, "the edit format EditFormat.* cannot be saved"),
        ({"dataset": TASKS}, r"dataset=\[Task.* is in memory and cannot be saved .* 'package.module:object'"),
        ({"dataset": lambda split: TASKS}, "the dataset <function .* cannot be saved"),
    ]:
        with pytest.raises(ValueError, match=message):
            KnowledgeConfig(**keywords).to_dict()


def load(split: str) -> list[ArcTask]:
    return [MiniArc().task(split, 0)]


class Length:
    def __call__(self, edits: Sequence[EditText]) -> list[Rating]:
        return [Rating(float(len(edit.segments))) for edit in edits]


class Nothing(Baseline):
    def predict(self, observations: Any, infos: Any = None, *, seed: int = 0) -> list[str]:
        return [""] * len(observations["context"])


def test_path_of_leads_back_to_the_object() -> None:
    for registry, target in ((GRADERS, half), (REWARDS, constant), (PROXIES, Length), (AGENTS, Nothing), (DATASETS, load)):
        path = registry.path_of(target)
        assert path == f"{__name__}:{target.__qualname__}" and registry.get(path) is target
    assert GRADERS.path_of("exact") == GRADERS.path_of(GRADERS.get("exact")) == "exact"
    assert get_reward(constant)(None) == 7.0 and len(get_proxy(Length)([EditText("T", "C", ("a", "b"))])) == 1  # type: ignore[arg-type]
