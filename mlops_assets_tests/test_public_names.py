"""The names that users import from the package."""

import subprocess
import sys

import pytest

import mlops_assets


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("name", mlops_assets.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(mlops_assets, name).__name__ == name


def test_the_public_names_are_those_of_the_review() -> None:
    assert mlops_assets.__all__ == [
        "Calendar",
        "Column",
        "Entity",
        "EntityRows",
        "FeatureService",
        "FeatureView",
        "FoldPolicy",
        "GatePolicy",
        "Label",
        "Metric",
        "ModelSpec",
        "MonitoringPolicy",
        "ReleasePolicy",
        "RequestFeatures",
        "RetrainingPolicy",
        "RolloutPolicy",
        "Search",
        "ServingPolicy",
        "Slice",
        "Source",
        "Window",
        "Windows",
        "build_definitions",
    ]


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Modelspec'"):
        mlops_assets.Modelspec  # noqa: B018


def test_declaring_a_model_loads_no_heavy_library() -> None:
    heavy = ("dagster", "mlflow", "feast", "sklearn", "mapie", "pandas", "ibis", "duckdb")
    use = "import sys, mlops_assets; mlops_assets.ModelSpec"
    code = f"{use}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
