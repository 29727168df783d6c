"""The Ray side: sessions, placement, hosts, pools, failures, submission. The only importer of ray."""

import os

# Before ray is imported anywhere: an embedded Ray listens on loopback only, and reports to nobody.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
