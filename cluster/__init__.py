"""The Ray side: sessions, placement, hosts, pools, failures, submission. The only importer of ray."""

import os

# Before ray is imported anywhere. An embedded Ray listens on loopback only; a driver that joins a
# cluster must stay reachable for the cluster's other machines.
if "RAY_ADDRESS" not in os.environ:
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
