"""A change of a running city in the store: the plan that comes next, and the twins that it moves.

The next plan lies beside the one in force from before anything is stopped until all twins have moved; then one rename
puts it in force. A controller that finds one when it starts carries the change out before it creates anything.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from twin_actors.runtime.changing import Change, difference, packed_anew, untouched
from twin_actors.runtime.numbering import numbers_for
from twin_actors.runtime.placement import LaunchRefused, check_memory, free_memory_bytes
from twin_actors.runtime.plan import NEXT_FILE, PLAN_FILE, CityPlan
from twin_actors.runtime.repacking import PLAN_KEY, KeptPlan, repack
from twin_actors.runtime.shelf import shelf_of
from twin_actors.runtime.sizing import Sizing
from twin_actors.scenario.model import Scenario
from twin_actors.store import Store


class ChangeRefused(RuntimeError):
    """The running city cannot take a change over; the message says why and what to do."""


def planned(
    store: Store, old: CityPlan, scenario: Scenario, renamed: Mapping[str, str], split: str = "",
    sizes: Mapping[str, Sizing] | None = None,
) -> tuple[CityPlan, Change]:  # fmt: skip
    """The city after a change, on paper; ``sizes`` as ``packed_anew`` takes them.

    Raises ChangeRefused, and ValueError for names and actors that do not fit.
    """
    change = difference(old.scenario, scenario, renamed)
    if change.refused:
        raise ChangeRefused(
            f"a running city cannot take over another {', '.join(change.refused)}: end it with "
            f"'twin-actors down {old.scenario.city}' and launch it again; its twins go on where they are"
        )
    if not scenario.entities:
        raise ChangeRefused("a city has at least one entity: end this one with 'twin-actors down' instead")
    was = {entity.id: renamed.get(entity.id, entity.id) for entity in scenario.entities}
    known_before = {entity.id for entity in old.scenario.entities}
    stays = {new: before for new, before in was.items() if before in known_before}
    actors = packed_anew(old, scenario, stays, split, sizes)
    more = len(actors) - len(old.actors)
    if scenario.cluster is None and more > 0:
        try:
            check_memory(scenario, actors[:more], free_memory_bytes())
        except LaunchRefused as error:
            raise ChangeRefused(str(error)) from error
    plan = msgspec.structs.replace(
        old.record,
        actors=tuple((actor.name, actor.entities) for actor in actors),
        numbers=numbers_for([entity.id for entity in scenario.entities], _known(store, old, renamed))[0],
        revision=old.record.revision + 1,
        renamed=dict(renamed),
    )
    return CityPlan(scenario, plan, old.catalogue), change


def _known(store: Store, old: CityPlan, renamed: Mapping[str, str]) -> dict[str, int]:
    """Lasting numbers of all entities that there ever were; a renamed one takes its own along."""
    said = store.get(PLAN_KEY)
    if said is None:
        known = {entity.id: number for entity, number in zip(old.scenario.entities, old.numbers, strict=True)}
    else:
        known = dict(msgspec.msgpack.decode(said, type=KeptPlan).known)
    taken = {new: known.pop(before) for new, before in renamed.items() if before in known}
    return known | taken


def begin(place: str, new: CityPlan) -> None:
    """Write the plan that comes next beside the one in force."""
    CityPlan.save(place, new.scenario, new.record, NEXT_FILE)


def move_twins(place: str, store: Store, old: CityPlan, new: CityPlan) -> None:
    """Move the twins and put the next plan in force; no router, and no twin actor that is touched, may be running.

    May be repeated after a crash. Raises what ``repack`` raises; then ``old`` is still in force.
    """
    renamed = new.record.renamed
    repack(store, old, new, renamed=renamed, untouched=untouched(old, new))
    known = _known(store, old, renamed)
    numbers = {entity.id: number for entity, number in zip(new.scenario.entities, new.numbers, strict=True)}
    store.put(PLAN_KEY, msgspec.msgpack.encode(KeptPlan.of(new.scenario, new.record, known | numbers)))
    shelf_of(place).rename(NEXT_FILE, PLAN_FILE)


def give_up(place: str) -> None:
    """Forget the plan that would have come next."""
    shelf_of(place).remove(NEXT_FILE)
