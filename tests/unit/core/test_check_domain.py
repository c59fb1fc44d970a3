"""``check_domain`` passes what keeps the model contract and fails what breaks it, one broken kind a rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.unit.core import toy
from tests.unit.core.toy import DOMAIN, PIPE, TANK, TankAttributes, TankDrivers, TankState, tank
from twin_actors.core.columns import Column, memory, state
from twin_actors.core.kind import Devices, Domain, Indicator
from twin_actors.core.view import Policy
from twin_actors.testing import check_domain


def domain(**changes: Any) -> Domain:
    """A domain of one tank with something changed."""
    return Domain(name="broken", doc="For tests.", kinds=(tank(**changes),))


def test_the_toy_domain_keeps_the_contract() -> None:
    check_domain(DOMAIN)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_toy_domain_keeps_it_whatever_the_seed(seed: int) -> None:
    check_domain(DOMAIN, seed=seed)


# -- words -------------------------------------------------------------------------------------------------------


def test_a_domain_has_a_doc() -> None:
    with pytest.raises(AssertionError, match="domain toys has no doc"):
        check_domain(dataclasses.replace(DOMAIN, doc=" "))


def test_a_kind_has_a_doc() -> None:
    with pytest.raises(AssertionError, match="kind tank: _documents_itself: the kind has no doc"):
        check_domain(domain(doc=""))


def test_an_indicator_has_a_doc() -> None:
    with pytest.raises(AssertionError, match="kind tank: _documents_itself: indicator volume_m3 has no doc"):
        check_domain(domain(shows=(Indicator(name="volume_m3", unit="m3"),)))


def test_predict_and_indicators_have_docstrings() -> None:
    def silent_predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        return toy.predict(state, attributes, command, couplings, step)

    def silent_indicators(state: Any, attributes: Any, command: Any, windows: Any) -> Any:
        return toy.indicators(state, attributes, command, windows)

    with pytest.raises(AssertionError, match="silent_predict has no docstring"):
        check_domain(domain(predict=silent_predict))
    with pytest.raises(AssertionError, match="silent_indicators has no docstring"):
        check_domain(domain(indicators=silent_indicators))


def test_an_estimated_state_has_an_uncertainty() -> None:
    class Sure(TankState):
        level_m: Column = state("m", default=2, unsure_sd=0, drift=0.5)

    with pytest.raises(AssertionError, match="state level_m needs an unsure_sd"):
        check_domain(domain(state=Sure))


def test_a_state_has_a_finite_default() -> None:
    class Unknown(TankState):
        pumped_h: Column = memory("h", default=np.nan)

    with pytest.raises(AssertionError, match="state pumped_h needs a finite default"):
        check_domain(domain(state=Unknown))


def test_indicators_are_those_that_are_declared() -> None:
    with pytest.raises(AssertionError, match=r"indicators returned \['volume_m3'\], shows declares \['volume_l'\]"):
        check_domain(domain(shows=(Indicator(name="volume_l", unit="l", doc="What is in it."),)))


def test_policies_are_policies_that_know_their_name() -> None:
    policy = Policy(name="drain", doc="Drains.", propose=lambda view, parameters: ())
    check_domain(Domain(name="d", doc="D.", policies={"drain": policy}))
    for policies, words in (
        ({"drain": "a text"}, "policy drain is not a twin_actors.core.view.Policy"),
        ({"other": policy}, "policy other calls itself drain"),
        ({"drain": dataclasses.replace(policy, doc="")}, "policy drain has no doc"),
    ):
        with pytest.raises(AssertionError, match=words):
            check_domain(Domain(name="d", doc="D.", policies=policies))


# -- functions that are not pure ---------------------------------------------------------------------------------


def test_predict_must_not_change_its_inputs() -> None:
    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Raises the level where it lies."""
        np.add(state.level_m, 1.0, out=state.level_m)
        return state

    with pytest.raises((AssertionError, ValueError), match="read-only"):
        check_domain(domain(predict=predict))


def test_indicators_must_not_change_their_inputs() -> None:
    def indicators(state: Any, attributes: Any, command: Any, windows: Any) -> Any:
        """Multiplies the level where it lies."""
        volume = state.level_m
        volume *= attributes.area_m2
        return {"volume_m3": volume}

    with pytest.raises((AssertionError, ValueError), match="read-only"):
        check_domain(domain(indicators=indicators))


def test_predict_must_not_draw() -> None:
    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Draws by itself."""
        shaken = state.level_m + np.random.default_rng().normal(0, 0.1, np.shape(state.level_m))
        return state.replace(level_m=np.clip(shaken, 0, 10))

    with pytest.raises(
        AssertionError, match=r"kind tank: _says_the_same_twice: (?s:.*)predict differs between two calls"
    ):
        check_domain(domain(predict=predict))


def test_predict_must_not_remember() -> None:
    calls: list[int] = []

    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Counts its calls."""
        calls.append(1)
        return state.replace(level_m=np.clip(state.level_m + 1e-3 * len(calls), 0, 10))

    with pytest.raises(
        AssertionError, match=r"kind tank: _says_the_same_twice: (?s:.*)predict differs between two calls"
    ):
        check_domain(domain(predict=predict))


