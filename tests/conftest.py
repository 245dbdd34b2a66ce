"""What all proofs share: how long Hypothesis may look. See README.md beside this file for what belongs where."""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True, print_blob=True, stateful_step_count=30)
settings.register_profile("prove", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("MESHLEDGER_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))
