"""How the server runs: address, workers and limits.

Read from variables that begin with `MLOPS_SERVE_`, so that worker processes find what the command
was told. Where things are kept, and which models there are, is in `settings`; what a model takes
and says is in its spec.
"""

import ipaddress
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
PREFIX = "MLOPS_SERVE_"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ServeOptions(BaseSettings):
    """Options of the server.

    Args:
        host: address to listen on; other than loopback only with tokens.
        port: port to listen on; 0 takes a free one.
        workers: processes, each with all models.
        most_body_bytes: largest body of a request.
        most_rows: most rows of a request.
        most_concurrent: requests in work at one time in a worker; more are answered 429.
        request_seconds: longest time for one request; a move, such as a rollback, ends as it ends.
        head_seconds: longest time for the head of a request, and between two requests of a
            connection.
        drain_seconds: longest time for the requests in work when the server is told to stop.
        poll_seconds: pause between looks at the registry.
        metrics_folder: where workers count together; set by the command.
        open_network: whether it listens beyond loopback: then every request needs a token, even
            when the file of the tokens is gone.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    most_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    most_rows: int = Field(default=1_000, ge=1)
    most_concurrent: int = Field(default=128, ge=1)
    request_seconds: float = Field(default=10.0, gt=0)
    head_seconds: int = Field(default=10, ge=1)
    drain_seconds: int = Field(default=20, ge=1)
    poll_seconds: float = Field(default=0.5, gt=0)
    metrics_folder: Path | None = None
    open_network: bool = False

    @property
    def as_environment(self) -> dict[str, str]:
        """The variables that give another process these options."""
        told = self.model_dump(exclude_none=True)
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}
