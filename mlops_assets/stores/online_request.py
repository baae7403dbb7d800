"""Features computed at request time, from the columns that the online reader has.

Runs a Feast on-demand view as `get_online_features` runs it, on Python columns instead of a
protobuf response. Only this belongs here; stored features are read in `online_reader`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from mlops_assets.errors import DeclarationError

_Columns = Mapping[str, list[Any]]
# Python values that pandas reads into the columns that Arrow would give.
_PLAIN = (float, int, str)


@dataclass(frozen=True)
class RequestView:
    """One on-demand view of a service, resolved.

    Attributes:
        view: Feast's view.
        names: the features wanted, as the answer names them.
        hidden: columns that the view did not declare, and so must not see.
        types: type of each feature.
        full_names: whether the answer names features `view__feature`.
    """

    view: OnDemandFeatureView
    names: tuple[str, ...]
    hidden: frozenset[str]
    types: tuple[ValueType, ...]
    full_names: bool

    @classmethod
    def of(
        cls,
        view: OnDemandFeatureView,
        others: Sequence[OnDemandFeatureView],
        refs: Sequence[str],
        full_names: bool,
    ) -> "RequestView":
        """Resolve a view of a request.

        Raises:
            DeclarationError: it is of a mode that only Feast's own path runs.
        """
        if view.mode not in ("pandas", "python") or view.aggregations:
            raise DeclarationError(
                f"the on-demand view {view.name!r} has mode {view.mode!r}"
                + (" and aggregations" if view.aggregations else ""),
                expected="mode pandas or python, without aggregations",
                do="read this service with `FeatureStore.get_online_features`",
            )
        name = view.projection.name_to_use()
        split = [tuple(ref.split(":")) for ref in refs]
        features = [feature for where, feature in split if where == name]
        types = {field.name: field.dtype.to_value_type() for field in view.features}
        return cls(
            view=view,
            names=tuple(f"{name}__{one}" if full_names else one for one in features),
            hidden=_hidden(view, others, split),
            types=tuple(types.get(one, ValueType.UNKNOWN) for one in features),
            full_names=full_names,
        )

    def compute(self, columns: _Columns) -> list[list[Any]]:
        """Return one column per name."""
        known = {name: values for name, values in columns.items() if name not in self.hidden}
        given = self.view.transform_dict(known) if self.view.mode == "python" else self._run(known)
        computed = []
        for name, value_type in zip(self.names, self.types, strict=True):
            # A view in Python may name its features in short whatever the answer's names are.
            column = given[name] if name in given else given[name.rpartition("__")[2]]
            values = column if isinstance(column, list) else [column]
            # Feast's conversion there and back: it makes NaN null and numbers of numpy plain.
            protos = python_values_to_proto_values(values, value_type)
            computed.append([feast_value_type_to_python_type(v, value_type) for v in protos])
        return computed

    def _run(self, known: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not self.full_names and self._self_contained:
            given = self.view.feature_transformation.transform(_frame(known))  # type: ignore[union-attr]
            return {name: given[name].tolist() for name in self.names}
        table = self.view.transform_arrow(pa.Table.from_pydict(known), self.full_names)
        return {name: list(table.column(name).to_numpy()) for name in self.names}

    @property
    def _self_contained(self) -> bool:
        return not self.view.source_feature_view_projections


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    """The frame that Feast would make through Arrow, made directly where the two are the same."""
    if all(type(value) in _PLAIN for values in columns.values() for value in values):
        return pd.DataFrame(columns)
    return pa.Table.from_pydict(dict(columns)).to_pandas()


def _hidden(
    view: OnDemandFeatureView,
    others: Sequence[OnDemandFeatureView],
    refs: Sequence[tuple[str, ...]],
) -> frozenset[str]:
    declared = {one.name for one in view.source_feature_view_projections.values()}
    on_demand = {other.projection.name_to_use() for other in others}
    hidden = [
        (where, feature)
        for where, feature in refs
        if where not in on_demand and where not in declared
    ]
    hidden += [
        (projection.name, field.name)
        for other in others
        for projection in other.source_feature_view_projections.values()
        if projection.name not in declared
        for field in projection.features
    ]
    return frozenset(
        [feature for _, feature in hidden] + [f"{where}__{feature}" for where, feature in hidden]
    )
