"""A Ray inside this process for the few tests here that need one; whole cities run in processes of their own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def ray_inside() -> Iterator[None]:
    """A local Ray, ended with the module: tests of other folders start their own."""
    import ray

    from twin_actors.runtime.processes import use_token

    use_token(secrets.token_hex(32))
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    yield
    ray.shutdown()
