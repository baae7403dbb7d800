"""How a lineage is printed: a tree, from the version down to sources, runs and people.

Rendering with rich only; what a lineage holds is collected in `lineage.py`.
"""

from rich.text import Text
from rich.tree import Tree

from mlops_assets.core.ledger_chain import Entry
from mlops_assets.lineage import Lineage, Snapshot

_HASH_DIGITS = 12


def tree(found: Lineage) -> Tree:
    """The lineage as a tree."""
    aliases = ", ".join(found.aliases) or "no alias"
    root = Tree(_line(f"{found.model} version {found.version}", aliases, style="bold"))
    _add_snapshot(root, found.snapshot)
    _add_features(root, found)
    _add_sources(root, found)
    origin = root.add(_line("trained", f"registered {found.created} UTC"))
    origin.add(_line("git commit", found.git_commit or "not noted"))
    origin.add(_line("Dagster run", found.dagster_run or "not noted"))
    origin.add(_line("MLflow run", found.mlflow_run))
    ledger = root.add(_line("ledger", "" if found.entries else "no entries"))
    for entry in found.entries:
        _add_entry(ledger, entry)
    return root


def _add_snapshot(root: Tree, snapshot: Snapshot | None) -> None:
    if snapshot is None:
        root.add(_line("training set", "not noted"))
        return
    branch = root.add(_line("training set", _short(snapshot.digest)))
    branch.add(_line("file", snapshot.path))
    if snapshot.problem:
        branch.add(Text(snapshot.problem, style="red"))
    for split, window in snapshot.windows.items():
        rows = f", {snapshot.rows[split]:,} rows" if split in snapshot.rows else ""
        branch.add(_line(split, f"{window}{rows}"))


def _add_features(root: Tree, found: Lineage) -> None:
    digest = _short(found.service_then) if found.service_then else "not noted"
    branch = root.add(_line("features", f"{found.service} {digest}"))
    if found.service_then and found.service_then != found.service_now:
        told = f"declared otherwise since: {_short(found.service_now)}; these views are of now"
        branch.add(Text(told, style="yellow"))
    for view in found.views:
        sources = ", ".join(view.sources)
        branch.add(_line(view.name, f"definition {_short(view.definition)}, from {sources}"))


def _add_sources(root: Tree, found: Lineage) -> None:
    branch = root.add(_line("sources", "as they are in the lake now"))
    if found.recipe_then and found.recipe_now:
        same = found.recipe_then == found.recipe_now
        told = "the recipe is that of the training"
        changed = "the recipe has changed since the training: the spec, a source, or the code"
        branch.add(Text(told if same else changed, style="green" if same else "yellow"))
    for source in found.sources:
        days = f", {source.days:,} days" if source.days is not None else ""
        mark = _short(source.whole) if source.whole else "not in the lake"
        branch.add(_line(source.name, f"{mark}{days}"))


def _add_entry(ledger: Tree, entry: Entry) -> None:
    # The version stands here because a move of another one can take this one's alias.
    about = f"{entry.action} of version {entry.version}" if entry.version else entry.action
    at = entry.time.isoformat(sep=" ", timespec="seconds")
    branch = ledger.add(_line(f"{entry.seq}. {about}", f"by {entry.actor}, {at}"))
    branch.add(Text(entry.reason))
    if entry.approver:
        branch.add(_line("approved by", entry.approver))


def _line(name: str, value: str, style: str = "") -> Text:
    """A name and its value, as they are: what people wrote is no markup."""
    return Text.assemble((name, style), "  ", (value, "dim"))


def _short(digest: str) -> str:
    return f"{digest[:_HASH_DIGITS]}…"
