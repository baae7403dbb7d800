"""The page of a replay: one HTML file with the answer on top, pictures, tables and its limits.

Words and markup only; facts come in, pictures are drawn in `pictures`.
"""

from functools import cache
from typing import TYPE_CHECKING

from mlops_assets.core import templates
from mlops_assets.core.estimate import Estimate
from mlops_assets.replay import pictures
from mlops_assets.replay.facts import ARMS, TITLES, Arm, Replay

if TYPE_CHECKING:
    import jinja2

METRICS = {
    "ece": "ECE",
    "brier": "Brier score",
    "log_loss": "log loss",
    "auc": "AUC",
    "coverage": "coverage",
}
PICTURES = {
    "lanes": (pictures.lanes, "Champions, canaries and retrains by day."),
    "calibration": (pictures.calibration, "Calibration error by week of the three ways."),
    "brier": (pictures.brier, "Brier score by week against the first model."),
    "hindsight": (pictures.hindsight, "Each candidate against the champion on the days after."),
    "watched": (pictures.watched, "Calibration error of the champion as it was seen day by day."),
    "drift": (pictures.drift, "Share of the inputs that have drifted, by day."),
}


def page(found: Replay) -> str:
    """The page, as HTML."""
    return _template().render(
        replay=found,
        arms=ARMS,
        titles=TITLES,
        metrics=METRICS,
        answer=answer(found),
        limits=limits(found),
        pictures={
            name: pictures.inline(found, draw, name=name, alt=alt)
            for name, (draw, alt) in PICTURES.items()
        },
    )


def answer(found: Replay) -> list[str]:
    """What the replay says, in sentences; the first is the headline."""
    outcomes = found.outcomes()
    passed, all_ = outcomes.get("passed", 0), len(found.retrains)
    told = [f"{passed} of {all_} retrains passed every gate"]
    hindsight = found.in_hindsight()
    if sum(hindsight.values()):
        told.append(
            f"Of the {sum(hindsight.values())} candidates that were kept out, "
            f"{hindsight.get('worse', 0)} were surely worse than the champion on the days that "
            f"followed, {hindsight.get('better', 0)} surely better, and of "
            f"{hindsight.get('alike', 0)} it cannot be told (Brier score, 95% intervals that take "
            "rows for independent)."
        )
    others: tuple[Arm, ...] = ("frozen", "newest")
    for other in others:
        if sentence := _compared(found, other):
            told.append(sentence)
    if not found.retrains:
        told = ["No model was trained in these days"]
    return told


def _compared(found: Replay, other: Arm) -> str:
    """The platform against another way, in all and by week."""
    own, theirs = found.totals["platform"].metrics, found.totals[other].metrics
    if "ece" not in own:
        return ""
    better, weeks = found.better_weeks(other, "ece")
    brier = next((d for d in found.against.get(other, ()) if d.metric == "brier"), None)
    text = (
        f"Against {TITLES[other]}: ECE {own['ece'].value:.4f} and {theirs['ece'].value:.4f} over "
        f"all rows; lower in {better} of {weeks} weeks"
    )
    if brier is None:
        return f"{text}."
    if brier.low > 0:
        verdict = "surely better"
    else:
        verdict = "surely worse" if brier.high < 0 else "no sure difference"
    # A loss is written so that more is better: turned around, it reads as the picture does.
    return f"{text}; Brier score {-brier.difference + 0.0:+.4f} ({verdict})."


