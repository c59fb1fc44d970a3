"""What a router keeps beside the log, and how the next one goes on from it: a snapshot, then the log behind it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from twin_actors.core.inputs import Channel
from twin_actors.runtime import notes
from twin_actors.runtime.desk import CommandDesk, Outgoing
from twin_actors.runtime.letters import Letters
from twin_actors.runtime.notes import Note, Told
from twin_actors.runtime.restoring import sound_snapshots
from twin_actors.runtime.routing import Routing
from twin_actors.store import Entry, LogTrimmed, Store, StoreUnavailable

log = logging.getLogger(__name__)

_told = msgspec.json.Decoder(Told)


class RouterMemory:
    """Accounts, commands and what is known of the twin actors, as of an offset of the log."""

    def __init__(self, store: Store, name: str, routing: Routing, desk: CommandDesk, letters: Letters) -> None:
        self._store, self._name = store, name
        self._routing, self._desk, self._letters = routing, desk, letters
        # whose accounts these are: a change of the scenario that was cut short may have left those of others
        ids = "\n".join(routing.entities)
        self._entities = hashlib.blake2b(ids.encode(), digest_size=16).hexdigest()
        self.needs = 0  # the first offset of the log that a recovery from the last snapshot would read
        self.inputs_since = 0
        self.trouble = ""

    def save(self, at_s: float) -> None:
        """Keep everything as of the last commit. A store that is away is noted; the next save makes up for it."""
        if self._letters.waiting or self._routing.words_unlogged:
            return  # what the log does not have yet must stay behind the snapshot, where a recovery finds it again
        offset = self._routing.committed_until - 1
        state = {
            "entities": self._entities,
            "routing": self._routing.state(),
            "desk": self._desk.state(),
            "reasons": self._letters.reasons,
        }
        blob = msgspec.msgpack.encode(state)
        try:
            self._store.save_snapshot(
                self._name, self._routing.epoch, offset, blob, at_s if at_s > float("-inf") else 0.0
            )
        except StoreUnavailable as error:
            if not self.trouble:
                log.error("the router's snapshot could not be saved: %s", error)
            self.trouble = str(error)
        else:
            self.trouble = ""
            self.inputs_since = 0
            self._needs(offset, state["routing"])

    def trim(self, before: int) -> None:
        """Tell the log what no recovery needs; when the store is away, the next time does."""
        try:
            self._routing.trim(before)
        except StoreUnavailable as error:
            self.trouble = str(error)

    def _needs(self, offset: int, routing: Mapping[str, Any]) -> None:
        self.needs = min([offset + 1, *(share["waits_from"] for share in routing["shares"].values())])

    def recover(self) -> None:
        """Go on from the last snapshot of these entities and everything that the log holds behind it.

        Raises LogTrimmed when the log does not reach back so far.
        """
        state: dict[str, Any] | None = None
        first = self._routing.began
        for kept in sound_snapshots(self._store, self._name):
            found = msgspec.msgpack.decode(kept.blob, strict=False)
            if found["entities"] == self._entities:
                state, first = found, kept.offset + 1
                self._desk.restore(found["desk"])
                self._letters.reasons = dict(found["reasons"])
                self._needs(kept.offset, found["routing"])
                break
        count = 0
        for offset, entry in self._routing.resume(None if state is None else state["routing"], first):
            self._follow(offset, entry)
            count += 1
        self.inputs_since = count
        if count:
            log.info("the router goes on from offset %d, %d entries read behind it", first - 1, count)

    def _follow(self, offset: int, entry: Entry) -> None:
        """What an entry did to the desk, and letters that may not have reached the store."""
        if entry.channel in (Channel.DESIRED, Channel.COMMAND):
            self._follow_command(entry)
        elif entry.channel == Note.ANSWERED:
            said = notes.decode(entry.channel, entry.payload)
            assert isinstance(said, notes.Answered)
            self._desk.close(said.command, done=False, at_s=said.at_s, note=said.note)
        elif entry.channel == Note.REFUSED:
            self._letters.of_refusal(offset, entry)
        elif entry.channel == Note.QUARANTINED:
            self._follow_quarantine(entry)

    def _follow_quarantine(self, entry: Entry) -> None:
        """The letter of an input that did harm: it may not have reached the store. Kept again, it is kept once."""
        said = notes.decode(entry.channel, entry.payload)
        assert isinstance(said, notes.Quarantine)
        try:
            harmful = self._routing.logged(said.offset)
        except LogTrimmed:  # all twins are past it, so the store had taken the letter before they were saved
            return
        self._letters.of_harm(said.topic, said.offset, harmful, said.detail)

    def _follow_command(self, entry: Entry) -> None:
        try:
            told = _told.decode(entry.payload)
        except msgspec.MsgspecError as error:  # its twin refuses it with words; the router must go on
            log.error("a command in the log cannot be read: %s", error)
            return
        if entry.channel == Channel.DESIRED:
            if told.id and not self._desk.knows(told.id):
                values = {name: tuple(v) if isinstance(v, list) else v for name, v in told.values.items()}
                entity = self._routing.entities[entry.entity]
                self._desk.sent(Outgoing(told.id, told.decision, entity, values, told.issued_at_s, told.expires_at_s))
        elif told.id:
            self._desk.close(told.id, done=True, at_s=told.at_s, note=told.note)
