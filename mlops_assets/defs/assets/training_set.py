"""The training set: entity rows with labels, splits, and features as known at each row's time."""

import datetime as dt

import dagster as dg
from pydantic import Field

from mlops_assets.core.labels import LabelSummary
from mlops_assets.defs import keys, metadata, retraining
from mlops_assets.defs.assets.features import digests, raw_marks
from mlops_assets.errors import DeclarationError
from mlops_assets.inference.assembly import assembled
from mlops_assets.platform import Platform
from mlops_assets.recipe import recipe
from mlops_assets.spec import ModelSpec
from mlops_assets.windows import SPLITS, Windows


class TrainingSetConfig(dg.Config):
    """What a run may choose about a training set."""

    holdout: str = Field(
        default="",
        description="Month to hold out (YYYY-MM); empty takes the windows of the spec.",
    )
    until: str = Field(
        default="",
        description="Day (YYYY-MM-DD) before which holdout ends: the spec's windows are moved.",
    )

    def windows(self, spec: ModelSpec) -> Windows:
        """The windows that the run chose.

        Raises:
            DeclarationError: two choices, or a day that is none.
        """
        if self.holdout and self.until:
            raise DeclarationError(
                f"a holdout month {self.holdout} and a holdout until {self.until}",
                expected="one of them",
                do="leave one of them empty",
            )
        if not self.until:
            return spec.windows.for_holdout(self.holdout) if self.holdout else spec.windows
        try:
            end = dt.date.fromisoformat(self.until)
        except ValueError as wrong:
            raise DeclarationError(
                f"{self.until!r} is not a day", expected="YYYY-MM-DD", do="correct the config"
            ) from wrong
        return spec.windows.until(end, train_days=spec.retraining.train_days)


def training_set_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Build the asset of a model's training set."""

    @dg.asset(
        key=keys.training_set(spec),
        group_name=spec.name,
        kinds={"feast", "parquet"},
        description=f"Snapshot of rows, features and labels for {spec.name}, split by time.",
        deps=[
            keys.FEATURE_REGISTRY,
            keys.rows(spec.rows),
            *(keys.features(view) for view in spec.features.views),
        ],
        owners=list(spec.owners),
    )
    def training_set(
        context: dg.AssetExecutionContext,
        config: TrainingSetConfig,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:
        retraining.note_start(context, platform.now)
        windows = config.windows(spec)
        digest = digests((spec.features,))[spec.features.name]
        marks: dict[str, str] = {}
        marks.update(raw_marks(platform, spec.rows))
        for view in spec.features.views:
            marks.update(raw_marks(platform, view))
        notes = {
            "feature_service": spec.features.name,
            "feature_service_digest": digest,
            "recipe": recipe(spec, windows, marks, digest),
        }
        kept = assembled(platform, spec, windows, notes)
        labels = {
            name: LabelSummary.of(kept.part(name)[spec.label.column].to_numpy()) for name in SPLITS
        }
        return dg.MaterializeResult(
            data_version=dg.DataVersion(kept.snapshot),
            metadata={
                "dagster/row_count": kept.table.num_rows,
                "dagster/uri": str(platform.training_sets.file(spec.name, kept.snapshot)),
                "snapshot": kept.snapshot,
                "recipe": notes["recipe"],
                "purged_rows": kept.manifest["purged"],
                "unlabelled_rows": kept.manifest["unlabelled"],
                "splits": metadata.table(
                    [
                        {
                            "split": name,
                            "window": str(getattr(windows, name)),
                            "rows": labels[name].rows,
                            "label_mean": labels[name].mean,
                        }
                        for name in SPLITS
                    ]
                ),
                **{f"{name}_rows": labels[name].rows for name in SPLITS},
                "holdout_label_mean": labels["holdout"].mean,
            },
        )

    return training_set
