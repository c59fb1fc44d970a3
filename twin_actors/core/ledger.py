"""The ledger: every reading that arrived has exactly one fate, or is somewhere on its way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Counts of readings. Each is counted where it happens; ``in_flight`` is enumerated, never a difference."""

    received: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    dead_lettered: int = 0
    shed: int = 0
    in_flight: int = 0

    @property
    def unexplained(self) -> int:
        """Readings without a fate (positive) or with two (negative); anything but 0 is a fault of ours."""
        return self.received - (
            self.applied + self.duplicate + self.late + self.dead_lettered + self.shed + self.in_flight
        )

    @property
    def balanced(self) -> bool:
        return self.unexplained == 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})

    def to_dict(self) -> dict[str, int | bool]:
        return {**asdict(self), "unexplained": self.unexplained, "balanced": self.balanced}

    def __str__(self) -> str:
        verdict = "balanced" if self.balanced else f"{self.unexplained:+,} UNEXPLAINED"
        return (
            f"received {self.received:,} = applied {self.applied:,} + duplicate {self.duplicate:,} + late {self.late:,}"
            f" + dead-lettered {self.dead_lettered:,} + shed {self.shed:,} + in flight {self.in_flight:,}  [{verdict}]"
        )
