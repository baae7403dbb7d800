"""What the environment decides: where things are kept, and under which name.

Read once from variables that begin with `MLOPS_`; anything that a model decides belongs in its
spec. Every path derives from `home`, so that one folder holds all that the platform writes.
"""

import datetime as dt
import getpass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class QuietHoursSetting(BaseModel):
    """Hours of the day in which a channel is left alone, but for critical alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: dt.time
    end: dt.time
    zone: str = "UTC"


class ChannelSetting(BaseModel):
    """Where alerts go: an address as Apprise takes it, and what it takes when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: SecretStr
    severities: tuple[Literal["warning", "critical"], ...] = ("warning", "critical")
    quiet: QuietHoursSetting | None = None


class Settings(BaseSettings):
    """Settings of the platform.

    Args:
        home: folder of everything that is written (`MLOPS_HOME`).
        specs: the models, as `module:ATTRIBUTE` (`MLOPS_SPECS`); those of the showcase when left
            out.
        environment: first part of the names of MLflow experiments.
        project: second part of the names of MLflow experiments; the Feast project.
        tracking_uri: MLflow's backend store; empty means an SQLite file below `home`.
        online_url: Redis as the online store (`redis://host:port/db`); empty means an SQLite file.
        ledger_url: address of the release ledger, SQLite or Postgres; empty means an SQLite file.
        actor: who works here, for the ledger; empty means the user of the operating system.
        tracking_username: user of MLflow's basic authentication, where it is on.
        tracking_password: its password.
        mask_key: secret of the hashes that stand for personal data in the logs, 16 to 64 bytes.
        alert_channels: where alerts go, as JSON, such as
            `[{"name": "duty", "url": "slack://...", "severities": ["critical"]}]`.
        ui_url: address of Dagster's pages, for links in alerts.
        now: the present, for data of the past: online features are answered as of this time.
            Kept in UTC; without a zone it is taken for UTC. Empty means the clock.
    """

    model_config = SettingsConfigDict(env_prefix="MLOPS_", frozen=True, extra="ignore")

    home: Path = Path(".mlops")
    specs: str = "mlops_assets.showcase:SPECS"
    environment: Literal["development", "staging", "production"] = "development"
    project: str = "mlops_assets"
    tracking_uri: str = ""
    online_url: str = Field(default="", repr=False)
    ledger_url: str = Field(default="", repr=False)
    actor: str = ""
    tracking_username: str = ""
    tracking_password: SecretStr = SecretStr("")
    mask_key: SecretStr = SecretStr("")
    alert_channels: tuple[ChannelSetting, ...] = ()
    ui_url: str = "http://127.0.0.1:3000"
    now: dt.datetime | None = None

    @field_validator("now")
    @classmethod
    def _in_utc(cls, now: dt.datetime | None) -> dt.datetime | None:
        if now is None:
            return None
        # Its day is asked for, so another zone would make it another day.
        return now.astimezone(dt.UTC) if now.tzinfo else now.replace(tzinfo=dt.UTC)

    @cached_property
    def root(self) -> Path:
        """`home` as an absolute path: child processes may have another current folder."""
        return self.home.expanduser().absolute()

    @property
    def lake(self) -> Path:
        """Folder of the Parquet lake."""
        return self.root / "lake"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance."""
        return self.root / "dagster"

    @property
    def feast(self) -> Path:
        """Folder of the Feast registry and online store."""
        return self.root / "feast"

    @property
    def mlflow(self) -> Path:
        """Folder of MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def mlflow_uri(self) -> str:
        """Address of MLflow's backend store."""
        return self.tracking_uri or f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def ledger(self) -> str:
        """Address of the release ledger."""
        return self.ledger_url or f"sqlite:///{self.root / 'ledger' / 'ledger.db'}"

    @property
    def outbox(self) -> str:
        """Address of the alerts that are on their way: beside the ledger where that is a server."""
        shared = self.ledger_url if self.ledger_url.startswith("postgresql") else ""
        return shared or f"sqlite:///{self.root / 'alerts' / 'outbox.db'}"

    @property
    def who(self) -> str:
        """Who works here: the actor of what is done by a command or a run."""
        if self.actor:
            return self.actor
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user need not have a name
            return "unknown"

    def experiment(self, model: str) -> str:
        """Name of a model's MLflow experiment."""
        return f"{self.environment}/{self.project}/{model}"
