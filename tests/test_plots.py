"""The accuracy matrix of continual episodes, and its heat map as a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from seal_env.plots import accuracy_matrix, plot_accuracy_matrix, plot_success
from tests.shared import RUNS, needs_runs
from tests.test_envs import SMALL, edits

NAME = "SEAL-SQuAD-Continual-v0"
MATRIX = np.array([[0.5, np.nan], [0.25, 1.0]])


@pytest.fixture(scope="module")
def keywords(model_path):
    return {"model": model_path("llama"), "updates_per_episode": 3, **SMALL}


def texts_of(svg: Path) -> list[str]:
    """The texts of an SVG file."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())


def test_an_episode_is_a_lower_triangular_matrix(keywords):
    env = gym.make(NAME, **keywords)
    env.reset(seed=0)
    infos = [env.step(edit)[4] for edit in edits(3)]
    matrix = accuracy_matrix(infos)
    assert matrix.shape == (3, 3) and np.array_equal(np.isnan(matrix), np.triu(np.ones((3, 3), bool), 1))
    assert all(np.array_equal(matrix[i, : i + 1], info["accuracy_row"]) for i, info in enumerate(infos))
    assert [matrix[i, i] for i in range(3)] == [info["score"] for info in infos]
    started = accuracy_matrix(infos, before=[0.1, 0.2, 0.3])
    assert started[0].tolist() == [0.1, 0.2, 0.3] and np.array_equal(started[1:], matrix, equal_nan=True)


def test_a_sub_environment_has_the_matrix_of_a_single_environment(keywords):
    envs = gym.make_vec(NAME, num_envs=2, **keywords)
    envs.reset(seed=0)
    texts = edits(6)
    infos = [envs.step(texts[2 * i : 2 * i + 2])[4] for i in range(3)]
    for index in range(2):
        env = gym.make(NAME, **keywords)
        env.reset(seed=index)
        single = accuracy_matrix([env.step(texts[2 * i + index])[4] for i in range(3)])
        assert np.array_equal(accuracy_matrix(infos, index), single, equal_nan=True)


def test_rows_that_are_no_episode_raise_an_error():
    rows = [{"accuracy_row": np.array([0.5])}, {"accuracy_row": np.array([0.5, 1.0])}]
    for infos, before, message in (
        (rows[::-1], None, r"accuracy_row of step 0 has shape \(2,\)"),
        ([rows[0], rows[0]], None, r"accuracy_row of step 1 has shape \(1,\)"),
        ([{"score": 1.0}], None, "step 0 has no 'accuracy_row'"),
        ([], None, "got none"),
        (rows, [0.5], "each of 2 passages"),
    ):
        with pytest.raises(ValueError, match=message):
            accuracy_matrix(infos, before=before)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_plot_is_written_atomically(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / f"matrix.{suffix}"
    plot_accuracy_matrix(MATRIX, path, "Two edits")
    first = path.read_bytes()
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    plot_accuracy_matrix(MATRIX, str(path), "Two edits")
    assert path.read_bytes() == first and list(path.parent.iterdir()) == [path]
    taken = tmp_path / f"folder.{suffix}"
    (taken / "something").mkdir(parents=True)
    with pytest.raises(OSError):
        plot_accuracy_matrix(MATRIX, taken)
    assert sorted(tmp_path.iterdir()) == [taken, path.parent]


def test_cells_hold_percent_and_are_empty_before_their_passage(tmp_path):
    pytest.importorskip("matplotlib")
    plot_accuracy_matrix(MATRIX, tmp_path / "matrix.svg", "Two edits")
    texts = texts_of(tmp_path / "matrix.svg")
    assert {"Two edits", "edit 1", "edit 2", "50", "25", "100", "accuracy on passage", "accuracy (%)"} <= set(texts)
    assert "nan" not in texts and "before" not in texts
    plot_accuracy_matrix(np.vstack([[0.1, 0.2], MATRIX]), tmp_path / "before.svg")
    assert {"before", "10", "20"} < set(texts_of(tmp_path / "before.svg"))


def test_a_plot_on_given_axes_has_the_same_scale():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot_accuracy_matrix(MATRIX / 10, axes)
    (image,) = axes.images
    assert image.get_clim() == (0, 100) and image.get_array().mask.tolist() == [[False, True], [False, False]]


def test_what_cannot_be_drawn_raises_an_error(tmp_path):
    pytest.importorskip("matplotlib")
    for matrix, path, message in (
        (MATRIX, "matrix.jpg", ".png, .svg, .pdf, got"),
        (100 * MATRIX, "matrix.png", "shares from 0 to 1, got 50.0"),
        (MATRIX[:1], "matrix.png", r"got shape \(1, 2\)"),
        (MATRIX[0], "matrix.png", r"got shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_accuracy_matrix(matrix, tmp_path / path)
    assert not list(tmp_path.iterdir())


@needs_runs
def test_the_papers_matrix_is_drawn_as_recorded(tmp_path):
    pytest.importorskip("matplotlib")
    recorded = np.array(json.loads((RUNS / "continual" / "overall_results.json").read_text())["mean_over_sequences"])
    infos = [{"accuracy_row": row[: i + 1]} for i, row in enumerate(recorded[1:])]
    matrix = accuracy_matrix(infos, before=recorded[0])
    assert matrix.shape == (9, 8) and np.diag(matrix[1:]).mean() == pytest.approx(0.415, abs=5e-4)
    assert matrix[-1].mean() == pytest.approx(0.247, abs=5e-4)
    plot_accuracy_matrix(matrix, tmp_path / "paper.svg")
    drawn = [f"{100 * value:.0f}" for value in matrix.ravel() if not np.isnan(value)]
    texts = texts_of(tmp_path / "paper.svg")
    assert all(texts.count(value) >= drawn.count(value) for value in set(drawn))


def test_success_is_drawn_over_learning_rate_and_epochs(tmp_path):
    maps = {"none": np.eye(3, 2), "basic": np.full((3, 2), 0.5)}
    plot_success(maps, (1e-4, 1e-3, 1e-2), (1, 2), tmp_path / "map.svg")
    drawn = (tmp_path / "map.svg").read_text()
    assert "none" in drawn and "basic" in drawn and drawn.count(">50<") >= 6 and "0.0001" in drawn
    for wrong, message in (({"none": np.eye(2)}, "must have shape"), ({"none": np.full((3, 2), 1.5)}, "shares from 0 to 1")):
        with pytest.raises(ValueError, match=message):
            plot_success(wrong, (1e-4, 1e-3, 1e-2), (1, 2), tmp_path / "map.svg")
    with pytest.raises(ValueError, match="a plot is written as"):
        plot_success(maps, (1e-4, 1e-3, 1e-2), (1, 2), tmp_path / "map.gif")
