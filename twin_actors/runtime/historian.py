"""The controller's historian: moves what recovery no longer needs into history, rolls it up, and keeps to retention."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from typing import Any

from twin_actors.runtime.past import HistoryDecoder
from twin_actors.runtime.plan import CityPlan
from twin_actors.store import Store, StoreDamaged, StoreUnavailable
from twin_actors.store.history import Retention, Tidied

log = logging.getLogger(__name__)

TIDY_EVERY_S = 60.0


class Historian:
    """A thread beside the controller's: tidying may take minutes, and nobody waits for it."""

    def __init__(self, plan: CityPlan, store: Store) -> None:
        self.follow(plan)
        self._clock, self._store = plan.clock, store
        self._stopping = threading.Event()
        self._done = Tidied()
        self._runs = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="historian", daemon=True)
        self._thread.start()

    def follow(self, plan: CityPlan) -> None:
        """Go by the plan of a city that has been changed."""
        settings = plan.scenario.retention
        self._retention = Retention(raw_s=settings.raw_s, minute_s=settings.minute_s, hour_s=settings.hour_s)
        self._decode = HistoryDecoder(plan)

    def _run(self) -> None:
        while not self._stopping.wait(TIDY_EVERY_S):
            self.tidy()

    def tidy(self) -> Tidied:
        """One tidying, now; a store that is away or damaged is noted and tried again."""
        try:
            done = self._store.tidy(self._clock.now_s(), self._retention, self._decode)
        except (StoreUnavailable, StoreDamaged) as error:
            return self._failed(str(error))
        except Exception as error:  # of a decoder: history waits in the log, and the alarm says why
            log.exception("history could not be tidied")
            return self._failed(f"{type(error).__name__}: {error}")
        self.trouble = ""
        self._runs += 1
        for name, count in asdict(done).items():
            if name == "note":
                self._done.note = done.note
            else:
                setattr(self._done, name, getattr(self._done, name) + count)
        return done

    def _failed(self, why: str) -> Tidied:
        if not self.trouble:
            log.error("history could not be tidied: %s", why)
        self.trouble = why
        return Tidied()

    def report(self) -> dict[str, Any]:
        return {"runs": self._runs, "trouble": self.trouble, **asdict(self._done)}

    def stop(self) -> None:
        self._stopping.set()
