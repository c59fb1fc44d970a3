"""What people ask of a city's past: history, the city as it was, forecasts, and parameters fitted to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twin_actors.runtime import history
from twin_actors.scenario import edits
from twin_actors.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from twin_actors.core.forecasts import Predicted
    from twin_actors.runtime.changing import Change
    from twin_actors.runtime.plan import CityPlan
    from twin_actors.runtime.predicted import PredictedTwin
    from twin_actors.scenario.model import Scenario


class Remembered:
    """The part of ``City`` that reads its store."""

    name: str
    scenario: Scenario
    _plan: CityPlan
    _number: Mapping[str, int]
    _kind_of: Mapping[str, str]
    _actor_of: Mapping[int, str]
    _call: Callable[..., Any]
    kinds: Callable[[], tuple[str, ...]]
    now_s: Callable[[], float]
    apply: Callable[..., Change]

    @cached_property
    def _store(self) -> Store:
        """The city's store, read beside the actors that write it."""
        return self._plan.open_store()

    def history(
        self,
        entity: str,
        field: str,
        *,
        last: float | str | None = None,
        since: float | str | None = None,
        until: float | str | None = None,
        resolution: str = "raw",
    ) -> pd.DataFrame:
        """What one entity has said of one field: ``city.history("air_station/dongsi", "pm25_ugm3", last="6h")``.

        Raw readings with the quality that cleaning gave each, or ``resolution="minute"`` / ``"hour"``: count, min,
        mean, max, last of each bucket. Moments are seconds since the epoch or ISO 8601; the unit is in
        ``df.attrs["units"]["value"]``. Raises KeyError with the nearest name, ValueError.
        """
        now_s = self.now_s()
        since_s, until_s = history.stretch_s(now_s, last, since, until)
        return history.history(
            self._plan, self._store, entity, field,
            since_s=since_s, until_s=until_s, now_s=now_s, resolution=resolution,
        )  # fmt: skip

    def at(self, moment: float | str) -> history.PastCity:
        """The city as it was: ``city.at("2026-11-20T12:00Z")["substation/quay"]`` is a card of that moment."""
        at_s = history.moment_s(moment)
        history.check_moment(self._plan, at_s, self.now_s())
        return history.PastCity(self._plan, self._store, at_s)

    # -- what comes, and how true the twins are ----------------------------------------------------------------

    def forecast(
        self, entity: str, field: str, horizon: float | str | Sequence[float | str] = "1h", *, last: str = "60d"
    ) -> Predicted:
        """What a field will be, with quantiles: ``city.forecast("road/a1", "speed_kmh", "30min")``.

        It rests on the history of ``last``. The method is chosen by a rolling backtest, whose error stands beside the
        forecast; the twin's own model, rolled out, is one of those that compete. ``horizon`` may be several. Raises
        KeyError with the nearest name and ValueError for a history that is too short.
        """
        from twin_actors.runtime import past
        from twin_actors.runtime.predicting import predicted_from_readings

        number = history.number_of(self._plan, entity)
        kind = self._plan.catalogue.kinds[self._kind_of[entity]]
        history.rows_of(kind, entity, field)
        now_s = self.now_s()
        said = past.readings(self._plan, self._store, number, since_s=now_s - history.length_s(last))
        several = [horizon] if isinstance(horizon, str | int | float) else list(horizon)
        return predicted_from_readings(
            kind, field, said, now_s=now_s, horizons_s=[history.length_s(each) for each in several],
            entity=self._plan.scenario.entities[number],
        )  # fmt: skip

    def predicted(self, entity: str) -> PredictedTwin:
        """Every field of one twin a quarter of an hour to a day ahead, with quantiles; also ``city[entity].predicted``.

        Each field by the method that a rolling backtest over its history chooses, with its error beside that of the
        last value; where history is too short, by the twin's own model rolled forward, and it says so. Raises KeyError
        with the nearest id.
        """
        from twin_actors.runtime import past, predicted

        number = history.number_of(self._plan, entity)
        kind = self._plan.catalogue.kinds[self._kind_of[entity]]
        now_s = self.now_s()
        since_s = predicted.since_s(lambda since_s: past.heard(self._plan, self._store, number, since_s), now_s)
        said = past.readings(self._plan, self._store, number, since_s=since_s)
        described = self._plan.scenario.entities[number]
        histories = predicted.from_history(kind, said, now_s=now_s, entity=described)
        until_s = predicted.moments(histories, now_s)
        outlook = self._call(self._actor_of[number], "ahead", entity, until_s)
        return predicted.predicted_twin(kind, entity, histories, outlook, now_s=now_s, until_s=until_s)

    def calibrate(
        self, kind: str, *, fit: Sequence[str] = (), last: float | str = "30d", noises: bool = True,
        apply: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Fit attributes and noises of a kind's twins to the city's own history, judged on its last third.

        Parameters that are no better on that time are not taken. What is better is kept as a version in the store, with
        the evidence that is returned. With ``apply`` the running twins go by it at once, as after ``City.apply``; the
        scenario file does not know of it: ``twin-actors calibrate`` writes a layer that lasts. Raises KeyError for an
        unknown kind, ValueError for too little history, and what ``apply`` raises.
        """
        import pandas as pd

        from twin_actors.runtime import training

        entities = [entity for entity in self.scenario.entities if entity.kind == kind]
        if not entities:
            raise KeyError(f"{self.name} has no twins of kind {kind!r}; its kinds: {', '.join(self.kinds())}")
        now_s = self.now_s()
        batch = training.history_of_store(
            self._plan, self._store, [self._number[entity.id] for entity in entities], now_s - history.length_s(last)
        )
        described = self._plan.catalogue.kinds[kind]
        found = training.calibrate_entities(described, entities, batch, fit=fit, noises=noises)
        training.keep_versions(self._store, found, described, at_s=now_s)
        if apply:
            self.apply(edits.with_parameters(self.scenario, training.changes(found, described)))
        return pd.DataFrame(found.evidence()).set_index("entity")

    def use_parameters(self, entity: str, version: int | None = None) -> Change:
        """Let one running twin go by parameters that a calibration has kept: its newest ``version``, or an older one.

        Raises KeyError for an unknown entity or a version that it does not have, and what ``apply`` raises.
        """
        from twin_actors.runtime import training

        kept = training.version_of(self._store, entity, version) if entity in self._number else None
        if entity in self._number and kept is None:
            have = len(self._store.keys(f"parameters/{entity}/"))
            raise KeyError(f"{entity} has no version {version or ''} of its parameters; there are {have}")
        return self.apply(edits.with_parameters(self.scenario, {entity: kept["parameters"] if kept else {}}))
