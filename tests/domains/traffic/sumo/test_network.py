"""A network written by hand: lanes, stages, exits, neighbours, and the scenario made of it. Needs no SUMO."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from domains.traffic.sumo.__main__ import main
from domains.traffic.sumo.mapping import attributes_of, entity_id
from domains.traffic.sumo.network import Network, NetworkError, read_network
from domains.traffic.sumo.scenario import scenario_text
from twin_actors.scenario import load_scenario

FILE = Path(__file__).with_name("crossing.net.xml")
CONFIG = """<configuration><input><net-file value="{net}"/><route-files value="trips.xml"/></input>
<time><begin value="0"/><end value="300"/></time></configuration>"""


@pytest.fixture(scope="module")
def network() -> Network:
    return read_network(FILE)


def test_signals_and_their_stages(network: Network) -> None:
    assert set(network.signals) == {"west", "east"}, "a light that never changes is no signal"
    west = network.signals["west"]
    assert west.lanes == ("avenue_0", "avenue_1", "side_0")
    assert west.stages == ("GgGr", "rrrG")
    assert [phase.duration_s for phase in west.program] == [30, 3, 20, 3]


def test_a_permitted_turn_counts_less_than_a_protected_way(network: Network) -> None:
    west = network.signals["west"]
    # straight on weighs 2 and is protected, the left turn weighs 1 and is permitted: (2·1 + 1·0.4)/3
    assert west.serves(0, "avenue_0") == pytest.approx(0.8)
    assert west.serves(0, "avenue_1") == 1.0
    assert west.serves(0, "side_0") == 0.0
    assert west.serves(1, "side_0") == 1.0


def test_ways_through_and_beyond_a_signal(network: Network) -> None:
    assert network.signals["west"].exits("avenue_0") == ("middle_0", "north_0")
    assert set(network.inside["avenue_0"]) == {":west_0_0", ":west_1_0", ":west_2_0"}
    assert network.held_below("side_0") == ("last_0",)
    assert network.held_below("last_0") == ()
    assert network.upstream("avenue_0") == ("avenue_0", "in_0")
    assert network.upstream("avenue_0", 100.0) == ("avenue_0",)
    (feed,) = network.feeds
    assert (feed.source, feed.target) == ("west", "east")
    assert feed.length_m == 150.0
    assert feed.travel_s == pytest.approx(15.0)


def test_yellow_only_where_green_ends(network: Network) -> None:
    west = network.signals["west"]
    assert west.yellow("GgGr", "rrrG") == "yyyr"
    assert west.yellow("GgGr", "GgGr") == "GgGr"
    assert west.yellow("GgGr", "Grrr") == "Gyyr"


def test_a_signal_stands_where_the_projection_says(network: Network) -> None:
    pytest.importorskip("pyproj", reason="positions need pyproj")
    position = network.position(network.signals["west"])
    assert position is not None
    assert position == pytest.approx((53.249, 9.003), abs=0.002)


def test_the_scenario_of_a_network_is_valid_and_names_its_neighbours(network: Network, tmp_path: Path) -> None:
    file = tmp_path / "crossing.yaml"
    file.write_text(scenario_text(network, "crossing", rule="sotl"))
    scenario = load_scenario([file])
    assert [entity.id for entity in scenario.entities] == ["signal/west", "signal/east"]
    assert [(each.source, each.target, each.delay_s) for each in scenario.relations] == [
        ("signal/west", "signal/east", 15.0)
    ]
    assert scenario.policies[0].parameters["rule"] == "sotl"
    west = attributes_of(network, network.signals["west"])
    assert west["saturation_vph"][:4] == [1800.0, 1800.0, 1800.0, 0.0]
    assert west["storage_veh"][:3] == [pytest.approx(25.3), pytest.approx(25.3), pytest.approx(6.7)]


def test_the_command_line_writes_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    packed = tmp_path / "crossing.net.xml.gz"
    packed.write_bytes(gzip.compress(FILE.read_bytes()))
    assert main(["scenario", str(packed), "--city", "crossing"]) == 0
    assert "name: feeds" in capsys.readouterr().out.replace('"', "")


@pytest.mark.parametrize(
    ("content", "says"),
    [("no xml", "not XML"), ("<routes/>", "not <net>"), ("<net/>", "nothing to control")],
)
def test_what_is_no_network_is_refused_with_words(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.net.xml"
    file.write_text(content)
    with pytest.raises(NetworkError, match=says):
        read_network(file)
    assert main(["scenario", str(file), "--city", "bad"]) == 2


def test_ids_hold_no_characters_of_topics_and_patterns() -> None:
    assert entity_id("cluster_1 2#3/4+") == "signal/cluster_1-2-3-4-"


def test_joined_names_are_cut_and_stay_different() -> None:
    one, other = ("cluster_" + "_".join(str(each) for each in range(100, 140)) + end for end in ("_1", "_2"))
    assert len(one) > 128
    assert len(entity_id(one)) <= len("signal/") + 128
    assert entity_id(one) != entity_id(other)
    assert entity_id(one).startswith("signal/cluster_100_101")


def test_without_the_extra_the_command_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['libsumo'] = None\n"
        "from domains.traffic.sumo.__main__ import main\n"
        f"sys.exit(main(['run', {str(tmp_path / 'x.sumocfg')!r}, '--broker', 'mqtt://127.0.0.1:1', '--root', 'x']))"
    )
    (tmp_path / "x.sumocfg").write_text(CONFIG.format(net=FILE))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "pip install 'twin-actors[sumo]'" in done.stderr
