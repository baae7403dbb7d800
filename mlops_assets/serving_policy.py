"""How a model is served, and how a version of it is rolled out: policies of a `ModelSpec`.

Declarations and their checks only. What they mean is in `serving/`; limits of the server itself,
which are the same for all models, are in `serving/options`.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator

from mlops_assets.errors import DeclarationError
from mlops_assets.tables import Declaration


class ServingPolicy(Declaration):
    """How a model is served.

    Args:
        overrides: features that a request may give over those that are read online.
        hashed: keys and features that are personal: logged as keyed hashes.
        dropped: keys and features that are never logged.
        retention_days: days for which predictions and outcomes are kept.
        defaults: values of features that are missing or expired; without one they are null.
        needed: features without which nothing is predicted: a row that lacks one is refused.
    """

    overrides: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    defaults: Mapping[str, float | str] = {}
    needed: tuple[str, ...] = ()
    retention_days: int = Field(default=400, ge=1)


class RolloutPolicy(Declaration):
    """How a version is rolled out, and what it must not make worse.

    Margins are the largest harm that is accepted, canary minus control. A canary advances when it
    is surely below all of them. It is aborted when it is surely above one; of errors and slow
    answers, when it surely has more of them and by what is seen more than the margin.

    Args:
        steps: percent of the traffic by step.
        shadow_rows: rows that the version scores in shadow before the first step.
        step_minutes: least time of a step.
        most_hours: time of a step after which nothing moves without a person.
        least_rows: rows of canary and control each before the canary may advance.
        latency_limit_ms: rows that a version predicts for longer than this have a slow answer.
        errors: margin of the share of requests that the version refuses.
        slow: margin of the share of slow answers.
        score_shift: margin, either way, of the mean score; of a number in its own unit.
        brier: margin of the mean squared error of probabilities, on labels. Binary only.
        coverage: margin of the share of labels outside of their set or interval.
        calibration: largest calibration error of the canary itself, on labels. Binary only.
        metrics: margins of metrics of the spec by name: how much worse an entity may fare.
        labels: rows of canary and control each with a label before the canary gets more than half
            of the traffic; 0 where labels come too late to wait for.
        shadow_share: share of the entities that the shadow scores.
    """

    steps: tuple[float, ...] = (5, 25, 50, 100)
    shadow_rows: int = Field(default=1_000, ge=0)
    step_minutes: float = Field(default=10, ge=0)
    most_hours: float = Field(default=72, gt=0)
    least_rows: int = Field(default=1_000, ge=1)
    latency_limit_ms: float = Field(default=50, gt=0)
    errors: float = Field(default=0.005, gt=0, lt=1)
    slow: float = Field(default=0.02, gt=0, lt=1)
    score_shift: float = Field(default=0.1, gt=0)
    brier: float = Field(default=0.02, gt=0, lt=1)
    coverage: float = Field(default=0.05, gt=0, lt=1)
    calibration: float = Field(default=0.05, gt=0, lt=1)
    metrics: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    labels: int = Field(default=2_000, ge=0)
    shadow_share: float = Field(default=1.0, gt=0, le=1)

    @field_validator("steps")
    @classmethod
    def _steps_grow(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        from mlops_assets.core.rollout import Rollout

        Rollout("", "", "", steps)
        if steps[-1] != 100:
            raise DeclarationError(
                f"a rollout that ends at {steps[-1]:g}% of the traffic",
                expected="100 as the last step",
                do="write the steps like (5, 25, 50, 100)",
            )
        return steps
