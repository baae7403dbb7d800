"""`POST /models/{model}/predict`: rows by entity id or by features, answered in full.

The interface of this platform; others are in `v2` and `invocations`.
"""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlops_assets.serving.bodies import JSON, NOTES, answer, body_of, only, parsed, rows_of
from mlops_assets.serving.predictor import Answered, notes
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import VENN_ABERS
from mlops_assets.serving.worker import Worker

ENTITIES, FEATURES = "entities", "features"


async def predict(request: Request) -> Response:
    """Answer rows of a model."""
    started = time.perf_counter()
    worker: Worker = request.app.state.worker
    model = request.path_params["model"]
    rows = worker.rows_of(model)
    document = parsed(await body_of(request, JSON))
    only(document, (ENTITIES, FEATURES))
    if (ENTITIES in document) is (FEATURES in document):
        raise Refusal(
            "both `entities` and `features`" if ENTITIES in document else "no rows",
            expected="`entities`, whose features are read online, or `features`, which are all",
            do="send one of the two lists",
        )
    place = ENTITIES if ENTITIES in document else FEATURES
    given = rows_of(document[place], place, worker.options.most_rows)

    def work() -> list[Answered]:
        asked = (rows.of_entities if place == ENTITIES else rows.of_features)(given, place)
        return worker.predictor.predict(model, asked, started)

    answered = await worker.do(work, len(given), online=place == ENTITIES)
    request.scope[NOTES].update(notes(model, answered))
    return answer({"model": model, "predictions": [said(one) for one in answered]})


def said(one: Answered) -> dict[str, Any]:
    """What is told of one prediction."""
    outputs, by = one.outputs, one.by
    found: dict[str, Any] = {"prediction_id": one.id}
    if by.binary:
        found["probability"] = outputs["probability"]
        found["set"] = [
            label
            for label, name in enumerate(("negative_in_set", "positive_in_set"))
            if outputs[name]
        ]
    else:
        found["value"] = outputs["forecast"]
        found["unit"] = by.spec.unit
        found["interval"] = [outputs["low"], outputs["high"]]
    found["coverage"] = by.coverage
    if VENN_ABERS[0] in outputs:
        found["venn_abers"] = [outputs[name] for name in VENN_ABERS]
    found |= {"version": by.version, "arm": one.arm, "features": dict(one.statuses)}
    return found