def limits(found: Replay) -> list[str]:
    """What a reader has to know before they believe it."""
    policy = found.policy
    every = policy["retrain_every_days"]
    told = [
        "Trained "
        + (f"every {every} days" if every else "on events only")
        + f", with {policy['cool_down_days']} days between two at least; the lengths of the "
        "windows are a choice too, and other choices give other verdicts.",
        "One year of one place is one draw: that the year drifts is real, that the next one drifts "
        "in the same way is not said.",
        "Rows of one day share their weather, so intervals that take rows for independent are too "
        "narrow. The three ways are asked about the same rows, which takes most of it out of the "
        "differences.",
        "The weekly ECE is a plug-in number and has a floor: a model that is exactly right shows "
        "about 0.01 to 0.02 on a week of some thousand rows.",
    ]
    if policy["first"] == "adopt":
        told.append(
            "Version 1 was in service before the platform came, and was adopted whatever the gates "
            "say of it: no gate has let it in. All three ways start from it."
        )
    told.append(
        "All estimators competed in every retrain."
        if policy["compete_every"] == 1
        else f"All estimators competed in every {policy['compete_every']}th retrain; in those "
        "between, the last winner was trained alone, to keep to the time."
    )
    if policy["gates"]:
        changed = ", ".join(f"{name} {value}" for name, value in policy["gates"].items())
        told.append(f"Other gates than the model declares: {changed}.")
    if policy["canary"] is None:
        told.append("Versions that passed were released at once, without a canary.")
    else:
        steps = ", ".join(f"{step:g}%" for step in found.rollout["steps"])
        told.append(
            f"A canary goes by {steps} of the traffic, looked at once a day: with this many rows a "
            "smaller first step would decide nothing for weeks. While it runs no other version is "
            "rolled out. A replay has no latencies and no refused requests to judge it by."
        )
    told.append(
        "What is inconclusive waits for a person who never comes."
        if policy["inconclusive"] == "hold"
        else "What is inconclusive was released as if a person had approved it."
    )
    told.append(
        "Always the newest trains on the days on which the platform trains, and on no others; the "
        "platform's own alarms are among the reasons for these days."
    )
    return told


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value + 0.0:.{digits}f}"


def _whole(value: int) -> str:
    return f"{value:,}"


def _span(found: Estimate | None) -> str:
    return "" if found is None else f"{found.low:.4f} to {found.high:.4f}"


@cache
def _template() -> "jinja2.Template":
    environment = templates.environment()
    environment.filters |= {"number": _number, "whole": _whole, "span": _span}
    return environment.from_string(_PAGE)


# Not a file of its own: the package ships no HTML but that of `core`.
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ replay.model }}: replay of {{ replay.start }} to {{ replay.last }}</title>
<style>
:root { --page: #f4f5f7; --sheet: #fff; --ink: #1a1f26; --muted: #5b6675; --line: #e3e7ec;
  --accent: #1f5fa8; --passed: #19703a; --failed: #b3271e; --inconclusive: #b97a0a; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1, h2, p, ul, figure { margin: 0; }
h1 { font-size: 1.6rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin-bottom: .6rem; }
section, header { background: var(--sheet); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.4rem 1.5rem; margin-top: 1rem; }
header { border-left: .5rem solid var(--accent); margin-top: 0; }
.lead, .small { color: var(--muted); }
.small { font-size: .8125rem; display: block; }
.headline { font-size: 1.3rem; font-weight: 650; margin-top: .9rem; }
header ul, .limits { padding-left: 1.1rem; max-width: 64rem; }
header li, .limits li { margin-top: .35rem; }
figure svg { display: block; width: 100%; height: auto; }
figure + figure { margin-top: 1.4rem; }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; }
thead th { color: var(--muted); font-size: .8125rem; font-weight: 500;
  border-bottom: 1px solid var(--muted); }
