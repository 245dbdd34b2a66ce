"""What it means: views folded from entries, without effects; and invariants, which judge entries and views.

What invariants need is loaded when it is first asked for: whoever only asks for a state does not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from projections.belief import Belief, believed
from projections.cluster import Cluster
from projections.conditions import Condition, Exhibit, Judgement
from projections.coverage import Pause, covered_at, covered_spans
from projections.expression import expression
from projections.feed_state import FeedState
from projections.findings import Finding, lint
from projections.health import articulation, asymmetric, gaps, islands, shared_hostnames, strangers, twins
from projections.links import LinkState, link_at
from projections.membership import Member, Membership, members
from projections.particulars import Settings
from projections.pings import PingState
from projections.projection import Projection, fold
from projections.route_table import RouteTable
from projections.views import Coverage, LastPing, LinkView, MachineView, View

if TYPE_CHECKING:
    from projections.deadlines import Responds
    from projections.invariants import shipped
    from projections.monitor import Horizon, Monitor, Rule, Run, State, Verdict, Witness
    from projections.operators import Alternates, Always, AtMost, Monotone, Never, Sometimes
    from projections.pace import Pace
    from projections.past import Historically, Once, Since
    from projections.watch import Watch

_ROOMS = {
    "Alternates": "operators",
    "Always": "operators",
    "AtMost": "operators",
    "Historically": "past",
    "Horizon": "monitor",
    "Monitor": "monitor",
    "Monotone": "operators",
    "Never": "operators",
    "Once": "past",
    "Pace": "pace",
    "Responds": "deadlines",
    "Rule": "monitor",
    "Run": "monitor",
    "Since": "past",
    "Sometimes": "operators",
    "State": "monitor",
    "Verdict": "monitor",
    "Watch": "watch",
    "Witness": "monitor",
    "shipped": "invariants",
}

__all__ = [
    "Alternates",
    "Always",
    "AtMost",
    "Belief",
    "Cluster",
    "Condition",
    "Coverage",
    "Exhibit",
    "FeedState",
    "Finding",
    "Historically",
    "Horizon",
    "Judgement",
    "LastPing",
    "LinkState",
    "LinkView",
    "MachineView",
    "Member",
    "Membership",
    "Monitor",
    "Monotone",
    "Never",
    "Once",
    "Pace",
    "Pause",
    "PingState",
    "Projection",
    "Responds",
    "RouteTable",
    "Rule",
    "Run",
    "Settings",
    "Since",
    "Sometimes",
    "State",
    "Verdict",
    "View",
    "Watch",
    "Witness",
    "articulation",
    "asymmetric",
    "believed",
    "covered_at",
    "covered_spans",
    "expression",
    "fold",
    "gaps",
    "islands",
    "link_at",
    "lint",
    "members",
    "shared_hostnames",
    "shipped",
    "strangers",
    "twins",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'projections' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"projections.{_ROOMS[name]}"), name)
