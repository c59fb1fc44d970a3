"""What people ask of all twins of a kind: frames and queries, put to whoever holds the twins and put together here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.expressions import Condition, Unsupported
from twin_actors.core.fidelity import DRIFTS
from twin_actors.runtime.answering import LEAST_COVERED, Answer, Question, Words, checksum, rmse_units_of, units_of

if TYPE_CHECKING:
    import pandas as pd

    from twin_actors.runtime.plan import CityPlan

MOST_ASKED = 8
"""Twin actors that are asked one by one; of a kind in more of them the aggregator answers, as of its last tick.

A call costs half a millisecond and more, the merged view one call for all.
"""
ANSWERED_WITHIN_S = 2.0
"""For so long twin actors are waited for; the part of those that are late is taken from the aggregator's view."""
TRIES = 3
"""A change of the city between reading its plan and asking its actors is noticed, and all is read again."""


class Roll(NamedTuple):
    """The twins of one kind in the order of the scenario, and what the scenario alone says of them."""

    ids: pd.Index
    checksum: int
    places: Mapping[str, NDArray[np.intp]]  # by actor, in its own order
    checksums: Mapping[str, int]
    tags: Mapping[str, Words]
    shown: Mapping[str, Any]  # the words of each tag as pandas keeps them
    lat_deg: Column
    lon_deg: Column

    @classmethod
    def of(cls, plan: CityPlan, kind: str) -> Roll:
        import pandas as pd

        entities = plan.scenario.entities
        numbers = [number for number, entity in enumerate(entities) if entity.kind == kind]
        place = {number: column for column, number in enumerate(numbers)}
        own = [entities[number] for number in numbers]
        places: dict[str, NDArray[np.intp]] = {}
        for actor in plan.actors:
            held = [place[number] for number in actor.entities if number in place]
            if held:
                places[actor.name] = np.array(held, np.intp)
        tags: dict[str, Words] = {}
        for name in sorted({tag for entity in own for tag in entity.tags}):
            known: dict[str | None, int] = {}
            codes = [known.setdefault(entity.tags.get(name), len(known)) for entity in own]
            tags[name] = Words(np.array(codes, np.int32), np.array(list(known), object))
        ids = [entity.id for entity in own]
        return cls(
            ids=pd.Index(ids, name="entity"),
            checksum=checksum(ids),
            places=places,
            checksums={name: checksum([ids[row] for row in rows.tolist()]) for name, rows in places.items()},
            tags=tags,
            shown={name: pd.Series(list(words)).array for name, (_, words) in tags.items()},
            lat_deg=np.array([np.nan if each.lat_deg is None else each.lat_deg for each in own]),
            lon_deg=np.array([np.nan if each.lon_deg is None else each.lon_deg for each in own]),
        )

    def given(self, names: frozenset[str], rows: NDArray[np.intp] | None) -> dict[str, Words | Column]:
        """What the scenario knows of the twins at some rows (None: all), of the columns with these names."""
        at: Any = slice(None) if rows is None else rows
        found: dict[str, Words | Column] = {}
        for name in names & self.tags.keys():
            codes, words = self.tags[name]
            if rows is None or len(words) <= len(rows):
                found[name] = Words(codes[at], words)
            else:  # as many words as twins: only its own
                used, own = np.unique(codes[at], return_inverse=True)
                found[name] = Words(own.astype(np.int32), words[used])
        found.update({name: getattr(self, name)[at] for name in names & {"lat_deg", "lon_deg"}})
        return found


class Part(NamedTuple):
    """An answer, and the places of the twins that it is about among all of the kind."""

    answer: Answer
    places: NDArray[np.intp]


