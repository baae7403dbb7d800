"""Features by entity id while their store is away: what is refused, and whose answers are kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mlops_assets.errors import ContractError, DataError
from mlops_assets.serving import online
from mlops_assets.serving.online import OnlineFeatures
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.watch import Watch
from mlops_assets.stores.online_reader import OnlineAnswer, OnlineReader, Status
from mlops_assets.stores.online_request import RequestFunction
from mlops_assets_tests.serving.shop_home import KNOWN, specs_in

NAMES = ("amount_last", "amount_2d", "size_doubled")


class Reader:
    """A reader that says one thing of every row, unless it is away."""

    names, away = NAMES, False

    def read(self, rows: Sequence[Mapping[str, Any]]) -> OnlineAnswer:
        if self.away:
            raise DataError("no store", expected="one", do="wait")
        n = len(rows)
        return OnlineAnswer(
            NAMES, [[1.0, 2.0, 6.0]] * n, [[Status.PRESENT] * 3] * n, [[None] * 3] * n
        )


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def features(tmp_path: Path, reader: Reader) -> OnlineFeatures:
    found = OnlineFeatures(
        specs_in(tmp_path)[0], lambda: cast(OnlineReader, reader), Watch("the online store")
    )
    found.open()
    return found


@pytest.mark.parametrize(
    "wrong", [ContractError("a size", expected="another", do="look"), ZeroDivisionError("by zero")]
)
def test_values_that_cannot_be_computed_with_are_refused_while_the_store_is_away(
    features: OnlineFeatures, reader: Reader, monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    def refuse(*_: Any) -> Any:
        raise wrong

    features.read([KNOWN], [{}])
    reader.away = True
    monkeypatch.setattr(RequestFunction, "of_values", refuse)
    with pytest.raises(Refusal) as found:
        features.read([KNOWN], [{}])
    assert (found.value.status, found.value.field) == (400, "entities")
    assert features.watch.failing_since is not None


def test_the_entities_that_were_asked_for_last_are_kept(
    features: OnlineFeatures, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LAST_GOOD", 2)
    tea, pot, cup = ({**KNOWN, "item": item} for item in ("tea", "pot", "cup"))
    for one in (tea, pot, tea, cup):
        features.read([one], [{}])
    reader.away = True
    assert features.read([tea, cup], [{}, {}])[0].values["amount_last"] == 1.0
    with pytest.raises(Refusal, match="cannot be read at the moment"):
        features.read([pot], [{}])
