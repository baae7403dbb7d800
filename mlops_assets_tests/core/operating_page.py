"""The tables and the picture of `docs/gates.md`.

`python -m mlops_assets_tests.core.operating_page` writes them, after a change of the gates, of
their policy or of the simulation. The words around them are written by hand.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mlops_assets.console import OUTCOMES, whole_percent
from mlops_assets.core.evidence import RULES
from mlops_assets.core.operating import (
    Cell,
    HoldoutSize,
    World,
    cells_at,
    holdout_sizes,
    model_name,
    sizes_plotted,
)
from mlops_assets.core.operating_plot import operating_chart
from mlops_assets.spec import GatePolicy

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "gates.md"
PICTURE = DOCS / "operating_characteristic.png"

POLICY = GatePolicy()
HOLDOUT = 27_233
"""Rows of the showcase's holdout month."""
SIZES = (2_000, 5_000, 10_000, HOLDOUT, 30_000)
BASE_RATES = (0.05, 0.25, 0.5)


def rules() -> str:
    """What each gate of the policy demands."""
    lines = ["| gate | rule by default |", "|---|---|"]
    filled = {name: rule.format(**POLICY.model_dump()) for name, rule in RULES.items()}
    return "\n".join([*lines, *(f"| `{name}` | {rule} |" for name, rule in filled.items())])


def shares(cells: Sequence[Cell], sizes: Sequence[int] = SIZES) -> str:
    """Passes, abstentions and failures in percent, a column per size."""
    lines = [
        f"| gate | model | {' | '.join(f'{n:,} rows' for n in sizes)} |",
        f"|---|---|{'---:|' * len(sizes)}",
    ]
    by_place = {(c.gate, c.off, c.n): c for c in cells}
    for gate, off in dict.fromkeys((c.gate, c.off) for c in cells):
        row = [by_place[gate, off, n] for n in sizes]
        shown = [" / ".join(whole_percent(c, outcome) for outcome in OUTCOMES) for c in row]
        lines.append(f"| `{gate}` | {model_name(gate, off)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def needed(found: Sequence[Sequence[HoldoutSize]]) -> str:
    """Rows until the gates decide, a column per base rate."""
    lines = [
        f"| gate | says | of a model | this often | "
        f"{' | '.join(f'base rate {r:.0%}' for r in BASE_RATES)} |",
        f"|---|---|---|---|{'---:|' * len(BASE_RATES)}",
    ]
    for alike in zip(*found, strict=True):
        one = alike[0]
        shown = [size.reason if size.n is None else f"{size.n:,}" for size in alike]
        told = f"{one.outcome} | {model_name(one.gate, one.off)} | {one.target:.0%}"
        lines.append(f"| `{one.gate}` | {told} | {' | '.join(shown)} |")
    return "\n".join(lines)


def with_block(text: str, name: str, block: str) -> str:
    """The page with a block of its text exchanged."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, count = marks.subn(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", text)
    assert count == 1, f"the page has {count} blocks {name!r}"
    return changed


def blocks() -> dict[str, str]:
    """Every block of the page, simulated anew."""
    worlds = [World(POLICY, rate) for rate in BASE_RATES]
    cells = [cell for n in SIZES for cell in cells_at(World(POLICY), n)]
    found = [holdout_sizes(world, cells if world == World(POLICY) else ()) for world in worlds]
    return {"rules": rules(), "shares": shares(cells), "needed": needed(found)}


def write() -> None:
    """Write the page's blocks and its picture."""
    text = PAGE.read_text()
    for name, block in blocks().items():
        text = with_block(text, name, block)
    PAGE.write_text(text)
    world = World(POLICY)
    plotted = [cell for n in sizes_plotted(world, HOLDOUT) for cell in cells_at(world, n)]
    PICTURE.write_bytes(operating_chart(world, plotted, mark=HOLDOUT))


if __name__ == "__main__":
    write()
