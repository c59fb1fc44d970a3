"""Where a store of some engine is, for tests that open it more than once."""

from __future__ import annotations

from twin_actors.store import MemoryStore, Store, open_store


class Place:
    """Where a store is. ``open`` opens it once more beside those that are open, as another process would."""

    def __init__(self, engine: str, url: str) -> None:
        self.engine, self.url = engine, url
        self.durable = engine != "memory"
        self._memory = MemoryStore(first_offset=0)
        self._open: list[Store] = []

    def open(self) -> Store:
        store = open_store(self.url) if self.durable else self._memory
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in self._open:
            store.close()
        self._open.clear()
