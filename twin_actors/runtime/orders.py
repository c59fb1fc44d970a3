"""Commands on their way out: logged as desired first, published when that is durable, tried again until they leave."""

from __future__ import annotations

from collections.abc import Callable

from twin_actors.core.inputs import Channel
from twin_actors.runtime.desk import CommandDesk, Outgoing
from twin_actors.runtime.inbox import Inbox
from twin_actors.runtime.notes import Told, listed
from twin_actors.runtime.routing import Routing
from twin_actors.wire import messages


class Orders:
    """``publish(entity, payload)`` says whether the client took the message; what it did not take is tried again."""

    def __init__(
        self, routing: Routing, desk: CommandDesk, inbox: Inbox, publish: Callable[[str, bytes], bool]
    ) -> None:
        self._routing, self._desk, self._inbox, self._publish = routing, desk, inbox, publish
        self._due = list(desk.send_again())  # logged, to be published
        self._committing: list[Outgoing] = []  # in the group that is being written
        self._fresh: list[Outgoing] = []

    def take(self, command: Outgoing) -> bool:
        """Log a command as desired, once however often it is handed over. False where it cannot be taken."""
        if self._desk.knows(command.id):
            return True
        now_s = self._inbox.city_now_s()
        if command.entity not in self._inbox.number or self._desk.full or command.expires_at_s < now_s:
            return False
        self._desk.sent(command)
        told = Told(
            at_s=now_s,
            values=listed(command.values),
            id=command.id,
            decision=command.decision,
            issued_at_s=command.issued_at_s,
            expires_at_s=command.expires_at_s,
        )
        self._routing.tell(self._inbox.number[command.entity], Channel.DESIRED, told, now_s)
        self._fresh.append(command)
        return True

    def begin(self) -> None:
        """A group is being written: what has been taken so far is in it."""
        self._committing, self._fresh = self._fresh, []

    def committed(self) -> None:
        """The group is durable."""
        self._due += self._committing
        self._committing = []
        self.send()

    def send(self) -> None:
        """Publish what is durable and has not left yet."""
        if self._due:
            self._due = [command for command in self._due if not self._sent(command)]

    def _sent(self, command: Outgoing) -> bool:
        """True when it needs no further try: it left, was answered, or its time is over."""
        if not self._desk.is_open(command.id) or command.expires_at_s < self._inbox.city_now_s():
            return True
        payload = messages.encode_command(
            messages.Command(
                id=command.id,
                issued_at_s=command.issued_at_s,
                expires_at_s=command.expires_at_s,
                epoch=self._routing.epoch,
                decision=command.decision,
                values=dict(command.values),
            )
        )
        return self._publish(command.entity, payload)
