"""How rows are replayed: against which server, how fast, how many at one time."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_assets.errors import DeclarationError

By = Literal["features", "entities"]


class TrafficOptions(BaseSettings):
    """Options of a replay.

    Args:
        url: of the server; `https` too, and a path before those of the server.
        speed: how many times as fast as it happened; 0 for as fast as the server answers.
        by: send all features as they were known at each row's time, or the entity alone, whose
            features the server reads online.
        connections: most requests in work at one time.
        batch: most outcomes in one request.
        timeout_seconds: longest time that an answer is waited for.
        tries: how often a request is sent that is answered 429 or 503, or not at all.
        patience_seconds: a server that answers nobody for so long ends the replay.
        token: what the server asks for; read from `MLOPS_TOKEN`.
    """

    model_config = SettingsConfigDict(env_prefix="MLOPS_TRAFFIC_", frozen=True, extra="ignore")

    url: str = "http://127.0.0.1:8080"
    speed: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    by: By = "features"
    connections: int = Field(default=8, ge=1, le=256)
    batch: int = Field(default=50, ge=1)
    timeout_seconds: float = Field(default=30.0, gt=0)
    tries: int = Field(default=10, ge=1)
    patience_seconds: float = Field(default=30.0, ge=0)
    token: SecretStr = Field(default=SecretStr(""), validation_alias="MLOPS_TOKEN")

    @field_validator("url")
    @classmethod
    def _url_is_whole(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            whole = False
        if not whole or parts.query or parts.fragment or parts.username is not None:
            raise DeclarationError(
                f"the address {url!r}",
                expected="http:// or https://, a host, and perhaps a port and a path",
                do="write it like http://127.0.0.1:8080; the token goes into MLOPS_TOKEN",
            )
        return url.rstrip("/")
