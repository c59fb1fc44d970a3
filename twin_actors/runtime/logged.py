"""What the log holds for each twin actor, read again: what did not wait in memory, and what must be resent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from twin_actors.core.inputs import Channel
from twin_actors.runtime.notes import FIRST_NOTE
from twin_actors.runtime.packing import Delivery, apart, bundled
from twin_actors.runtime.share import ByShare, Placed, Share
from twin_actors.store import bundles
from twin_actors.store.base import Log
from twin_actors.store.bundles import BUNDLE
from twin_actors.wire.elements import count_readings

READ_AT_ONCE = 5_000


class Logged:
    """The log as the shares see it; ``placed[number]`` says where each twin lives."""

    def __init__(self, log: Log, placed: Sequence[Placed], by_share: ByShare) -> None:
        self._log = log
        self._placed = placed
        self._by_share = by_share

    def deliveries(self, share: Share, first: int, stop: int) -> Iterator[Delivery]:
        """What lies from ``first`` up to ``stop`` for a share, but for what it shall never get. Raises LogTrimmed."""
        if first >= stop:
            return
        for offset, entry in self._log.read(first, stop - first, together=not share.quarantined):
            if entry.entity == BUNDLE:
                bundle = bundles.unpack(entry.payload)
                own, places = self._by_share.own(share, bundle)
                if len(own):
                    yield bundled(offset, entry.source, entry.received_at_s, bundle.part(own, places), own)
                continue
            if entry.channel >= FIRST_NOTE or offset in share.quarantined:
                continue
            where = self._placed[entry.entity]
            if where.share is share:
                yield Delivery(offset, where.place, entry.channel, entry.source, entry.received_at_s, entry.payload)

    def delivery(self, share: Share, offset: int) -> Delivery | None:
        """What lies at one offset, if it is for a share."""
        return next((each for delivery in self.deliveries(share, offset, offset + 1) for each in apart(delivery)), None)

    def counted(self, share: Share, first: int, until: int) -> Iterator[tuple[int, int, int]]:
        """(offset, entity number, readings) of everything that lies for a share from an offset on."""
        while first < until:
            stop = min(first + READ_AT_ONCE, until)
            for delivery in self.deliveries(share, first, stop):
                yield from share.each_input(delivery)
            first = stop

    def queue_behind(self, waits_from: Mapping[str, int], until: int) -> None:
        """Count, in one pass, what waits for every share from its own offset on."""
        first = min(waits_from.values(), default=until)
        while first < until:
            stop = min(first + READ_AT_ONCE, until)
            for offset, entry in self._log.read(first, stop - first):
                if entry.channel >= FIRST_NOTE:
                    continue
                share = self._placed[entry.entity].share
                if offset >= waits_from[share.name] and offset not in share.quarantined:
                    reading = entry.channel == Channel.READING
                    share.spill(offset, entry.entity, count_readings(entry.payload) if reading else 0)
                    share.recover_to = max(share.recover_to, offset)
            first = stop
