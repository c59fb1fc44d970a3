"""An actor that does not answer in time: the message says which one, why, and what to do."""

import threading

import pytest

from twin_actors.runtime.waiting import answer

NAMESPACE = "twin-actors-silent"


class Hung:
    """Answers the first question, and hangs over every other."""

    def status(self, which):
        if which:
            threading.Event().wait(60.0)
        return "well"


@pytest.fixture
def create(ray_session):
    made = []

    def create(name, memory):
        made.append(
            ray_session.remote(Hung).options(name=name, namespace=NAMESPACE, num_cpus=0, memory=memory).remote()
        )
        return made[-1]

    yield create
    for handle in made:
        ray_session.kill(handle)


def ask(name, which, *, within_s, needs_bytes=1_000_000):
    return answer(name, NAMESPACE, "status", which, within_s=within_s, needs_bytes=needs_bytes)


def test_one_that_answers_is_heard_and_one_that_hangs_is_named_with_its_process(create):
    create("hung", 1_000_000)
    assert ask("hung", 0, within_s=30.0) == "well"
    with pytest.raises(TimeoutError, match=r"hung has not answered within 0 s: its process \d+ on [\d.]+ lives, but"):
        ask("hung", 1, within_s=0.3)


def test_one_that_waits_for_memory_says_how_much_there_is_and_what_to_do(create):
    needed = 900_000_000_000_000
    create("large", needed)
    with pytest.raises(
        TimeoutError, match=r"large .*no node has the 900000000 MB .*free for actors: [\d.]+ \d+ of \d+"
    ):
        ask("large", 0, within_s=0.3, needs_bytes=needed)


def test_one_that_nobody_has_made_is_no_timeout(ray_session):
    with pytest.raises(ValueError, match="nobody"):
        ask("nobody", 0, within_s=0.3)
