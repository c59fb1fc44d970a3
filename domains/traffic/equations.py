"""Published traffic equations as pure functions of columns: signals, delay, pressure, levels of service, speed.

All functions broadcast. Where a phase or movement axis is meant it is the first one; the entity is the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column

S_PER_H = 3600.0
TINY = 1e-9

HCM_SIGNAL_LIMITS_S = (10.0, 20.0, 35.0, 55.0, 80.0)
"""Upper limits of control delay for A…E at signals, s/veh. HCM 2000, Exhibit 16-2."""

HCM_FREEWAY_LIMITS_VEH_KM = (7.0, 11.0, 16.0, 22.0, 28.0)
"""Upper limits of density for A…E on basic freeway sections, veh/km/lane. HCM 2000, Exhibit 23-2."""

LEVELS = ("A", "B", "C", "D", "E", "F")


def flow_ratio(flow_vph: Column, saturation_vph: Column, serves: Column) -> Column:
    """Critical flow ratio y of each phase: the largest q/s of the movements that it serves.

    Shapes ``(m, …)``, ``(m, …)``, ``(p, m, …)`` → ``(p, …)``, dimensionless; a movement without saturation flow
    counts nothing. Source: Webster (1958), Road Research Technical Paper 39.
    """
    ratio = np.where(saturation_vph > 0, flow_vph / np.maximum(saturation_vph, TINY), 0.0)
    critical: Column = (serves * ratio).max(axis=1)
    return critical


def webster_cycle_s(ratio: Column, lost_time_s: Column | float) -> Column:
    """Optimum cycle C0 = (1.5 L + 5)/(1 − Y), s, with Y the sum of ``ratio`` ``(p, …)`` over phases.

    Infinite where Y ≥ 1: no cycle carries that demand. Source: Webster (1958), RRTP 39.
    """
    spare = 1.0 - np.asarray(ratio, dtype=np.float64).sum(axis=0)
    wanted_s = 1.5 * np.asarray(lost_time_s, dtype=np.float64) + 5.0
    return np.where(spare > 0, wanted_s / np.where(spare > 0, spare, 1.0), np.inf)


def webster_green_s(ratio: Column, lost_time_s: Column | float, cycle_s: Column | float) -> Column:
    """Effective greens g_i = (y_i/Y)(C − L), s, shape of ``ratio`` ``(p, …)``; equal where nothing flows.

    Source: Webster (1958), RRTP 39.
    """
    ratio = np.asarray(ratio, dtype=np.float64)
    total = ratio.sum(axis=0)
    share = np.where(total > 0, ratio / np.where(total > 0, total, 1.0), 1.0 / ratio.shape[0])
    green_s: Column = share * np.maximum(np.subtract(cycle_s, lost_time_s), 0.0)
    return green_s


def uniform_delay_s(cycle_s: Column | float, green_share: Column, saturation: Column) -> Column:
    """HCM 2000, Equation 16-11: d1 = 0.5 C (1 − g/C)²/(1 − min(1, X) g/C), s/veh."""
    open_share = np.maximum(1.0 - np.minimum(saturation, 1.0) * green_share, TINY)
    delay_s: Column = 0.5 * np.asarray(cycle_s) * (1.0 - np.asarray(green_share)) ** 2 / open_share
    return delay_s


def incremental_delay_s(
    saturation: Column,
    capacity_vph: Column,
    *,
    period_h: float = 0.25,
    control_k: float = 0.5,
    upstream_i: float = 1.0,
) -> Column:
    """HCM 2000, Equation 16-12: d2 = 900 T [(X − 1) + √((X − 1)² + 8 k I X/(c T))], s/veh.

    ``period_h`` is T in h, ``control_k`` 0.5 for pretimed control, ``upstream_i`` 1 for an isolated signal;
    ``capacity_vph`` must be above zero.
    """
    over = np.asarray(saturation, dtype=np.float64) - 1.0
    spread = 8.0 * control_k * upstream_i * np.asarray(saturation) / (np.asarray(capacity_vph) * period_h)
    delay_s: Column = 900.0 * period_h * (over + np.sqrt(over**2 + spread))
    return delay_s


def control_delay_s(
    flow_vph: Column,
    capacity_vph: Column,
    green_share: Column,
    cycle_s: Column | float,
    *,
    progression: Column | float = 1.0,
    period_h: float = 0.25,
) -> Column:
    """HCM 2000, Equation 16-9 without an initial queue: d = d1·PF + d2, s/veh, pretimed and isolated.

    A capacity below 1 veh/h counts as 1, so that a closed movement has a long but finite delay.
    """
    capacity_vph = np.maximum(capacity_vph, 1.0)
    saturation = flow_vph / capacity_vph
    uniform_s = uniform_delay_s(cycle_s, green_share, saturation)
    return uniform_s * progression + incremental_delay_s(saturation, capacity_vph, period_h=period_h)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalQueue:
    """One cycle of a deterministic queue at a signal; all fields have the shape of the inputs."""

    share_with_queue: Column
    max_queue_veh: Column
    total_delay_veh_s: Column
    mean_delay_s: Column
    max_delay_s: Column


def signal_queue(
    arrival_vph: Column | float,
    saturation_vph: Column | float,
    green_s: Column | float,
    cycle_s: Column | float,
) -> SignalQueue:
    """D/D/1 queue of one cycle: t0 = ρr/(1 − ρ), Q = λr, D = λr²/(2(1 − ρ)), mean D/(λC), longest wait r.

    ``saturation_vph`` must be above zero. Where a green does not clear what came in a cycle (λC > μg) there
    is no steady cycle: the queue is always there and the numbers are infinite.
    Source: Wikibooks, Fundamentals of Transportation/Traffic Signals (λ, μ in veh/s, r = C − g).
    """
    rate_vps = np.asarray(arrival_vph, dtype=np.float64) / S_PER_H
    rho = np.asarray(arrival_vph, dtype=np.float64) / saturation_vph
    cycle_s = np.asarray(cycle_s, dtype=np.float64)
    red_s = cycle_s - green_s
    clears = (rho * cycle_s <= green_s) & (rho < 1)
    open_share = np.where(clears, 1.0 - rho, 1.0)
    to_clear_s = rho * red_s / open_share
    return SignalQueue(
        share_with_queue=np.where(clears, (red_s + to_clear_s) / cycle_s, 1.0),
        max_queue_veh=np.where(clears, rate_vps * red_s, np.inf),
        total_delay_veh_s=np.where(clears, rate_vps * red_s**2 / (2 * open_share), np.inf),
        mean_delay_s=np.where(clears, red_s**2 / (2 * cycle_s * open_share), np.inf),
        max_delay_s=np.where(clears, red_s, np.inf),
    )


def movement_pressure_veh(
    queue_veh: Column, downstream_veh: Column | None = None, turn_share: Column | None = None
) -> Column:
    """Weight of each movement w(l,m) = x(l,m) − Σ_p r(m,p) x(m,p), veh; may be negative.

    ``queue_veh`` ``(m, …)``; ``downstream_veh`` and ``turn_share`` ``(m, k, …)``: the queues that a movement
    feeds and the shares that go there. Without them the exits count as free.
    Source: Varaiya (2013), Transportation Research C 36, Equation 9.
    """
    if downstream_veh is None or turn_share is None:
        return queue_veh
    pressure: Column = queue_veh - (np.asarray(turn_share) * downstream_veh).sum(axis=1)
    return pressure


def phase_pressure(weight_veh: Column, saturation_vph: Column, serves: Column) -> Column:
    """Pressure of each phase Σ c(l,m) w(l,m) over what it serves, veh·veh/h: ``(m, …)`` → ``(p, …)``.

    Max pressure gives the green to the largest. Source: Varaiya (2013), Transportation Research C 36.
    """
    pressure: Column = np.einsum("m...,pm...->p...", np.asarray(weight_veh) * saturation_vph, serves)
    return pressure


def level_of_service(value: Column, limits: tuple[float, ...]) -> Column:
    """Rating 0…5 (A…F) of a delay or density; a value on a limit still has the better letter."""
    return np.searchsorted(np.array(limits), value, side="left").astype(np.float64)


def bpr_speed_kmh(free_kmh: Column, flow_vph: Column, capacity_vph: Column) -> Column:
    """Speed at a flow, from t = t0 (1 + 0.15 (v/c)⁴); ``capacity_vph`` above zero.

    Source: Bureau of Public Roads, Traffic Assignment Manual (1964).
    """
    speed_kmh: Column = free_kmh / (1.0 + 0.15 * (flow_vph / capacity_vph) ** 4)
    return speed_kmh


def density_veh_km(flow_vph: Column, speed_kmh: Column, lanes: Column, jam_veh_km: Column) -> Column:
    """Density per lane k = q/(v·lanes), veh/km, never above the jam density (also at standstill).

    Source: the fundamental relation q = k v (Wardrop 1952).
    """
    density: Column = np.minimum(flow_vph / (np.maximum(speed_kmh, 1.0) * np.maximum(lanes, 1.0)), jam_veh_km)
    return density
