"""Contracts of tables as dagster-pandas types, and the judgement of a table by its contract.

Column rules run on a frame of at most `MOST_ROWS` rows; whether keys are unique is asked of the
whole table. Every violation names table, column, rule, count and an example row. The asset checks
that use it stand in `contracts.py`, which imports this file, and pandas with it, when they run.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from dagster_pandas import PandasColumn, create_dagster_pandas_dataframe_type
from dagster_pandas.constraints import (
    ColumnConstraint,
    ColumnConstraintViolationException,
    DataFrameConstraint,
    DataFrameConstraintViolationException,
)

from mlops_assets.core.labels import EXTREME_RATE
from mlops_assets.defs.quiet import accepted
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake, quoted, view
from mlops_assets.stores.training_sets import SPLIT
from mlops_assets.tables import Column

MOST_ROWS = 500_000
KINDS = {
    "string": lambda s: pd.api.types.is_string_dtype(s) or pd.api.types.is_object_dtype(s),
    "int": pd.api.types.is_integer_dtype,
    "float": pd.api.types.is_float_dtype,
    "bool": pd.api.types.is_bool_dtype,
    "time": pd.api.types.is_datetime64_any_dtype,
}


class Rule(ColumnConstraint):
    """A rule that each value of a column follows.

    Args:
        table: name of the table, for the message.
        rule: the rule in words.
        broken: gets the column, returns which values break the rule.
    """

    def __init__(self, table: str, rule: str, broken: Callable[[Any], Any]) -> None:
        self.table, self.rule, self.broken = table, rule, broken
        super().__init__(error_description=rule, markdown_description=rule)

    def validate(self, dataframe: pd.DataFrame, column_name: str) -> None:
        """Raise ColumnConstraintViolationException with count and example row."""
        broken = self.broken(dataframe[column_name])
        if broken.any():
            example = dataframe[broken].iloc[0].to_dict()
            raise ColumnConstraintViolationException(
                constraint_name=self.rule,
                constraint_description=f"table {self.table}: {int(broken.sum()):,} of "
                f"{len(dataframe):,} rows; for example {example}",
                column_name=column_name,
            )


class Type(Rule):
    """The type of a column."""

    def __init__(self, table: str, kind: str) -> None:
        super().__init__(table, f"type is {kind}", lambda values: values.isna() & False)
        self.kind = kind

    def validate(self, dataframe: pd.DataFrame, column_name: str) -> None:
        """Raise ColumnConstraintViolationException when the column has another type."""
        column = dataframe[column_name]
        # A column without any value has whatever type pandas makes of it.
        if not KINDS[self.kind](column) and column.notna().any():
            raise ColumnConstraintViolationException(
                constraint_name=self.rule,
                constraint_description=f"table {self.table}: the column has type {column.dtype}, "
                f"for example {column.dropna().iloc[0]!r}",
                column_name=column_name,
            )


class LabelRate(DataFrameConstraint):
    """The label has both classes in every split, and neither of them hardly ever."""

    def __init__(self, spec: ModelSpec) -> None:
        self.label, self.table = spec.label.column, f"{spec.name}/training_set"
        rule = f"label rate of every split from {EXTREME_RATE:g} to {1 - EXTREME_RATE:g}"
        super().__init__(error_description=rule, markdown_description=rule)

    def validate(self, dataframe: pd.DataFrame) -> None:
        """Raise DataFrameConstraintViolationException for the first split out of bounds."""
        for split, rate in dataframe.groupby(SPLIT)[self.label].mean().items():
            if not EXTREME_RATE <= rate <= 1 - EXTREME_RATE:
                raise DataFrameConstraintViolationException(
                    constraint_name=str(self.error_description),
                    constraint_description=f"table {self.table}, column {self.label}: the rate in "
                    f"{split!r} is {rate:.4f}",
                )


def column_rules(table: str, column: Column) -> PandasColumn:
    """The contract of a column as dagster-pandas wants it."""
    rules: list[ColumnConstraint] = [Type(table, column.type)]
    if not column.nullable:
        rules.append(Rule(table, "no value is missing", lambda values: values.isna()))
    if (least := column.minimum) is not None:
        rules.append(Rule(table, f"at least {least:g}", lambda values: values < least))
    if (most := column.maximum) is not None:
        rules.append(Rule(table, f"at most {most:g}", lambda values: values > most))
    if (allowed := column.allowed) is not None:
        rules.append(
            Rule(
                table,
                f"one of {', '.join(allowed)}",
                lambda values: values.notna() & ~values.isin(allowed),
            )
        )
    return PandasColumn(column.name, constraints=rules)


def judge(
    lake: Lake,
    path: Path,
    table: str,
    columns: Sequence[Column],
    key: Sequence[str],
    more: Sequence[DataFrameConstraint] = (),
) -> dg.AssetCheckResult:
    """Judge a table by its contract; the first violation is the answer.

    Args:
        lake: opens connections.
        path: the table's file.
        table: name for the message.
        columns: the columns that it must have.
        key: columns that together are unique.
        more: rules about the frame as a whole.
    """
    with accepted():
        frame_type = create_dagster_pandas_dataframe_type(
            name=f"{table.replace('/', '_')}_contract",
            columns=[column_rules(table, column) for column in columns],
            dataframe_constraints=list(more),
        )
    with lake.connect() as connection:
        view(connection, "judged", path)
        rows = connection.execute("SELECT count(*) FROM judged").fetchall()[0][0]
        if not rows:
            return _failed(f"table {table}: no rows; expected at least one", rows)
        sample = f"USING SAMPLE reservoir({MOST_ROWS} ROWS) REPEATABLE (0)"
        frame = connection.execute(
            f"SELECT * FROM judged {sample if rows > MOST_ROWS else ''}"
        ).df()
        checked = dg.check_dagster_type(frame_type, frame)
        if not checked.success:
            return _failed(checked.description or "the contract is broken", rows)
        names = ", ".join(quoted(name) for name in key)
        twice = connection.execute(
            f"SELECT {names}, count(*) AS copies FROM judged GROUP BY ALL HAVING copies > 1 "
            f"ORDER BY ALL LIMIT 1"
        ).df()
        if len(twice):
            return _failed(
                f"table {table}, columns {', '.join(key)}: rule unique; "
                f"for example {twice.iloc[0].to_dict()}",
                rows,
            )
    return dg.AssetCheckResult(passed=True, metadata={"rows": rows, "rows_judged": len(frame)})


def _failed(reason: str, rows: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=reason,
        metadata={"rows": rows, "reason": reason},
    )
