"""What all proofs share: how long Hypothesis may look, and what begins first. See README.md beside this file for what belongs
where.
"""

import os
import signal

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; programs under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True, print_blob=True, stateful_step_count=30)
settings.register_profile("prove", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("MESHLEDGER_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))

LONGEST = (
    "test_readme.py",
    "e2e/test_live_mesh.py",
    "e2e/test_ssh_nodes.py",
    "properties/test_damage.py",
    "unit/test_rtt_matrix.py",
)
"""These take longest. What begins last nobody helps with: of two processes one would wait for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first; all else stays in its order."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        return next((place for name, place in places.items() if item.path.as_posix().endswith(f"/tests/{name}")), len(LONGEST))

    items.sort(key=rank)
