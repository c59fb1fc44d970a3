"""Who may publish and hear what at a Mosquitto: the city, each device under its own name, gateways."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from twin_actors.wire.topics import Topics


def access_list(
    root: str,
    kinds: Iterable[str],
    *,
    city: str,
    gateways: Sequence[str] = (),
    fleets: Sequence[str] = (),
    names: Collection[str] = (),
) -> str:
    """Mosquitto's ``acl_file`` for a city under ``root``; the user is who a client's password says it is.

    The user ``city`` may do everything under the root and on the filters of ``fleets``. A user with the name of an
    entity of one of ``kinds`` sends its telemetry and acknowledgements and hears its commands. A user in ``gateways``
    publishes on the gateway topic of its own name and nothing else, because its messages speak for any entity.
    ``names`` are those of the entities. Raises ValueError for users that Mosquitto could not tell apart.
    """
    if "%" in root:
        raise ValueError(f"root {root!r} has a '%', by which Mosquitto would put in a user's name: choose another root")
    for user in (city, *gateways):
        if not user or user != user.strip() or any(c in user for c in "/+#:\0\r\n"):
            raise ValueError(
                f"{user!r} cannot be a user and a level of a topic: leave out blanks, '/', '+', '#' and ':'"
            )
    taken = sorted({city, *names} & set(gateways))
    if taken:
        raise ValueError(
            f"gateway {taken[0]!r} has the name of {'the city' if taken[0] == city else 'an entity'}, and so its user: "
            "who knows that password could speak for every entity. Give the gateway a name of its own"
        )
    topics, kinds = Topics(root), sorted(set(kinds))
    lines = [
        f"user {city}",
        f"topic readwrite {root}/#",
        *(f"topic readwrite {each}" for each in dict.fromkeys(fleets)),
        "topic read $SYS/#",
    ]
    for gateway in dict.fromkeys(gateways):
        lines += ["", f"user {gateway}"]
        lines += [f"topic deny {root}/{kind}/#" for kind in kinds]  # it is no device: the patterns are not for it
        lines.append(f"topic write {topics.gateway(gateway)}")
    lines += ["", "# Devices: the user is the name of the entity. No pattern covers the topics of gateways."]
    for kind in kinds:
        entity = f"{kind}/%u"
        lines += [
            f"pattern write {topics.telemetry(entity)}",
            f"pattern write {topics.acknowledgement(entity)}",
            f"pattern read {topics.command(entity)}",
        ]
    return "\n".join(lines) + "\n"
