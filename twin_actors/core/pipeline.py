"""The stages of the pipeline by their names, each a pure function that is tested by itself.

    clean     judge and convert the values of readings                        (in the twin actor, per reading)
    estimate  fold them into the state, diagonal or joint                     (in the twin actor, per reading)
    detect    score how surprising they were                                  (in the twin actor, per reading)
    monitor   raise and clear alerts with hysteresis                          (in the twin actor, per tick)
    decide    ask the city's policies, on one recorded cut                    (in the aggregator, per tick)
    allocate  divide scarce units among what twins need, with a proven bound  (in the aggregator, per tick)
    recommend say it in words                                                 (in the aggregator, per tick)

Before them stands *collect* (the router) and *convert* of units (the decoder); after them *control* (commands and their
acknowledgements, in the router) and *show*.
"""

from twin_actors.core.allocation import allocate
from twin_actors.core.cleaning import clean
from twin_actors.core.deciding import decide, recommend
from twin_actors.core.detection.compiled import detect
from twin_actors.core.estimation import estimate_diagonal, estimate_joint
from twin_actors.core.monitoring import monitor

STAGES = ("clean", "estimate", "monitor", "detect", "decide", "allocate", "recommend")

__all__ = [
    "STAGES",
    "allocate",
    "clean",
    "decide",
    "detect",
    "estimate_diagonal",
    "estimate_joint",
    "monitor",
    "recommend",
]