def test_drive_must_draw_from_its_chance_argument() -> None:
    def drive(*given: Any) -> Any:
        """Draws by itself."""
        tanks = given[0]
        return tanks.replace(level_m=np.random.default_rng().uniform(0, 1, np.shape(tanks.level_m)))

    with pytest.raises(AssertionError, match="drive draws from something else than its chance argument"):
        check_domain(domain(devices=Devices(drivers=TankDrivers, drive=drive)))


# -- columns that meet -------------------------------------------------------------------------------------------


def test_components_come_first_and_not_samples() -> None:
    """Summing over the second axis from behind is right without samples and sums over samples with them."""

    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Takes the samples for the pipes."""
        inflow = state.inflow_m3s.sum(axis=-2)
        return state.replace(level_m=np.clip(state.level_m + inflow * step.dt_s / attributes.area_m2, 0, 10))

    with pytest.raises((AssertionError, ValueError), match=r"shape|samples"):
        check_domain(domain(predict=predict))


def test_weights_of_components_are_lifted_over_samples() -> None:
    """Weights ``(3, 1)`` fit the pipes of ``(3, n)``, and the samples of ``(3, 3, n)``."""
    weights = np.arange(1.0, 1.0 + len(PIPE))[:, None]

    def indicators(state: Any, attributes: Any, command: Any, windows: Any) -> Any:
        """A weighted sum that meets the samples."""
        return {"volume_m3": (state.inflow_m3s * weights).sum(axis=0)}

    with pytest.raises((AssertionError, ValueError), match=r"shape|samples"):
        check_domain(domain(indicators=indicators))


def test_twins_do_not_share_a_sum() -> None:
    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Every level as a part of all levels."""
        return state.replace(level_m=state.level_m / state.level_m.sum())

    with pytest.raises(AssertionError, match=r"kind tank: _lifts: (?s:.*)predict, 3 samples"):
        check_domain(domain(predict=predict))


def test_wild_values_of_one_twin_leave_its_neighbours_alone() -> None:
    """Summed over entities only, a leak shows between the twins of a table alone."""

    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Every level as a part of all levels of its sample."""
        return state.replace(level_m=state.level_m / state.level_m.sum(axis=-1, keepdims=True))

    with pytest.raises(AssertionError, match=r"kind tank: _columns_stay_apart: (?s:.*)predict leaks"):
        check_domain(domain(predict=predict))


# -- time --------------------------------------------------------------------------------------------------------


def relax(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
    """dh/dt = (5 − h)/2000 s by Euler's rule."""
    return state.replace(level_m=state.level_m + (5 - state.level_m) * step.dt_s / 2000)


def test_one_long_step_agrees_with_many() -> None:
    """An hour at once makes of 2 m 2 + 3·1.8 = 7.4 m instead of 5 − 3·e^(−1.8) = 4.5 m."""
    with pytest.raises(
        AssertionError,
        match=r"kind tank: _one_long_step_agrees_with_many: .* in level_m: lower max_step_s or integrate",
    ):
        check_domain(domain(predict=relax, max_step_s=3600.0))


def test_short_steps_heal_eulers_rule() -> None:
    check_domain(domain(predict=relax, max_step_s=60.0))


def test_a_step_counts_its_seconds() -> None:
    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """A fifth of the way in every step, however long it was."""
        return state.replace(level_m=state.level_m + 0.2 * (5 - state.level_m))

    with pytest.raises(AssertionError, match="_one_long_step_agrees_with_many: "):
        check_domain(domain(predict=predict, max_step_s=3600.0))


# -- numbers -----------------------------------------------------------------------------------------------------


def test_predict_returns_numbers() -> None:
    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Divides by what is not there."""
        return state.replace(level_m=state.level_m * np.nan)

    with pytest.raises(AssertionError, match="predict is not finite for n = 1"):
        check_domain(domain(predict=predict))


def test_drive_returns_a_state_of_numbers() -> None:
    def wordless(*given: Any) -> Any:
        """Returns no record."""
        return {"level_m": 1.0}

    def endless(*given: Any) -> Any:
        """Fills without an end."""
        return given[0].replace(level_m=np.full_like(given[0].level_m, np.inf))

    with pytest.raises(AssertionError, match="drive must return the State"):
        check_domain(domain(devices=Devices(drivers=TankDrivers, drive=wordless)))
    with pytest.raises(AssertionError, match="drive made a state that is not finite"):
        check_domain(domain(devices=Devices(drivers=TankDrivers, drive=endless)))


def test_the_kinds_of_these_tests_start_from_one_that_passes() -> None:
    check_domain(domain())
    assert tank().attributes is TankAttributes
    assert TANK.devices is not None


def test_an_indicator_must_not_look_at_other_entities() -> None:
    def indicators(state: Any, attributes: Any, command: Any, windows: Any) -> Any:
        """Every volume as a part of all volumes."""
        return {"volume_m3": state.level_m / state.level_m.sum(axis=-1, keepdims=True)}

    with pytest.raises(AssertionError, match=r"kind tank: _columns_stay_apart: (?s:.*)indicator volume_m3 leaks"):
        check_domain(domain(indicators=indicators))


def test_predict_must_not_change_its_step() -> None:
    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Counts in minutes, in place."""
        np.divide(step.dt_s, 60.0, out=step.dt_s)
        return state

    with pytest.raises(AssertionError, match=r"kind tank: _says_the_same_twice: ValueError: .*read-only"):
        check_domain(domain(predict=predict))
