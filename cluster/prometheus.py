"""Metrics of a run for Prometheus, by run and member; Ray exports them as ray_ensemble_*."""

from collections import Counter
from collections.abc import Mapping

from ray.util import metrics

_TAGS = ("run", "member")


class RunMetrics:
    """Counters and gauges of one run. A Ray session must be open while they are made and used.

    Args:
        run: Name of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._counts: dict[str, Counter[str]] = {"images": Counter(), "retries": Counter()}
        self._counters = {
            "images": metrics.Counter(
                "ensemble_images_total", "Forward passes, a view of an image being one.", _TAGS
            ),
            "retries": metrics.Counter(
                "ensemble_retries_total", "Calls made again after a failure.", _TAGS
            ),
        }
        self._rate = metrics.Gauge(
            "ensemble_images_per_s", "Forward passes a second while the member computed.", _TAGS
        )

    def update(
        self,
        images: Mapping[str, int],
        images_per_s: Mapping[str, float],
        retries: Mapping[str, int],
    ) -> None:
        """Publish the counts of a run so far.

        Args:
            images: Forward passes so far, by member.
            images_per_s: Forward passes a second, by member.
            retries: Calls made again so far, by member.
        """
        self._raise("images", images)
        self._raise("retries", retries)
        for member, rate in images_per_s.items():
            self._rate.set(rate, self._tags(member))

    def _raise(self, name: str, totals: Mapping[str, int]) -> None:
        for member, total in totals.items():
            if (more := total - self._counts[name][member]) > 0:
                self._counters[name].inc(more, self._tags(member))
                self._counts[name][member] = total

    def _tags(self, member: str) -> dict[str, str]:
        return {"run": self._run, "member": member}
