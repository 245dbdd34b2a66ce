"""What it means: views folded from entries, without effects."""

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
from projections.views import Coverage, LastPing, LinkView, MachineView

__all__ = [
    "Cluster",
    "Condition",
    "Coverage",
    "Exhibit",
    "FeedState",
    "Finding",
    "Judgement",
    "LastPing",
    "LinkState",
    "LinkView",
    "MachineView",
    "Member",
    "Membership",
    "Pause",
    "PingState",
    "Projection",
    "RouteTable",
    "Settings",
    "articulation",
    "asymmetric",
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
    "strangers",
    "twins",
]