class Asking:
    """The part of ``City`` that asks for many twins at once."""

    name: str
    _ray: Any
    _rolls: tuple[CityPlan, dict[str, Roll]]

    if TYPE_CHECKING:

        @property
        def plan(self) -> CityPlan: ...

        def _look_again(self) -> None: ...
        def now_s(self) -> float: ...
        def kinds(self) -> tuple[str, ...]: ...
        def _call(
            self, actor: str, method: str, *arguments: Any, deadline_s: float = ..., again: bool = ...
        ) -> Any: ...
        def _handle(self, actor: str) -> Any: ...

    def frame(self, kind: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row a twin of a kind; units by column in ``df.attrs["units"]``.

        ``…_sd`` is the standard deviation of an estimate, ``…_desired`` what was asked for, ``alert_…`` whether raised.
        ``df.attrs["as_of_s"]`` is the city time that all of it is at least as new as: now where the kind is in few
        twin actors, else the aggregator's last tick. ``df.attrs["late"]`` names twin actors that did not answer in
        time; their rows are as the aggregator saw them last. Raises KeyError for a kind that the city does not have
        and for unknown ``columns``.
        """
        self._check_kind(kind)
        return self._asked(kind, "", columns)

    def query(self, kind: str, expression: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of ``frame(kind)`` for which an expression holds: ``"waiting_veh > 20 and district == 'north'"``.

        Column names with brackets go in backquotes. Comparisons, arithmetic, ``and``, ``or``, ``not``, ``in`` and
        ``between`` are evaluated where the twins are, and only the rows and ``columns`` that are wanted travel; what
        else pandas' ``DataFrame.query`` understands is evaluated here over the whole frame. Raises ValueError with
        the columns there are, and KeyError as ``frame`` does.
        """
        self._check_kind(kind)
        try:
            Condition.of(expression)
            return self._asked(kind, expression, columns)
        except Unsupported:
            frame = self._asked(kind, "", None)
        try:
            chosen: pd.DataFrame = frame.query(expression, engine="python")
        except Exception as error:
            raise ValueError(
                f"cannot evaluate {expression!r}: {error}; "
                f"the columns of {kind} are {', '.join(map(str, frame.columns))}"
            ) from error
        chosen.attrs = frame.attrs
        return chosen if columns is None else chosen[_known(kind, columns, list(map(str, frame.columns)))]

    def fidelity(self, kind: str | None = None) -> pd.DataFrame:
        """How true the twins are to their entities lately: one row a kind and one for the city, or one row a twin.

        By kind: twins, ``compared`` with readings, ``coverage_90`` (share of readings within the 90 % interval), that
        of the worst row, ``drifting``, ``stale``, ``silent``, and ``innovation_rmse``, by how much readings differed,
        by field in its unit. Of one ``kind``: ``…_rmse`` of every reading row, ``coverage_90`` of the twin's worst row,
        ``alert_drifts_from_entity`` and ``age_s``, the worst first. Raises KeyError for an unknown kind.
        """
        if kind is None:
            return _by_kind(self._call("aggregator", "status")["kinds"])
        self._check_kind(kind)
        columns = [*rmse_units_of(self.plan.catalogue.kinds[kind]), LEAST_COVERED, f"alert_{DRIFTS.name}", "age_s"]
        return self._asked(kind, "", columns).sort_values(LEAST_COVERED, na_position="last", kind="stable")

    def _check_kind(self, kind: str) -> None:
        if kind not in self.kinds():
            near = difflib.get_close_matches(kind, self.kinds(), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise KeyError(f"{self.name} has no twins of kind {kind!r}{hint}; its kinds: {', '.join(self.kinds())}")

    def _roll(self, kind: str) -> Roll:
        plan = self.plan
        if getattr(self, "_rolls", (None, {}))[0] is not plan:
            self._rolls = plan, {}
        rolls = self._rolls[1]
        if kind not in rolls:
            rolls[kind] = Roll.of(plan, kind)
        return rolls[kind]

    # -- putting the question ----------------------------------------------------------------------------------

    def _asked(self, kind: str, condition: str, columns: Sequence[str] | None) -> pd.DataFrame:
        for _ in range(TRIES):
            roll = self._roll(kind)
            reads = frozenset(Condition.of(condition).columns.values()) if condition else frozenset()
            question = Question(kind, condition, None if columns is None else tuple(columns))
            parts, late = self._parts(roll, question, reads)
            if parts is not None:
                return _put_together(self.plan, kind, roll, parts, late, columns, whole=not condition)
            self._look_again()
        raise TimeoutError(
            f"the twins of kind {kind} are being moved or changed at this moment: ask again; see city.status()"
        )

    def _parts(self, roll: Roll, question: Question, reads: frozenset[str]) -> tuple[list[Part] | None, list[str]]:
        """The answers of all, and which actors were late; None when they hold other twins than the plan says."""
        parts: list[Part] = []
        late = list(roll.places)
        if len(roll.places) <= MOST_ASKED:
            answers = self._answers(roll, question, reads)
            late = [name for name in roll.places if name not in answers]
            for name, found in answers.items():
                if found.checksum != roll.checksums[name]:
                    return None, late
                parts.append(Part(found, roll.places[name]))
        if not late:
            return parts, []
        merged: Answer = self._call("aggregator", "select", question._replace(given=roll.given(reads, None)))
        if merged.checksum != roll.checksum:
            return None, late
        everything = np.arange(len(roll.ids))
        if not parts:
            return [Part(merged, everything)], late if len(roll.places) <= MOST_ASKED else []
        found = everything if merged.rows is None else merged.rows
        theirs = np.isin(found, np.concatenate([roll.places[name] for name in late]))
        columns = {name: values[theirs] for name, values in merged.columns.items()}
        return [*parts, Part(merged._replace(rows=found[theirs].astype(np.int32), columns=columns), everything)], late

    def _answers(self, roll: Roll, question: Question, reads: frozenset[str]) -> dict[str, Answer]:
        """What the twin actors say that answer in time, by actor. Raises Unsupported."""
        now_s = self.now_s()
        asked: dict[Any, str] = {}
        for name, rows in roll.places.items():
            try:
                handle = self._handle(name)
            except LookupError:
                continue  # it is being started again or moved: late
            asked[handle.select.remote(question._replace(given=roll.given(reads, rows)), now_s)] = name
        errors = self._ray.exceptions
        answers: dict[str, Answer] = {}
        if not asked:
            return answers
        ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=ANSWERED_WITHIN_S)
        for reference in ready:
            try:
                answers[asked[reference]] = self._ray.get(reference, timeout=ANSWERED_WITHIN_S)
            except errors.RayTaskError as error:
                raise error.cause from error
            except (errors.RayActorError, errors.GetTimeoutError):
                continue  # late, like one that does not answer at all
        return answers


def _by_kind(kinds: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The status of every kind as rows, and one of all: coverage weighs kinds by the twins that have been compared."""
    import pandas as pd

    names = ("twins", "compared", LEAST_COVERED, "worst_coverage_90", "drifting", "stale", "silent", "innovation_rmse")
    rows = [{"kind": kind, **{name: said[name] for name in names}} for kind, said in kinds.items()]
    compared = [row for row in rows if row["compared"]]
    weight = sum(row["compared"] for row in compared)
    city: dict[str, Any] = {"kind": "(city)", "innovation_rmse": {}}
    city.update({name: sum(row[name] for row in rows) for name in ("twins", "compared", "drifting", "stale", "silent")})
    city[LEAST_COVERED] = sum(row[LEAST_COVERED] * row["compared"] for row in compared) / weight if weight else None
    city["worst_coverage_90"] = min((row["worst_coverage_90"] for row in compared), default=None)
    return pd.DataFrame([*rows, city], columns=["kind", *names]).set_index("kind")


def _known(kind: str, columns: Sequence[str], there: Sequence[str]) -> list[str]:
    for name in columns:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise KeyError(f"{kind} has no column {name!r}{hint}; its columns: {', '.join(there)}")
    return list(columns)


def _put_together(
    plan: CityPlan, kind: str, roll: Roll, parts: Sequence[Part], late: Sequence[str],
    columns: Sequence[str] | None, *, whole: bool,
) -> pd.DataFrame:  # fmt: skip
    """One frame of all parts, rows in the order of the scenario."""
    import pandas as pd

    places = [part.places if part.answer.rows is None else part.places[part.answer.rows] for part in parts]
    rows = np.concatenate(places)
    order = np.argsort(rows, kind="stable")
    sorted_already = bool((order[:-1] < order[1:]).all()) if len(order) else True
    rows = rows[order]

    def merged(name: str) -> NDArray[Any]:
        values = [part.answer.columns[name] for part in parts]
        joined = values[0] if len(values) == 1 else np.concatenate(values)
        return joined if sorted_already else joined[order]

    at: Any = slice(None) if whole and len(rows) == len(roll.ids) else rows
    data: dict[str, Any] = {
        name: roll.shown[name].take(roll.tags[name].codes[at])
        for name in roll.tags
        if columns is None or name in columns
    }
    data.update({name: merged(name) for name in parts[0].answer.columns})
    if columns is None or "lat_deg" in columns:
        data["lat_deg"] = roll.lat_deg[at]
    if columns is None or "lon_deg" in columns:
        data["lon_deg"] = roll.lon_deg[at]
    if columns is not None:
        there = [*roll.tags, *units_of(plan.catalogue.kinds[kind]), *parts[0].answer.columns, "lat_deg", "lon_deg"]
        data = {name: data[name] for name in _known(kind, columns, list(dict.fromkeys(there)))}
    frame = pd.DataFrame(data, index=roll.ids[at])
    units = {**rmse_units_of(plan.catalogue.kinds[kind]), **units_of(plan.catalogue.kinds[kind])}
    frame.attrs["units"] = {name: units[name] for name in frame.columns if name in units}
    frame.attrs["as_of_s"] = min(part.answer.as_of_s for part in parts)
    frame.attrs["late"] = list(late)
    return frame