tbody tr { border-top: 1px solid var(--line); }
tbody tr:first-child { border-top: 0; }
.number { text-align: right; white-space: nowrap; }
.passed, .failed, .inconclusive { font-weight: 600; }
.passed, .released { color: var(--passed); } .failed { color: var(--failed); }
.inconclusive { color: var(--inconclusive); }
.why { max-width: 34rem; font-size: .8125rem; color: var(--muted); }
details summary { cursor: pointer; color: var(--accent); }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media print { section, header { break-inside: avoid; border: 0; } }
</style>
</head>
<body><main>
<header>
<h1>{{ replay.model }}: {{ replay.start }} to {{ replay.last }}, replayed day by day</h1>
<p class="lead">{{ replay.description }}</p>
<p class="headline">{{ answer[0] }}.</p>
<ul>
{% for sentence in answer[1:] %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
</header>

<section>
<h2>What happened</h2>
{% for name in ("lanes", "calibration", "brier", "hindsight") %}
<figure>{{ pictures[name] | safe }}</figure>
{% endfor %}
</section>

<section>
<h2>In all, on the same rows</h2>
<table>
<thead><tr><th></th><th class="number">rows</th>
{% for metric in metrics.values() %}<th class="number">{{ metric }}</th>{% endfor %}</tr></thead>
<tbody>
{% for arm in arms %}
{% set total = replay.totals[arm] %}
<tr><th>{{ titles[arm] }}</th><td class="number">{{ total.n | whole }}</td>
{% for metric in metrics %}
{% set one = total.metrics.get(metric) %}
<td class="number">{{ one.value | number if one else "no data" }}
<span class="small">{{ one | span }}</span></td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</section>

<section>
<h2>What the gates said, and what came</h2>
<p class="lead">Each candidate on the rows until the next retrain, against the champion of that day.
Surely: the 95% interval of the difference of the Brier scores does not hold 0.</p>
<table>
<thead><tr><th>the gates said</th><th class="number">surely better</th>
<th class="number">cannot be told</th><th class="number">surely worse</th></tr></thead>
<tbody>
{% for outcome, counts in replay.audit().items() %}
<tr><td class="{{ outcome }}">{{ outcome }}</td>
{% for word in ("better", "alike", "worse") %}
<td class="number">{{ counts.get(word, 0) }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</section>

<section>
<h2>The monitoring, day by day</h2>
{% for name in ("watched", "drift") %}
<figure>{{ pictures[name] | safe }}</figure>
{% endfor %}
</section>

<section>
<h2>Retrains</h2>
<table>
<thead><tr><th>day</th><th>version</th><th>why it was trained</th><th>gates</th><th>then</th>
<th class="number">Brier afterwards</th><th>what did not pass</th></tr></thead>
<tbody>
{% for one in replay.retrains %}
<tr><td>{{ one.day }}</td><td>{{ one.version }}</td><td>{{ one.causes | join(" and ") }}</td>
<td class="{{ one.outcome }}">{{ one.outcome }}</td><td>{{ one.then }}</td>
<td class="number">
{%- if one.afterwards -%}
{{ "%+.4f" | format(one.afterwards.brier.value) }}
<span class="small">{{ one.afterwards.surely }}, against {{ one.afterwards.against }}</span>
{%- else -%}-{%- endif -%}
</td>
<td class="why">
{% for gate in one.gates if gate.outcome != "passed" %}
<span class="{{ gate.outcome }}">{{ gate.gate }}</span> {{ gate.estimate | number }}
{%- if gate.low is not none %} ({{ gate.low | number }} to {{ gate.high | number }}){% endif %}
{{ "; " if not loop.last }}
{% endfor %}
</td></tr>
{% endfor %}
</tbody>
</table>
</section>

<section>
<h2>What happened, in words</h2>
<details><summary>{{ replay.events | length }} events</summary>
<table><tbody>
{% for event in replay.events %}
<tr><td style="white-space: nowrap">{{ event.day }}</td><td>{{ event.kind }}</td>
<td>{{ event.version or "" }}</td><td class="why" style="max-width: none">{{ event.text }}</td></tr>
{% endfor %}
</tbody></table>
</details>
<details><summary>Ledger: {{ replay.ledger.entries }} entries, {{ replay.ledger.chain }}</summary>
<table><tbody>
{% for entry in replay.ledger.history %}
<tr><td>{{ entry.seq }}</td><td style="white-space: nowrap">{{ entry.time[:10] }}</td>
<td>{{ entry.action }}</td><td>{{ entry.version or "" }}</td>
<td>champion: {{ entry.champion or "none" }}</td></tr>
{% endfor %}
</tbody></table>
<p class="small">Last hash <code>{{ replay.ledger.head }}</code></p>
</details>
</section>

<section>
<h2>How to read it, and what it does not say</h2>
<ul class="limits">
{% for sentence in limits %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
</section>
</main></body></html>
"""
