"""The server process: one socket, uvicorn's supervisor, and worker processes that it replaces.

What a worker does is in `worker` and `app`. Whether the address may be served at all is decided
here, before anything is bound.
"""

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlops_assets import declared
from mlops_assets.errors import DeclarationError
from mlops_assets.serving.auth import Tokens
from mlops_assets.serving.metrics import FOLDER_VARIABLE
from mlops_assets.serving.options import ServeOptions, is_loopback
from mlops_assets.serving.request_log import LOGGING
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.append_log import claimed

ACTOR = "model server"
"""Who finishes what a crash has left."""

APP = "mlops_assets.serving.app:create"
COUNTS = "metrics-"
"""How the folders begin in which workers count."""

HANGS_SECONDS = 10
"""A worker silent for so long is replaced; the longest time, too, until one that died is."""

_log = logging.getLogger(__name__)


def refuse_open_doors(settings: Settings, options: ServeOptions) -> None:
    """Refuse to listen beyond this machine when everybody could ask.

    Raises:
        DeclarationError: another address than loopback, and no tokens.
    """
    if not is_loopback(options.host) and not Tokens(settings.root):
        raise DeclarationError(
            f"the address {options.host!r}, and no tokens: everybody could ask",
            expected="127.0.0.1, or tokens",
            do="first: mlops-assets token create NAME --role predict",
        )


def finish_releases(settings: Settings, specs: Sequence[ModelSpec]) -> None:
    """Finish the moves of aliases that crashes have left, or undo them.

    Never raises: where the ledger or the registry does not answer, the aliases as they stand are
    served all the same.
    """
    from mlops_assets.platform import Platform

    platform = Platform(settings)
    try:
        for spec in specs:
            for entry in platform.releases(spec).reconcile(spec.name, actor=ACTOR):
                _log.warning("%s: %s (entry %d)", spec.name, entry.reason, entry.seq)
    except Exception:
        _log.exception("unfinished releases were not looked for: all is served as it stands")
    finally:
        platform.ledger.close()


@contextmanager
def counting(root: Path) -> Iterator[Path]:
    """A folder below the home in which the workers of a server count together.

    Those of servers that were killed are removed: whose server lives is locked by it.
    """
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{COUNTS}*"):
        with claimed(left) as nobodys:
            if nobodys:
                shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as locks:
        folder = Path(tempfile.mkdtemp(prefix=COUNTS, dir=root))
        while not locks.enter_context(claimed(folder)):
            # Another server that starts has taken it for one that was left.
            folder = Path(tempfile.mkdtemp(prefix=COUNTS, dir=root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def serve(settings: Settings, options: ServeOptions) -> None:
    """Serve until the process is told to stop; requests in work are finished then.

    Raises:
        DeclarationError: specs that cannot be loaded, an address that may not be served, or a port
            that is taken.
    """
    specs = declared.specs(settings)
    refuse_open_doors(settings, options)
    if not is_loopback(options.host):
        options = options.model_copy(update={"open_network": True})
    listening = _listen(options)
    with listening, counting(settings.root) as counts:
        _supervise(settings, options, specs, listening, counts)


def _supervise(
    settings: Settings,
    options: ServeOptions,
    specs: Sequence[ModelSpec],
    listening: socket.socket,
    counts: Path,
) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from mlops_assets.serving.connections import PatientProtocol

    # Workers are new processes: they learn all of this from their environment. OpenMP reads its
    # number of threads once, when it is loaded.
    options = options.model_copy(update={"metrics_folder": counts})
    os.environ |= options.as_environment
    os.environ |= {"MLOPS_HOME": str(settings.root), "MLOPS_SPECS": settings.specs}
    os.environ |= {FOLDER_VARIABLE: str(counts)}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    config = uvicorn.Config(
        APP,
        factory=True,
        workers=options.workers,
        log_config=LOGGING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=PatientProtocol,
        timeout_keep_alive=options.head_seconds,
        timeout_graceful_shutdown=options.drain_seconds,
        timeout_worker_healthcheck=HANGS_SECONDS,
    )
    finish_releases(settings, specs)
    Multiprocess(config, sockets=[listening]).run()


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((options.host, options.port))
    except OSError as taken:
        found.close()
        raise DeclarationError(
            f"{options.host}:{options.port} cannot be listened on: {taken.strerror}",
            expected="a free port of this machine",
            do="stop who has it, or choose another with --port",
        ) from taken
    found.listen(2048)
    found.set_inheritable(True)
    return found
