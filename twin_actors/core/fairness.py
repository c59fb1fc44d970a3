"""Dominant resource fairness: several divisible resources, users who need them in fixed proportions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def dominant_resource_fairness(
    capacity: Mapping[str, float], demands: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Divisible tasks for each user by dominant resource fairness (Ghodsi et al., NSDI 2011, section 4).

    ``demands[user][resource]`` is what one task takes. All dominant shares (a user's largest share of any
    resource) rise together until a resource is used up; who needs it stops there, the others go on. A user
    who needs nothing gets 0. ValueError for negative numbers, KeyError for a resource that ``capacity`` does
    not name.
    """
    users = sorted(demands)
    names = sorted(capacity)
    stranger = {resource for user in users for resource in demands[user]} - set(names)
    if stranger:
        raise KeyError(f"no capacity given for {', '.join(sorted(stranger))}; known: {', '.join(names)}")
    has = np.array([capacity[name] for name in names], dtype=np.float64)
    per_task = np.array([[demands[user].get(name, 0.0) for name in names] for user in users], dtype=np.float64)
    per_task = per_task.reshape(len(users), len(names))
    if not (np.isfinite(has).all() and np.isfinite(per_task).all() and (has >= 0).all() and (per_task >= 0).all()):
        raise ValueError("capacities and demands must be finite and not negative")

    # a share of nothing is infinite: whoever needs a resource that is not there gets no task
    of_all = np.divide(per_task, has, out=np.where(per_task > 0.0, np.inf, 0.0), where=has > 0.0)
    dominant = of_all.max(axis=1, initial=0.0)
    growing = (dominant > 0.0) & np.isfinite(dominant)
    rate = np.divide(1.0, dominant, out=np.zeros(len(users)), where=growing)  # tasks per unit of dominant share
    tasks = np.zeros(len(users))
    free = has.copy()
    while growing.any():
        use = (rate * growing) @ per_task
        drawn = use > 0.0
        room = np.divide(free, use, out=np.full(len(names), np.inf), where=drawn)
        rise = max(float(room.min()), 0.0)
        tasks += rise * rate * growing
        free = np.maximum(free - rise * use, 0.0)
        spent = drawn & (room <= rise * (1.0 + 1e-12))
        growing &= ~(per_task[:, spent] > 0.0).any(axis=1)
    return {user: float(count) for user, count in zip(users, tasks, strict=True)}
