"""Going back to a snapshot: the newest that is whole, and that is of the same twins."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from twin_actors.runtime.holder import Holder
from twin_actors.store import Snapshot, Store, StoreDamaged

log = logging.getLogger(__name__)


def sound_snapshots(store: Store, name: str) -> Iterator[Snapshot]:
    """An actor's snapshots, newest first, without those that are damaged. Raises StoreUnavailable."""
    newest = store.load_snapshot(name)  # it passes over damaged ones by itself
    if newest is None:
        return
    yield newest
    try:
        for kept in store.snapshots(name):
            if kept.offset < newest.offset:
                yield kept
    except StoreDamaged as error:
        log.error("%s: older snapshots cannot be read: %s", name, error)


def restore(holder: Holder, store: Store, name: str) -> bool:
    """Put a fresh holder where the newest usable snapshot was; False where there is none.

    Snapshots of other twins are passed over: a change of the scenario that was cut short may have left them. Raises
    ValueError when there are some and none is of these twins, StoreUnavailable.
    """
    refused = ""
    for kept in sound_snapshots(store, name):
        try:
            holder.restore(kept.offset, kept.blob)
        except ValueError as error:
            refused = str(error)
            log.warning("%s: the snapshot at offset %d is not taken: %s", name, kept.offset, error)
            continue
        return True
    if refused:
        raise ValueError(f"{name}: no snapshot is of these twins and this model ({refused})")
    return False
