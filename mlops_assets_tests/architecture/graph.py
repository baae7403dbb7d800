"""The asset graph as text. `python -m mlops_assets_tests.architecture.graph` writes `graph.txt`."""

from pathlib import Path

import dagster as dg

from mlops_assets.definitions import defs

FILE = Path(__file__).with_name("graph.txt")


def as_text(definitions: dg.Definitions) -> str:
    """One block per asset: key, group, partitions, parents, checks."""
    graph = definitions.resolve_asset_graph()
    lines = []
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        partitions = f" by {type(node.partitions_def).__name__}" if node.partitions_def else ""
        lines.append(f"{key.to_user_string()} [{node.group_name}]{partitions}")
        lines += [f"  < {parent.to_user_string()}" for parent in sorted(node.parent_keys)]
        checks = sorted(check.name for check in node.check_keys)
        lines += [
            f"  ? {name}{' (blocking)' if graph.get(dg.AssetCheckKey(key, name)).blocking else ''}"
            for name in checks
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text(defs))
