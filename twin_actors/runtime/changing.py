"""A change of a running city on paper: what differs between two scenarios, and which twin actors it touches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from twin_actors.runtime.placement import ActorPlan, Labels, labels_of, size_of
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.sizing import RESIZE, Sizing, counts
from twin_actors.scenario.model import Entity, Scenario, Value

LIVE = (
    "place", "retention", "placement", "relations", "resources", "policies", "sources", "limits", "states", "tick_s"
)  # fmt: skip
"""Sections that a running city takes over, beside its entities."""
LAUNCH = {
    "city": "city", "root": "root", "broker": "broker", "cluster": "cluster", "store_url": "store", "clock": "clock",
    "fleets": "fleets",
}  # fmt: skip
"""Sections that only a launch takes over, by their field in the scenario; so is another division of routers."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a change comes to. ``renamed`` has old ids by new ones, ``changed`` says in words what is new of an entity.

    ``sections`` are other parts of the scenario that change, ``refused`` those that a running city cannot take over.
    ``moves`` has, by twin actor, the nodes between which other ``placement.labels`` make it go afterwards; those in
    ``stranded`` (by their node) would have to go too, but stay, because no open node has the labels and room.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    moves: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    stranded: Mapping[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.renamed or self.changed or self.sections or self.refused)

    def lines(self) -> list[str]:
        """One line for each difference, as in a diff."""
        return [
            *(f"+ {entity}" for entity in self.added),
            *(f"- {entity}" for entity in self.removed),
            *(f"> {old} → {new}" for new, old in self.renamed.items()),
            *(f"~ {entity}: {words}" for entity, said in self.changed.items() for words in said),
            *(f"~ {section}" for section in self.sections),
            *(f"~ {actor} moves from {source} to {target}" for actor, (source, target) in self.moves.items()),
            *(
                f"! {actor} stays on {node}: no open node has room and the labels it wants; it moves when one does"
                for actor, node in self.stranded.items()
            ),
            *(f"! {section}: needs 'twin-actors down' and 'up'" for section in self.refused),
        ]


def difference(old: Scenario, new: Scenario, renamed: Mapping[str, str] | None = None) -> Change:
    """What ``new`` changes. Raises ValueError where ``renamed`` (old ids by new ones) does not fit the two."""
    before = {entity.id: entity for entity in old.entities}
    after = {entity.id: entity for entity in new.entities}
    was = dict(renamed or {})
    for new_id, old_id in was.items():
        if old_id not in before or old_id in after or new_id not in after or new_id in before:
            raise ValueError(
                f"{old_id} cannot become {new_id}: the old name must be in the running city and not in the new "
                "scenario, the new name the other way round"
            )
        if before[old_id].kind != after[new_id].kind:
            raise ValueError(f"{old_id} cannot become {new_id}: an entity keeps its kind")
    if len(set(was.values())) < len(was):
        raise ValueError("two entities cannot have had the same name before")
    kept = {entity: was.get(entity, entity) for entity in after if was.get(entity, entity) in before}
    refused = [said for name, said in LAUNCH.items() if getattr(old, name) != getattr(new, name)]
    if _divided_otherwise(old, new, kept):
        refused.append("routers")
    words = {new_id: tuple(_entity_words(before[old_id], after[new_id])) for new_id, old_id in kept.items()}
    return Change(
        added=tuple(sorted(after.keys() - kept.keys())),
        removed=tuple(sorted(before.keys() - set(kept.values()))),
        renamed=was,
        changed={entity: said for entity, said in words.items() if said},
        sections=tuple(name for name in LIVE if getattr(old, name) != getattr(new, name)),
        refused=tuple(refused),
    )


def _divided_otherwise(old: Scenario, new: Scenario, kept: Mapping[str, str]) -> bool:
    """Whether an entity would change its router, or a router come or go."""
    before = dict(zip((entity.id for entity in old.entities), old.routers_of_entities(), strict=True))
    after = dict(zip((entity.id for entity in new.entities), new.routers_of_entities(), strict=True))
    moved = any(before[old_id] != after[new_id] for new_id, old_id in kept.items())
    return moved or set(before.values()) != set(after.values())


def _entity_words(one: Entity, other: Entity) -> Iterator[str]:
    for part in ("attributes", "sd", "drift", "tags"):
        before, after = getattr(one, part), getattr(other, part)
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                label = name if part == "attributes" else f"{part}.{name}"
                yield f"{label} {_shown(before.get(name))} → {_shown(after.get(name))}"
    if (one.lat_deg, one.lon_deg) != (other.lat_deg, other.lon_deg):
        yield f"position {one.lat_deg}, {one.lon_deg} → {other.lat_deg}, {other.lon_deg}"


def _shown(value: Value | str | None) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def packed_anew(
    old: CityPlan, new: Scenario, was: Mapping[str, str], split: str = "",
    sizes: Mapping[str, Sizing] | None = None,
) -> tuple[ActorPlan, ...]:  # fmt: skip
    """Twin actors of ``new`` that leave twins where they are: removed ones leave gaps, new ones fill them.

    ``was`` has the old id of every entity that stays, by its new one. ``sizes`` are those of kinds that are ``auto``:
    an actor that holds clearly more than was measured to be good for it gives some away. ``split`` names an actor to
    be divided in two, or in more where that was measured to be too few; then all others stay as they are. Raises
    ValueError for one that does not exist or has a single twin.
    """
    sizes = sizes or {}
    place = {entity.id: number for number, entity in enumerate(new.entities)}
    new_id = {old_id: entity for entity, old_id in was.items()}
    routers = new.routers_of_entities()
    packing = _Packing(old, new, routers, sizes, cut=not split)
    if split and split not in {actor.name for actor in old.actors}:
        raise ValueError(f"there is no twin actor {split!r}; see 'twin-actors ps'")
    for actor in old.actors:
        ids = [old.scenario.entities[number].id for number in actor.entities]
        numbers = [place[new_id[entity]] for entity in ids if entity in new_id]
        packing.keep(actor.name, numbers, split=actor.name == split)
    packing.fill(number for number in range(len(new.entities)))
    return packing.actors()


