"""Forecasts of fields from their past: methods, their choice by backtest, and calibrated quantiles."""

from twin_actors.core.forecasts.backtest import MIXTURE, RECENT, Choice, Errors, backtest, choose, outcomes
from twin_actors.core.forecasts.methods import (
    Fitted,
    Method,
    ProfileDecay,
    RepeatLast,
    SeasonalNaive,
    WindowRidge,
)
from twin_actors.core.forecasts.of_field import PERIODS_S, period_of, predicted_field
from twin_actors.core.forecasts.predicted import Evaluation, Predicted, default_methods, evaluate, predicted, span
from twin_actors.core.forecasts.quantiles import LEVELS, Tracked, coverage, track, usual_size
from twin_actors.core.forecasts.regression import Regression
from twin_actors.core.forecasts.rhythm import RhythmRegression
from twin_actors.core.forecasts.rollout import MODEL, RollOut
from twin_actors.core.forecasts.series import Series, resample

__all__ = [
    "LEVELS",
    "MIXTURE",
    "MODEL",
    "PERIODS_S",
    "RECENT",
    "Choice",
    "Errors",
    "Evaluation",
    "Fitted",
    "Method",
    "Predicted",
    "ProfileDecay",
    "Regression",
    "RepeatLast",
    "RhythmRegression",
    "RollOut",
    "SeasonalNaive",
    "Series",
    "Tracked",
    "WindowRidge",
    "backtest",
    "choose",
    "coverage",
    "default_methods",
    "evaluate",
    "outcomes",
    "period_of",
    "predicted",
    "predicted_field",
    "resample",
    "span",
    "track",
    "usual_size",
]
