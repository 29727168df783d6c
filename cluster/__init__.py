"""The Ray side: sessions, placement, workers, failures, submission. Nothing else imports ray."""

import os

# Set before ray is imported: an embedded Ray listens on loopback only, and sends no usage statistics.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
