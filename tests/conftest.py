"""Settings that must stand before anything imports Ray."""

import os
import shutil
import tempfile

import pytest

os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# cities of the tests never mix with those of the user
os.environ["TWIN_ACTORS_HOME"] = tempfile.mkdtemp(prefix="ta-home-", dir="/tmp")


def pytest_sessionfinish() -> None:
    shutil.rmtree(os.environ["TWIN_ACTORS_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that join a cluster of their own come first: the session's Ray, once begun, stays in this process.

    Ray ends a process, without a word, that joins a cluster after it had a Ray of its own. Where two processes share
    the tests (``-n 2 --dist loadgroup``), one has the living cities of tests/runtime and the other all else that lives:
    each has one Ray of its own, and they wait for different things.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group("cities" if "tests/runtime/" in item.nodeid else "all else"))
        if "runtime/test_cluster_" in item.nodeid and "ray_session" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} begins the session's Ray: it belongs into a file without 'cluster'")
    items.sort(key=lambda item: "runtime/test_cluster_" not in item.nodeid)
