"""A city that was fed is launched again with twin actors that are as large as the measured rate allows."""

import threading

from twin_actors.runtime.measuring import kept_measures
from twin_actors.runtime.sizing import MEASURED_S, READING_US
from twin_actors.testing.live import devices_of, eventually, living, same_twin, settled, twins_inside

SHARE = 0.0001
CITY = f"""
city: measured
tick_s: 0.5
placement: {{entities_per_actor: auto, core_share: {SHARE}}}
entities: [{{kind: footfall, pattern: "f-{{n}}", count: 12}}]
"""


def feed(devices, until):
    """Every twin gets a reading every tenth of a second until then; returns how many were said in all."""
    stop, said = threading.Event(), 0
    at_s = devices.city.now_s() - 600

    def publish():
        nonlocal said
        while not stop.wait(0.1):
            for number in range(1, 13):
                devices.say(f"footfall/f-{number}", {"flow_pph": 100 + number}, at_s=at_s + said * 0.01)
                said += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        until()
    finally:
        stop.set()
        thread.join()
    devices.flush()
    return said


def test_the_next_launch_is_sized_by_the_rate_and_keeps_the_twins(make_scenario, ray_session):
    scenario = make_scenario(CITY)
    with living(scenario, volumes=False) as city, devices_of(city) as devices:
        first = city.sizes().loc["footfall"]
        assert first["bound"] == "small"
        assert set(city.actors()["twins"]) == {first["per_actor"]}

        def measured():
            size = city.sizes().loc["footfall"]
            return (size["measured_s"] or 0.0) >= MEASURED_S and size["readings_per_s"] > 60.0

        said = feed(devices, lambda: eventually(measured, within_s=60.0, says="the rate is measured"))
        before = settled(city, said)
        inside = twins_inside(city)
    with living(scenario, volumes=False) as city:
        store = city.plan.open_store()
        kept = kept_measures(store)["footfall"]
        store.close()
        assert kept.twins == 12
        assert kept.readings_per_s > 40.0, "a rate falls slowly, also over down and up"
        fitting = int(SHARE * 1e6 / READING_US / kept.of_one)
        size = city.sizes().loc["footfall"]
        assert (size["per_actor"], size["bound"]) == (fitting, "rate")
        assert f"{kept.of_one:.3g} readings/s each, 5 µs a reading (assumed)" in size["says"]
        assert max(city.actors()["twins"]) == fitting < first["per_actor"]
        assert city.ledger() == before
        again = twins_inside(city)
        assert again.keys() == inside.keys()
        for entity, twin in inside.items():
            same_twin(twin, again[entity])
        actors = set(city.actors().index)
    with living(scenario) as city:
        assert set(city.actors().index) == actors, "it does not waver"
        assert city.ledger() == before
