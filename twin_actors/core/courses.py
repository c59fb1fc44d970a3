"""Reading a usual course (a ``profile`` window) where a twin stands in its period, now and later."""

from __future__ import annotations

import numpy as np

from twin_actors.core.columns import Column


def usual(course: Column, place: Column) -> Column:
    """A course ``(bins, …, n)`` at places ``(…, n)`` in bins, modulo its period; NaN where nothing was ever seen."""
    found: Column = usual_ahead(course, place, np.zeros(1))[0]
    return found


def usual_ahead(course: Column, place: Column, ahead: Column) -> Column:
    """The same ``ahead (k,)`` bins later: ``(k, …, n)``.

    Sample axes of a forked state, which a course does not have, are put in. The answer may be a view.
    """
    place = np.asarray(place)
    bins, tail = course.shape[0], course.shape[1:]
    between = (1,) * (place.ndim - len(tail))
    if place.size and (place == place.flat[0]).all():  # all at one place, as nearly always: rows as they lie
        rows = course[np.mod(np.floor(place.flat[0] + ahead), bins).astype(np.intp)]
        shape = (len(ahead), *np.broadcast_shapes(place.shape, tail))
        return np.broadcast_to(rows.reshape(len(ahead), *between, *tail), shape)
    slots = np.mod(np.floor(place + ahead.reshape(-1, *(1,) * place.ndim)), bins).astype(np.intp)
    return np.take_along_axis(course.reshape(bins, *between, *tail), slots, axis=0)
