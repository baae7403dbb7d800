"""The example for Prometheus fits the server and the files beside it."""

import yaml
from starlette.routing import Route

from mlops_assets.platform import Platform
from mlops_assets.serving.app import app_of
from mlops_assets.serving.auth import role_for
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.worker import Worker
from mlops_assets.settings import Settings
from mlops_assets_tests.deploy.metrics_world import DEPLOY

TEXT = (DEPLOY / "prometheus.yml").read_text()
[JOB] = yaml.safe_load(TEXT)["scrape_configs"]


def test_the_rules_that_it_names_are_beside_it() -> None:
    assert all((DEPLOY / name).exists() for name in yaml.safe_load(TEXT)["rule_files"])


def test_it_asks_the_server_where_it_listens() -> None:
    options = ServeOptions()
    assert JOB["static_configs"] == [{"targets": [f"{options.host}:{options.port}"]}]
    app = app_of(Worker(Platform(Settings()), (), options))
    paths = {route.path for route in app._app.routes if isinstance(route, Route)}
    assert JOB["metrics_path"] in paths


def test_the_role_in_its_comment_is_the_one_that_is_asked_for() -> None:
    assert f"--role {role_for(JOB['metrics_path'])}" in TEXT
    commented = TEXT.replace("    # authorization:\n    #  ", "    authorization:\n     ")
    assert "credentials_file" in yaml.safe_load(commented)["scrape_configs"][0]["authorization"]
