"""Memory that is freed stays with the process, and its next batch touches no new pages."""

import subprocess
import sys

import pytest

_CODE = """
import resource, sys
import numpy as np
from ensemble.inference.kept_memory import keep_freed_memory
is_kept = sys.argv[1] == "kept" and keep_freed_memory()
def touch():
    return float(np.ones(8 << 20).sum())  # 64 MB
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(is_kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(how: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", _CODE, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    is_kept, faults = done.stdout.split()
    return is_kept == "True", int(faults)


def test_a_batch_after_another_touches_no_new_pages() -> None:
    is_kept, faults = _page_faults("kept")
    if not is_kept:
        pytest.skip("the C library is not glibc")
    assert faults < 500
    assert _page_faults("given back")[1] > 50 * faults
