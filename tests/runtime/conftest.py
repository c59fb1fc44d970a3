"""One Ray for all runtime tests of a session, and small scenarios."""

import secrets

import pytest


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray inside this process, ended with the session."""
    import ray

    from twin_actors.runtime.processes import use_token

    use_token(secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def make_scenario(tmp_path):
    """``make_scenario(text)`` writes a scenario file and loads it."""
    from twin_actors.scenario import load_scenario

    def make(text: str):
        path = tmp_path / "scenario.yaml"
        path.write_text(text)
        return load_scenario([path])

    return make
