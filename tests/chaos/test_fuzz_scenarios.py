"""A thousand damaged scenario files: each loads, or says what is wrong with file and line; none crashes or hangs."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.mutations import broken_text
from twin_actors.scenario import Catalogue, Scenario, ScenarioError, load_catalogue, load_scenario

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "scenarios").glob("*.yaml"))
SLOWEST_S = 20.0
"""How long one file may take; the largest shipped one loads in well under a second."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped folder, so that relative paths in mutated files lead somewhere."""
    folder = tmp_path_factory.mktemp("scenarios")
    shutil.copytree(ROOT / "scenarios", folder, dirs_exist_ok=True)
    return folder


def judge(path: Path, catalogue: Catalogue) -> str:
    """Load a file: ``loads`` or ``refused``. Any other exception, a hang, or a problem without a place fails."""
    said: list[Any] = []

    def load() -> None:
        try:
            scenario = load_scenario(path, catalogue=catalogue)
            assert Scenario.from_json(scenario.to_json()) == scenario, "what loads can be saved in a city's folder"
            said.append(scenario)
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=load, daemon=True)
    began = time.monotonic()
    thread.start()
    thread.join(SLOWEST_S)
    assert not thread.is_alive(), f"{path} hangs after {time.monotonic() - began:.0f} s:\n{path.read_bytes()!r}"
    answer = said[0]
    if not isinstance(answer, BaseException):
        return "loads"
    if not isinstance(answer, ScenarioError):
        raise AssertionError(f"{type(answer).__name__} for {path.read_bytes()!r}") from answer
    assert answer.problems
    for problem in answer.problems:
        assert problem.file
        assert problem.message
        # only a file that is no text at all has no line to name
        assert problem.line or "UTF-8" in problem.message or "YAML" in problem.message or not is_this(problem, path), (
            str(problem)
        )
    text = str(answer)
    text.encode()
    assert len(text) < 100_000
    return "refused"


def is_this(problem: Any, path: Path) -> bool:
    return bool(problem.file == str(path))


def fuzz_files(folder: Path, seed: int, count: int) -> Counter[str]:
    random = Random(seed)
    catalogue = load_catalogue()
    texts = [path.read_text(encoding="utf-8") for path in SHIPPED]
    texts += [text for text in texts for _ in range(2) if len(text) < 6_000]
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        path = folder / f"mutant-{seed}.yaml"
        path.write_bytes(broken_text(random, random.choice(texts)))
        outcomes[judge(path, catalogue)] += 1
    return outcomes


def test_a_thousand_broken_scenario_files_load_or_are_refused_with_a_place(folder: Path) -> None:
    assert len(SHIPPED) >= 3
    outcomes = fuzz_files(folder, seed=1, count=1_000)
    assert outcomes.total() == 1_000
    assert min(outcomes["loads"], outcomes["refused"]) > 50, outcomes


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_more_broken_scenario_files(folder: Path, seed: int) -> None:
    fuzz_files(folder, seed=seed, count=4_000)
