"""Processes of a city are recognised by their start time and ended with all their descendants, and nobody else is."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from twin_actors.runtime.processes import Record, Running, end_tree, free_ports, remove_ray_folder

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(script)`` runs a shell script and returns once it has said its first line."""
    started: list[subprocess.Popen[str]] = []

    def begin(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
        assert process.stdout is not None
        process.stdout.close()


def test_a_process_is_found_again_by_id_and_start(start: Start) -> None:
    child = start("echo ready; exec sleep 60")
    running = Running.of(child.pid)
    found = running.process()
    assert found is not None
    assert found.pid == child.pid


def test_a_reused_id_is_somebody_else(start: Start) -> None:
    child = start("echo ready; exec sleep 60")
    former = Running(child.pid, Running.of(child.pid).began_s - 1.0)
    assert former.process() is None
    end_tree(former)
    assert child.poll() is None


def test_a_clock_that_is_set_meanwhile_changes_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day of a process's start is worked out from the clock's time now."""
    child = start("echo ready; exec sleep 60")
    running = Running.of(child.pid)
    created_s = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created_s(process) + 12.0)
    assert running.process() is not None
    end_tree(running, deadline_s=5.0)
    assert not psutil.pid_exists(child.pid)


def test_a_process_that_has_gone_has_no_start(start: Start) -> None:
    child = start("echo ready")
    child.wait(5.0)
    with pytest.raises(psutil.NoSuchProcess):
        Running.of(child.pid)


def test_a_process_and_its_descendants_are_ended(start: Start) -> None:
    child = start("sleep 60 & (sleep 60 & echo ready; wait) & wait")
    bystander = start("echo ready; exec sleep 60")
    running = Running.of(child.pid)
    descendants = psutil.Process(child.pid).children(recursive=True)
    assert len(descendants) >= 2
    # orphans are reaped by process 1, which may take its time: after the deadline they are dead all the same
    end_tree(running, deadline_s=0.2)
    assert running.process() is None
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in descendants)
    assert bystander.poll() is None
    end_tree(running)  # ended already: nothing happens


def test_who_does_not_listen_is_ended_all_the_same(start: Start) -> None:
    child = start("trap '' TERM; echo ready; while :; do sleep 60; done")
    end_tree(Running.of(child.pid), deadline_s=0.1)
    assert Running(child.pid, 0.0).process() is None
    assert not psutil.pid_exists(child.pid) or psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_has_ended_is_not_there(start: Start) -> None:
    child = start("echo ready; exec sleep 60")
    running = Running.of(child.pid)
    child.terminate()
    psutil.wait_procs([psutil.Process(child.pid)], timeout=10)
    assert running.process() is None


def test_nobody_is_nobody() -> None:
    end_tree(None)


# -- the record ----------------------------------------------------------------------------------------------------


def record() -> Record:
    return Record(
        city="town",
        scenario=("/tmp/town.yaml",),
        address="127.0.0.1:6379",
        namespace="town",
        token="secret",
        launched_at_s=5.0,
        head=Running(12, 3.5),
        broker={"port": 1883},
    )


def test_a_record_is_saved_for_its_owner_only_and_loaded_again(tmp_path: Path) -> None:
    assert Record.load(tmp_path) is None
    record().save(tmp_path)
    assert Record.load(tmp_path) == record()
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    record().save(tmp_path)
    changed = record()
    changed.head, changed.devices = None, Running(99, 1.0)
    changed.save(tmp_path)
    assert Record.load(tmp_path) == changed


# -- places --------------------------------------------------------------------------------------------------------


def test_free_ports_are_different_and_below_rays_own() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(20_000 <= port < 32_000 for port in ports)


@pytest.mark.parametrize("name", ["other", "ta-nested"])
def test_only_a_head_s_own_folder_is_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    remove_ray_folder(str(folder))
    remove_ray_folder("")
    assert folder.exists()
