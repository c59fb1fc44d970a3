"""Where twin actors should stand: never too much on a node, no move too many, labels obeyed, nothing where even."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from twin_actors.runtime.balancing import (
    TOLERANCE,
    Move,
    Plan,
    Room,
    Standing,
    after,
    astray,
    evacuated,
    evened,
    of_actors,
    seated,
    suits,
)

MB = 1_000_000
ZONES = ("east", "west", "north")


def room(node: str, mb: int = 1000, **more: object) -> Room:
    return Room(node=node, capacity_bytes=mb * MB, **more)  # type: ignore[arg-type]


def crowd(counts: dict[str, int], mb: int = 65) -> list[Standing]:
    return [
        Standing(actor=f"{node}-{number:03d}", memory_bytes=mb * MB, node=node)
        for node, count in counts.items()
        for number in range(count)
    ]


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Room], list[Standing]]:
    """Nodes of any size, some closed, some labelled; actors of any size that fit where they stand, or stand nowhere."""
    rooms = [
        Room(
            node=f"n{number}",
            capacity_bytes=draw(st.integers(100, 3000)) * MB,
            cores=draw(st.sampled_from([1.0, 2.0, 16.0])),
            labels=draw(st.dictionaries(st.just("zone"), st.sampled_from(ZONES))),
            closed=draw(st.booleans()) and draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 6)))
    ]
    left = {each.node: each.capacity_bytes for each in rooms}
    standing = []
    for number in range(draw(st.integers(0, 30))):
        size = draw(st.integers(50, 400)) * MB
        labels = draw(st.sampled_from([{}, {}, {"zone": ("east",)}, {"zone": ("east", "west")}]))
        fitting = [each.node for each in rooms if left[each.node] >= size and suits(each, labels)]
        node = draw(st.sampled_from([*fitting, "", "gone"]))
        if node in left:
            left[node] -= size
        rate = draw(st.sampled_from([0.0, 1.0, 10.0, 500.0]))
        standing.append(Standing(actor=f"a{number}", memory_bytes=size, rate=rate, node=node, labels=labels))
    return rooms, standing


def check_followed(rooms: list[Room], standing: list[Standing], plan: Plan) -> None:
    """Every step of a plan fits: no node ever holds more than it can, nor an actor that it may not hold."""
    by_node = {each.node: each for each in rooms}
    by_name = {each.actor: each for each in standing}
    held = {node: sum(each.memory_bytes for each in standing if each.node == node) for node in by_node}
    for move in plan.moves:
        each, target = by_name[move.actor], by_node[move.target]
        assert each.node == move.source != move.target
        assert not target.closed
        assert suits(target, each.labels)
        if move.source in held:
            held[move.source] -= each.memory_bytes
        held[move.target] += each.memory_bytes
        assert held[move.target] <= target.capacity_bytes
    names = [move.actor for move in plan.moves]
    assert len(names) == len(set(names)), "nobody moves twice"


@given(clusters())
def test_evening_out_fits_helps_and_leaves_nothing_out(cluster: tuple[list[Room], list[Standing]]) -> None:
    rooms, standing = cluster
    plan = evened(rooms, standing)
    check_followed(rooms, standing, plan)
    assert plan == evened(list(reversed(rooms)), list(reversed(standing))), "the order of what is given says nothing"
    before, then = after(rooms, standing, ()), after(rooms, standing, plan.moves)
    assert before is not None
    assert then is not None
    if before.worst <= TOLERANCE:
        assert not plan.moves
    assert then.unevenness <= before.unevenness
    for move in plan.moves:  # without any one of them it is less even than with it, or the others do not fit
        fewer = after(rooms, standing, [each for each in plan.moves if each is not move])
        assert fewer is None or (fewer.worst > TOLERANCE and fewer.unevenness > then.unevenness)


@given(clusters())
def test_evacuating_empties_closed_nodes_as_far_as_there_is_room(cluster: tuple[list[Room], list[Standing]]) -> None:
    rooms, standing = cluster
    plan = evacuated(rooms, standing)
    check_followed(rooms, standing, plan)
    open_nodes = {each.node for each in rooms if not each.closed}
    homeless = {each.actor for each in standing if each.node not in open_nodes}
    assert homeless == {move.actor for move in plan.moves} | set(plan.stranded)
    held = {node: sum(each.memory_bytes for each in standing if each.node == node) for node in open_nodes}
    by_name = {each.actor: each for each in standing}
    for move in plan.moves:
        held[move.target] += by_name[move.actor].memory_bytes
    for name in plan.stranded:
        each = by_name[name]
        assert not any(
            held[each_room.node] + each.memory_bytes <= each_room.capacity_bytes and suits(each_room, each.labels)
            for each_room in rooms
            if not each_room.closed
        ), "nobody is stranded beside a node that would take it"


@given(clusters(), st.sampled_from(ZONES))
def test_other_labels_move_those_whose_node_has_them_not_and_nobody_else(
    cluster: tuple[list[Room], list[Standing]], zone: str
) -> None:
    rooms, before = cluster
    standing = [replace(each, labels={"zone": (zone,)} if each.labels else {}) for each in before]
    wrong = astray(rooms, standing)
    node_of = {each.node: each for each in rooms}
    for each in standing:
        there = node_of.get(each.node)
        right = there is None or there.closed or not each.labels or there.labels.get("zone") == zone
        assert (each.actor in wrong) is not right
    plan = of_actors(evacuated(rooms, standing), wrong)
    assert set(wrong) == {move.actor for move in plan.moves} | set(plan.stranded)
    assert all(node_of[move.target].labels.get("zone") == zone for move in plan.moves)
    if not any(each.labels.get("zone") == zone and not each.closed for each in rooms):
        assert plan == Plan((), tuple(name for name in plan.stranded)), "where no node fits nobody is sent away"


@given(st.lists(st.integers(0, 12), min_size=2, max_size=6))
def test_equal_actors_on_equal_nodes_take_the_fewest_moves(counts: list[int]) -> None:
    """The fewest: as many as the fullest nodes have above the rounded-up mean, or the emptiest lack to it."""
    rooms = [room(f"n{number}", 10_000) for number in range(len(counts))]
    standing = crowd({f"n{number}": count for number, count in enumerate(counts)})
    plan = evened(rooms, standing, tolerance=0.0)
    low, more = divmod(sum(counts), len(counts))
    wanted = sorted([low + 1] * more + [low] * (len(counts) - more), reverse=True)
    fewest = sum(max(have - want, 0) for have, want in zip(sorted(counts, reverse=True), wanted, strict=True))
    assert len(plan.moves) == fewest
    left = list(counts)
    for move in plan.moves:
        left[int(move.source[1:])] -= 1
        left[int(move.target[1:])] += 1
    assert sorted(left, reverse=True) == wanted


def test_a_node_that_joins_gets_its_share() -> None:
    standing = crowd({"a": 3, "b": 3})
    plan = evened([room("a"), room("b"), room("c")], standing)
    assert sorted(move.source for move in plan.moves) == ["a", "b"]
    assert {move.target for move in plan.moves} == {"c"}
    assert evened([room("a"), room("b"), room("c")], crowd({"a": 2, "b": 2, "c": 2})).moves == ()


def test_a_larger_node_may_hold_more() -> None:
    assert evened([room("small", 500), room("large", 1500, cores=3.0)], crowd({"small": 2, "large": 6})).moves == ()


def test_a_busy_actor_moves_where_memory_alone_would_not_ask_for_it() -> None:
    standing = [
        Standing(actor="busy-1", memory_bytes=65 * MB, rate=1000.0, node="a"),
        Standing(actor="busy-2", memory_bytes=65 * MB, rate=1000.0, node="a"),
        Standing(actor="calm-1", memory_bytes=65 * MB, rate=1.0, node="b"),
        Standing(actor="calm-2", memory_bytes=65 * MB, rate=1.0, node="b"),
    ]
    plan = evened([room("a"), room("b")], standing)
    moved = {move.actor.split("-")[0] for move in plan.moves}
    assert moved == {"busy", "calm"}
    assert len(plan.moves) == 2


def test_who_needs_a_label_stays_without_another_node_that_has_it() -> None:
    standing = [
        Standing(actor=f"t{number}", memory_bytes=65 * MB, node="a", labels={"zone": ("east",)}) for number in range(4)
    ]
    rooms = [room("a", labels={"zone": "east"}), room("b", labels={"zone": "west"})]
    assert evened(rooms, standing).moves == ()
    closed = [room("a", labels={"zone": "east"}, closed=True), rooms[1]]
    assert evacuated(closed, standing) == Plan((), ("t0", "t1", "t2", "t3"))


def test_the_launch_spreads_by_expected_readings() -> None:
    standing = [Standing(actor="large", memory_bytes=65 * MB, rate=100.0)]
    standing += [Standing(actor=f"s{number}", memory_bytes=65 * MB, rate=50.0) for number in range(2)]
    plan = evacuated([room("a"), room("b")], standing)
    where = {move.actor: move.target for move in plan.moves}
    assert where["s0"] == where["s1"] != where["large"]
    assert plan.moves[0] == Move("large", "", "a")


def test_those_that_come_last_find_their_seat_free() -> None:
    """A large node beside two that only twin actors fit on: they must not fill up what the aggregator needs later."""
    rooms = [room("large", 500), room("small", 195), room("tiny", 195), room("shut", 900, closed=True)]
    seats, left = seated(rooms, {"router": 200 * MB, "aggregator": 200 * MB, "third": 200 * MB})
    assert seats == {"router": "large", "aggregator": "large"}
    standing = [Standing(actor=f"t{number}", memory_bytes=65 * MB, rate=1.0) for number in range(7)]
    plan = evacuated(left, standing)
    assert len(plan.moves) == 7
    assert sum(move.target == "large" for move in plan.moves) == 1, "100 MB are left there"


@given(clusters(), st.lists(st.integers(50, 400), max_size=6))
def test_seats_never_take_more_than_a_node_has(cluster: tuple[list[Room], list[Standing]], sizes: list[int]) -> None:
    rooms, _ = cluster
    needs = {f"o{number}": size * MB for number, size in enumerate(sizes)}
    seats, left = seated(rooms, needs)
    before, after_it = ({each.node: each for each in given} for given in (rooms, left))
    for node, each in after_it.items():
        taken = sum(needs[name] for name, seat in seats.items() if seat == node)
        assert each.capacity_bytes == before[node].capacity_bytes - taken >= 0
        assert not (taken and each.closed)
    smallest = min((needs[name] for name in needs.keys() - seats.keys()), default=None)
    assert smallest is None or all(each.closed or each.capacity_bytes < smallest for each in left)
