"""Why an input was not accepted: a closed set of reasons, each with the sentence that a user reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

LONGEST_DETAIL: Final = 400


def brief(detail: str) -> str:
    """A detail that quotes a message, cut to a length that people read and a dead letter can carry."""
    return detail if len(detail) <= LONGEST_DETAIL else detail[: LONGEST_DETAIL - 1] + "…"


class Reason(enum.StrEnum):
    """The fate of an input that is not applied; the value is what stands in dead letters and counters."""

    NOT_JSON = "not_json"
    WRONG_ENCODING = "wrong_encoding"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    NO_KNOWN_FIELD = "no_known_field"
    EMPTY = "empty"
    BAD_TIME = "bad_time"
    TOO_LARGE = "too_large"
    UNKNOWN_UNIT = "unknown_unit"
    UNKNOWN_ENTITY = "unknown_entity"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_COMMAND = "unknown_command"
    CLOCK_AHEAD = "clock_ahead"
    OUT_OF_RANGE = "out_of_range"
    RATE = "rate"
    STUCK = "stuck"
    NOT_WHOLE = "not_whole"
    DUPLICATE = "duplicate"
    LATE = "late"
    EXPIRED = "expired"
    FENCED = "fenced"
    OVERLOADED = "overloaded"
    MODEL_FAILED = "model_failed"
    HARMFUL = "harmful"
    ELSEWHERE = "elsewhere"

    @property
    def happened(self) -> str:
        """What happened, as a sentence."""
        return _TEXTS[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it, as a sentence."""
        return _TEXTS[self][1]

    def explain(self, detail: str = "") -> str:
        """The whole message: what happened, where exactly, and what to do."""
        where = f" ({detail})" if detail else ""
        return f"{self.happened}{where}. {self.remedy}."


_TEXTS: dict[Reason, tuple[str, str]] = {
    Reason.NOT_JSON: (
        "The payload is not JSON",
        'Send an object such as {"ts": 1700000000000, "values": {"field": 1.5}}, a list of such objects, or SenML',
    ),
    Reason.WRONG_ENCODING: (
        "The payload is not plain UTF-8 text",
        "Send UTF-8 without a byte order mark and without compression",
    ),
    Reason.WRONG_TYPE: (
        "A field has the wrong type",
        "Send numbers without quotes, vectors as a list of the right length or as an object of label: number, "
        "and null or nothing for what is not known",
    ),
    Reason.NOT_FINITE: (
        "A value is not a finite number",
        "Send null, or leave the field out, where nothing was measured",
    ),
    Reason.NO_KNOWN_FIELD: (
        "No field of this kind is in the payload",
        "Use the field names of the kind, or map the device's names to them under 'fields' in the scenario",
    ),
    Reason.EMPTY: ("The reading says nothing", "Send at least one value, or nothing at all"),
    Reason.BAD_TIME: (
        "The time cannot be read",
        "Send ts as milliseconds since 1970 (UTC) without quotes, or as ISO 8601 text such as 2026-01-31T12:00:00Z",
    ),
    Reason.TOO_LARGE: ("The payload is too large", "Split it into several messages"),
    Reason.UNKNOWN_UNIT: (
        "The unit is unknown or does not fit the field",
        "Send the field's own unit, or one that converts to it, in SenML's u or bu",
    ),
    Reason.UNKNOWN_ENTITY: (
        "No entity of this name is in the city",
        "Add it to 'entities' in the scenario, or correct the name in the device's topic",
    ),
    Reason.ELSEWHERE: (
        "Another router has this entity since 'routers' was changed in the scenario",
        "Replay the letter: it goes to the router that has the entity now",
    ),
    Reason.UNKNOWN_KIND: (
        "No kind of this name is in the city",
        "Correct the kind in the topic, or add a domain that brings this kind",
    ),
    Reason.UNKNOWN_TOPIC: (
        "The topic has no place in the city",
        "Publish to {root}/{kind}/{name}/telemetry, or map the topic under 'fleets' in the scenario",
    ),
    Reason.UNKNOWN_COMMAND: (
        "The acknowledgement names no command that is waiting",
        "Send back the id of the command exactly as it came",
    ),
    Reason.CLOCK_AHEAD: (
        "The device's clock is ahead of ours",
        "Set the device's clock by NTP; readings up to 5 s ahead are accepted",
    ),
    Reason.OUT_OF_RANGE: (
        "A value lies outside the limits of its field",
        "Check the sensor and its unit, or widen the field's minimum and maximum",
    ),
    Reason.RATE: (
        "A value changed faster than its field can",
        "Check the sensor for spikes, or raise the field's max_rate",
    ),
    Reason.STUCK: (
        "A value has not moved for longer than is plausible",
        "Check the sensor, or raise the field's stuck_after_s",
    ),
    Reason.NOT_WHOLE: ("A count is not a whole number", "Send counts as integers"),
    Reason.DUPLICATE: ("The reading was received before", "Nothing: it was counted once and applied once"),
    Reason.LATE: (
        "The reading is older than what its fields already know",
        "Nothing: it is kept in history and does not turn the state back",
    ),
    Reason.EXPIRED: (
        "The command expired before it could be carried out",
        "Check the connection to the device, or let commands live longer",
    ),
    Reason.FENCED: (
        "The sender is an older incarnation of an actor that has been replaced",
        "Nothing: its successor is at work",
    ),
    Reason.OVERLOADED: (
        "More arrives than can be stored",
        "Send less often, or give the city more routers",
    ),
    Reason.MODEL_FAILED: (
        "The model of this kind raised an exception for this reading, and its twin stayed as it was",
        "Mend the model (the traceback is in the detail), then replay the dead letter",
    ),
    Reason.HARMFUL: (
        "Its twin actor did not survive this input: it raised outside the model, or never came to an end",
        "Mend the kind or its decoder, then replay the dead letter",
    ),
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """One reading that could not be decoded.

    ``message`` is the index of its payload in the call, ``element`` its place in a list payload (else 0),
    ``detail`` what exactly was found there.
    """

    message: int
    element: int
    reason: Reason
    detail: str

    @property
    def text(self) -> str:
        """What the user reads: what happened, where, and what to do."""
        return self.reason.explain(self.detail)
