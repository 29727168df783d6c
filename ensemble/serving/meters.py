"""What a server counts about itself, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ensemble_requests",
            "Requests that were answered.",
            ("protocol", "status"),
            registry=self._registry,
        )
        self._images = Counter(
            "ensemble_images", "Images that were answered.", ("label",), registry=self._registry
        )
        self._routed = Counter(
            "ensemble_routed_images",
            "Images that a sub-classifier answered.",
            registry=self._registry,
        )
        self._exits = Counter(
            "ensemble_cascade_exits",
            "Images that stopped after a step of a cascade.",
            ("step",),
            registry=self._registry,
        )
        self._under_way = Gauge(
            "ensemble_requests_under_way", "Requests under way.", registry=self._registry
        )
        self._seconds = Histogram(
            "ensemble_request_seconds",
            "Seconds that a request took.",
            ("protocol",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count_request(self, protocol: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(protocol, str(status)).inc()
        self._seconds.labels(protocol).observe(seconds)

    def count_image(self, label: str, routed: bool, exit_step: int | None = None) -> None:
        """Count an image that was answered, and the step of a cascade that it stopped after."""
        self._images.labels(label).inc()
        if routed:
            self._routed.inc()
        if exit_step is not None:
            self._exits.labels(str(exit_step)).inc()

    def set_under_way(self, count: int) -> None:
        """Tell how many requests are under way."""
        self._under_way.set(count)

    def text(self) -> bytes:
        """Give all counters as Prometheus reads them."""
        return bytes(generate_latest(self._registry))
