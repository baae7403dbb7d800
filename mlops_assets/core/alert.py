"""What an alert says: what is wrong, since when, how bad, where, and what to do next.

Only the words belong here; when there is something to tell is decided in `incident`, and alerts are
sent by `stores/alerts`.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.incident import Kind, Message, Severity
from mlops_assets.errors import DataError


@dataclass(frozen=True, slots=True)
class Alert:
    """A message about an incident, with all that its reader needs.

    Args:
        incident: key of the incident; its messages belong together by it.
        kind: `opened`, `worsened` or `resolved`.
        severity: of the incident.
        what: what is wrong, such as `shop/drift/amount`.
        since: start of the first bad window.
        reason: the verdict in words.
        estimate: how bad, with its interval.
        where: the slice, version or arm; empty for all rows.
        plot: address of a picture; empty for none.
        command: what to run next; empty for nothing.
    """

    incident: str
    kind: Kind
    severity: Severity
    what: str
    since: datetime
    reason: str = ""
    estimate: Estimate | None = None
    where: str = ""
    plot: str = ""
    command: str = ""

    @classmethod
    def of(cls, message: Message, *, where: str = "", plot: str = "", command: str = "") -> "Alert":
        """The alert of a message."""
        incident = message.incident
        return cls(
            incident=incident.key,
            kind=message.kind,
            severity=incident.severity,
            what=str(incident.subject),
            since=incident.since,
            reason=message.reading.reason,
            estimate=message.reading.estimate,
            where=where,
            plot=plot,
            command=command,
        )

    @classmethod
    def of_text(cls, text: str) -> "Alert":
        """Read what `text` wrote.

        Raises:
            DataError: when it is no alert.
        """
        try:
            kept: dict[str, Any] = json.loads(text)
            estimate = kept.pop("estimate")
            since = datetime.fromisoformat(kept.pop("since"))
            return cls(**kept, since=since, estimate=Estimate(**estimate) if estimate else None)
        except (KeyError, TypeError, ValueError) as wrong:
            raise DataError(
                f"a text that is no alert: {type(wrong).__name__}",
                expected="what Alert.text wrote",
                do="look for what else writes to the outbox",
            ) from wrong

    @property
    def text(self) -> str:
        """The alert as JSON."""
        return json.dumps(asdict(self) | {"since": self.since.isoformat()}, sort_keys=True)

    @property
    def title(self) -> str:
        """One line.

        >>> from datetime import UTC
        >>> since = datetime(2026, 1, 1, tzinfo=UTC)
        >>> Alert("k", "opened", "critical", "shop/drift/amount", since).title
        'CRITICAL: shop/drift/amount'
        """
        if self.kind == "resolved":
            return f"RESOLVED: {self.what}"
        return f"{self.severity.upper()}: {self.what}"

    @property
    def body(self) -> str:
        """The rest, a line for each thing to know."""
        lines = [f"Since: {self.since:%Y-%m-%d %H:%M %Z}"]
        if self.estimate is not None:
            e = self.estimate
            lines.append(
                f"How bad: {e.value:.4g} ({e.level:.0%} interval {e.low:.4g} to {e.high:.4g}, "
                f"n = {e.n:,})"
            )
        parts = {
            "Why": self.reason,
            "Where": self.where,
            "Plot": self.plot,
            "Next": self.command,
            "Incident": self.incident,
        }
        return "\n".join([*lines, *(f"{name}: {part}" for name, part in parts.items() if part)])