class _Packing:
    """Twin actors under construction: those of the old city first, in their order."""

    def __init__(
        self, old: CityPlan, new: Scenario, routers: Sequence[str], sizes: Mapping[str, Sizing], *, cut: bool
    ) -> None:
        self._new, self._routers, self._cut = new, routers, cut
        told = counts(sizes)
        self._sizes = [size_of(new, entity.kind, told) for entity in new.entities]
        self._automatic = [new.placement.of(entity.kind) == "auto" for entity in new.entities]
        # how much of what an actor was measured to serve or hold one twin takes
        self._burdens = [
            1.0 / sizes[entity.kind].twins if entity.kind in sizes and sizes[entity.kind].measured else 0.0
            for entity in new.entities
        ]
        self._held: dict[str, list[int]] = {}
        self._placed: set[int] = set()
        names = [actor.name for actor in old.actors if actor.name.startswith("twins:")]
        self._last = max((int(name.removeprefix("twins:").partition("@")[0]) for name in names), default=0)

    def keep(self, name: str, numbers: list[int], *, split: bool) -> None:
        """As much of an old actor as may stay together; the rest finds its place in ``fill``."""
        numbers = [number for number in numbers if self._fits(name, number)]
        if not numbers:
            return
        first = numbers[0]
        company = self._company(first)
        together = [number for number in numbers if self._company(number) == company]
        burden = sum(self._burdens[number] for number in together)
        if split:
            if len(together) < 2:
                raise ValueError(f"{name} holds a single twin and cannot be divided")
            parts = min(max(2, math.ceil(burden - 1e-9)), len(together))
            size = math.ceil(len(together) / parts)
            for part in range(size, len(together), size):
                self._hold(self._fresh(first), together[part : part + size])
            together = together[:size]
        elif self._automatic[first]:  # a smaller city need not move
            if self._cut and burden > RESIZE:
                together = self._bearable(together)
        else:
            together = together[: self._sizes[first]]
        self._hold(name, together)

    def _bearable(self, numbers: Sequence[int]) -> list[int]:
        """As many from the first as an actor should hold, and one at least."""
        held, burden = [numbers[0]], self._burdens[numbers[0]]
        for number in numbers[1:]:
            burden += self._burdens[number]
            if burden > 1.0 + 1e-9:
                break
            held.append(number)
        return held

    def _company(self, number: int) -> tuple[str, int, Labels]:
        """Twins that stand together may stay together; the sizes of those that are ``auto`` are for new ones."""
        router, size, labels = self._key(number)
        return router, 0 if self._automatic[number] else size, labels

    def _key(self, number: int) -> tuple[str, int, Labels]:
        return self._routers[number], self._sizes[number], labels_of(self._new, self._new.entities[number].kind)

    def _fits(self, name: str, number: int) -> bool:
        router, alone = self._routers[number], name == self._alone(number)
        if self._sizes[number] == 1 and (alone or not self._automatic[number]):
            return alone
        return name.startswith("twins:") and name.partition("@")[2] == router

    def _alone(self, number: int) -> str:
        at = f"@{self._routers[number]}" if self._routers[number] else ""
        return f"twin:{self._new.entities[number].id}{at}"

    def _fresh(self, number: int) -> str:
        self._last += 1
        at = f"@{self._routers[number]}" if self._routers[number] else ""
        return f"twins:{self._last:05d}{at}"

    def _hold(self, name: str, numbers: Sequence[int]) -> None:
        self._held[name] = list(numbers)
        self._placed.update(numbers)

    def fill(self, numbers: Iterator[int]) -> None:
        room: dict[tuple[str, int, Labels], list[str]] = {}
        for name, held in self._held.items():
            key = self._key(held[0])
            if key[1] > 1 and name.startswith("twins:"):
                room.setdefault(key, []).append(name)
        for number in numbers:
            if number in self._placed:
                continue
            key = self._key(number)
            if key[1] == 1:
                self._hold(self._alone(number), [number])
                continue
            names = room.setdefault(key, [])
            while names and len(self._held[names[0]]) >= key[1]:
                names.pop(0)
            if names:
                self._held[names[0]].append(number)
            else:
                names.append(self._fresh(number))
                self._held[names[0]] = [number]

    def actors(self) -> tuple[ActorPlan, ...]:
        """A holder wants the twins of a kind side by side."""
        kind = [entity.kind for entity in self._new.entities]
        return tuple(
            ActorPlan(name, tuple(sorted(held, key=lambda number: kind[number]))) for name, held in self._held.items()
        )


def untouched(old: CityPlan, new: CityPlan) -> frozenset[str]:
    """Twin actors that hold the same twins with the same parameters in both, and may live on as they are."""
    if old.scenario.limits.future_s != new.scenario.limits.future_s:
        return frozenset()
    before = {actor.name: _parameters(old.scenario, actor) for actor in old.actors}
    return frozenset(actor.name for actor in new.actors if before.get(actor.name) == _parameters(new.scenario, actor))


def _parameters(scenario: Scenario, actor: ActorPlan) -> list[tuple[object, ...]]:
    chosen = [scenario.entities[number] for number in actor.entities]
    return [(entity.id, dict(entity.attributes), dict(entity.sd), dict(entity.drift)) for entity in chosen]
