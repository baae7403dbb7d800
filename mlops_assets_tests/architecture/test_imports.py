"""Imports point inward, dagster stays in defs/, and the platform knows no showcase."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlops_assets

ROOT = Path(mlops_assets.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))
MOST_LINES = 400

# What a part of the package may import of the package, beside itself.
DECLARATIONS = {"errors", "tables", "windows", "spec", "settings"}
ALLOWED = {
    "errors": set(),
    "core": {"errors"},
    "settings": {"errors"},
    "tables": {"errors"},
    "windows": {"errors", "tables"},
    "spec": {"core", "errors", "monitoring_policy", "retraining_policy", "serving_policy"}
    | {"tables", "windows"},
    "retraining_policy": {"core", "errors", "tables"},
    "views": {"core", "monitoring", "platform", "stores", *DECLARATIONS},
    "monitoring_policy": {"core", "errors", "tables"},
    "stores": {"core", *DECLARATIONS},
    "engines": {"core", "stores", *DECLARATIONS},
    "platform": {"core", "stores", "engines", *DECLARATIONS},
    "judgement": {"core", "stores", *DECLARATIONS},
    "lineage": {"core", "stores", "engines", "platform", "reproduce", *DECLARATIONS},
    "lineage_tree": {"core", "lineage"},
    "reproduce": {"core", "stores", "engines", "platform", "recipe", *DECLARATIONS},
    "serving_policy": {"core", "errors", "tables"},
    "rollouts": {"core", "judgement", "stores", "platform", *DECLARATIONS},
    "outcomes": {"core", "monitoring", "platform", "rollouts", "stores", *DECLARATIONS},
    "experiments": {"core", "outcomes", "platform", "rollouts", "stores", *DECLARATIONS},
    "serving": {"core", "stores", "engines", "platform", "rollouts", *DECLARATIONS}
    | {"declared", "experiments", "monitoring"},
    "inference": {"core", "stores", "engines", "platform", "recipe", *DECLARATIONS},
    "traffic": {"engines", "inference", "platform", "serving", *DECLARATIONS},
    "recipe": {"core", "stores", "engines", "platform", *DECLARATIONS},
    "reports": {"core", "stores", "engines", "platform", *DECLARATIONS},
    "monitoring": {"core", "stores", "engines", "platform", *DECLARATIONS},
    "replay": {"core", "stores", "engines", "inference", "platform", "recipe", "reproduce"}
    | {"rollouts", "serving_policy", *DECLARATIONS},
    "drills": {"core", "engines", "inference", "judgement", "monitoring"}
    | {"monitoring_policy", "platform", "rollouts", "serving", "serving_policy", "stores"}
    | DECLARATIONS,
    "defs": {"judgement", "lineage", "reports", "core", "stores", "engines", "platform"}
    | {"inference", "monitoring", "recipe", *DECLARATIONS}
    | {"outcomes", "rollouts"},
    "console": {"core", "stores", "defs", *DECLARATIONS},
    "dev_servers": {"errors", "settings"},
    "deploy": set(),
    "showcase": DECLARATIONS,
    "declared": DECLARATIONS,
    "definitions": {"declared", "defs", "settings"},
    "commands": {"console", "core", "defs", "judgement", "lineage", "lineage_tree", "platform"}
    | {"replay", "reproduce", "serving", "stores", "traffic", *DECLARATIONS}
    | {"declared", "drills", "experiments", "rollouts", "views"},
    "cli": {"commands", "reports", "declared", "defs", "console", "core", "dev_servers"}
    | {"engines", "platform", "serving", "stores", *DECLARATIONS},
    "__init__": {"defs", *DECLARATIONS},
}  # fmt: skip
NOT_IN_CORE = {"duckdb", "mlflow", "feast", "requests", "sqlalchemy", "subprocess", "os"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from mlops_assets import judgement` is about the module, not about the package.
            inner = node.module == "mlops_assets"
            yield from (f"mlops_assets.{one.name}" for one in node.names if inner)
            yield str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_inward(path: Path) -> None:
    parts = {m.split(".")[1] for m in imported(path) if m.startswith("mlops_assets.")}
    assert parts - {part_of(path)} <= ALLOWED[part_of(path)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_defs_and_definitions_import_dagster(path: Path) -> None:
    uses = {module for module in imported(path) if module.split(".")[0].startswith("dagster")}
    assert not uses or part_of(path) in ("defs", "definitions")


@pytest.mark.parametrize("path", sorted((ROOT / "core").glob("*.py")), ids=name_of)
def test_core_touches_no_outside_system(path: Path) -> None:
    assert not {module.split(".")[0] for module in imported(path)} & NOT_IN_CORE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_platform_does_not_know_the_showcase(path: Path) -> None:
    if part_of(path) not in ("showcase", "definitions"):
        assert "flight" not in path.read_text().lower()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_belongs_in_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in ("utils", "helpers", "common")
