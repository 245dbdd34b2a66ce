"""What it means: views folded from entries, without effects."""

from projections.belief import Belief, believed
from projections.cluster import Cluster
from projections.coverage import Pause, covered_at, covered_spans
from projections.feed_state import FeedState
from projections.health import articulation, asymmetric, gaps, islands, shared_hostnames, strangers, twins
from projections.links import LinkState, link_at
from projections.membership import Member, Membership, members
from projections.particulars import Settings
from projections.pings import PingState
from projections.projection import Projection, fold
from projections.route_table import RouteTable
from projections.views import Coverage, LastPing, LinkView, MachineView, View

__all__ = [
    "Belief",
    "Cluster",
    "Coverage",
    "FeedState",
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
    "View",
    "articulation",
    "asymmetric",
    "believed",
    "covered_at",
    "covered_spans",
    "fold",
    "gaps",
    "islands",
    "link_at",
    "members",
    "shared_hostnames",
    "strangers",
    "twins",
]
