"""SUMO for real: a small generated network under twins, in one process and over MQTT with a living city."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from domains.traffic.sumo.connector import Connector
from domains.traffic.sumo.loop import EPOCH_S, TwinLoop
from domains.traffic.sumo.network import read_network
from domains.traffic.sumo.scenario import scenario_text
from domains.traffic.sumo.simulation import Simulation
from twin_actors.scenario import load_scenario

sumo = pytest.importorskip("sumo", reason="SUMO is not installed: pip install 'twin-actors[sumo]'")
pytest.importorskip("libsumo", reason="SUMO is not installed: pip install 'twin-actors[sumo]'")

CONFIG = """<configuration><input><net-file value="net.net.xml"/><route-files value="trips.xml"/></input>
<time><begin value="0"/><end value="300"/></time></configuration>"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of two by two signals with a trip every three seconds across it."""
    folder = tmp_path_factory.mktemp("sumo")
    subprocess.run(
        [
            str(Path(sumo.SUMO_HOME) / "bin" / "netgenerate"), "--grid", "--grid.number", "2", "--grid.length", "150",
            "--grid.attach-length", "150", "--default.lanenumber", "2", "--tls.guess", "--tls.default-type", "static",
            "-j", "traffic_light", "-o", str(folder / "net.net.xml"),
        ],
        check=True, capture_output=True, env={**os.environ, "SUMO_HOME": sumo.SUMO_HOME}, timeout=60,
    )  # fmt: skip
    network = read_network(folder / "net.net.xml")
    edges = {lane.edge for lane in network.lanes.values()}
    ways = [("left0A0", "B0right0"), ("top0A1", "A0bottom0"), ("right1B1", "A1left1"), ("bottom1B0", "B1top1")]
    assert all(way in edges for pair in ways for way in pair), sorted(edges)
    trips = "".join(
        f'<trip id="t{number}" depart="{3 * number}" from="{ways[number % 4][0]}" to="{ways[number % 4][1]}"/>'
        for number in range(80)
    )
    (folder / "trips.xml").write_text(f"<routes>{trips}</routes>")
    file = folder / "grid.sumocfg"
    file.write_text(CONFIG)
    return file


def test_twins_in_one_process_bring_traffic_through(config: Path, tmp_path: Path) -> None:
    with Simulation(config, seed=1, tripinfo=tmp_path / "t.xml") as simulation:
        loop = TwinLoop(simulation.network, {"answer_all": True})
        while not simulation.over:
            orders = loop.decide(simulation.observe())
            assert set(orders) == set(simulation.network.signals)
            for signal, (stage, clearance_s) in orders.items():
                simulation.order(signal, stage, clearance_s=clearance_s)
            simulation.step(10)
    delay = simulation.delay()
    assert delay.trips == 80
    assert delay.finished > 50
    with Simulation(config, seed=1, tripinfo=tmp_path / "fixed.xml") as simulation:
        simulation.step(300)
    assert delay.mean_s < simulation.delay().mean_s


@pytest.mark.timeout(240)
def test_a_living_city_answers_every_observation_over_mqtt(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twin_actors.runtime.reach import address_of
    from twin_actors.testing.live import eventually, living

    monkeypatch.setenv("TWIN_ACTORS_HOME", str(tmp_path / "home"))
    file = tmp_path / "grid.yaml"
    file.write_text(scenario_text(read_network(config.with_name("net.net.xml")), "sumo-grid"))
    with living(load_scenario([file])) as city:
        address, root = address_of(city.plan.broker), city.scenario.root
        with Simulation(config, seed=1, tripinfo=tmp_path / "t.xml") as simulation:
            counters = Connector(simulation, address, root, deadline_s=20.0).run_in_lock_step()
        assert (counters.readings, counters.decisions) == (4 * 30, 4 * 30)
        assert counters.held == counters.stale == counters.rejected == counters.refused == 0
        assert counters.obeyed == 4 * 30
        eventually(lambda: city.ledger().balanced and city.ledger().applied == 4 * 30, says="every reading applied")
        eventually(
            lambda: city.status()["aggregator"]["commands_acknowledged"] == 4 * 30, says="every command acknowledged"
        )
        assert simulation.delay().finished > 50

        with Simulation(config, seed=2, tripinfo=tmp_path / "free.xml") as simulation:
            free = Connector(simulation, address, root, start_s=EPOCH_S + 86_400, boot="free").run_free(speed=40.0)
        assert free.readings == 4 * 30
        assert free.obeyed > 0
        assert free.obeyed + free.stale == free.commands
