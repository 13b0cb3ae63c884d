"""What each figure may be: the budgets of the design, each once."""

from __future__ import annotations

from dataclasses import dataclass

P50, P95, VALUE = "p50", "p95", "value"
"""Of what a budget speaks: the median, the 95th percentile, or a figure that was taken once."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit that a figure must keep; with ``at_least`` it must reach it instead."""

    limit: float
    of: str = VALUE
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps the limit; at the limit it does."""
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: str) -> str:
        """For people: ``≤ 15 ms p50``."""
        sign = "≥" if self.at_least else "≤"
        parts = (f"{sign} {self.limit:g}", unit, "" if self.of == VALUE else self.of)
        return " ".join(part for part in parts if part)


DESCRIBE = Budget(15.0, P50)
"""Milliseconds of the default student on a processor, one image, one thread."""
DESCRIBE_GPU = Budget(1.3, P50)
"""Milliseconds on a desktop GPU: the paper's figure."""
PAPER_STUDENT = Budget(0.75)
"""Time of the paper's ResNet-50 student as a share of eager PyTorch's in the same run, one thread."""
DISTANCE = Budget(1e-3)
"""Largest cosine distance of a descriptor to that of eager PyTorch in float32."""
MATCH = {10_000: Budget(0.6, P50), 100_000: Budget(2.0, P50), 1_000_000: Budget(10.0, P50)}
"""Milliseconds to search so many places with one thread."""
AGREEMENT = {
    10_000: Budget(99.5, at_least=True),
    100_000: Budget(99.0, at_least=True),
    1_000_000: Budget(99.0, at_least=True),
}
"""Per cent of queries whose best place is that of an exact search."""
TOPIC = Budget(40.0, P95)
"""Milliseconds from the image on its topic to the candidate on its topic at 15 Hz."""
DROPS = Budget(0.0)
ADD = Budget(5.0, P95)
"""Milliseconds to add one keyframe to the live map, committed."""
MEMORY = Budget(10.0)
"""Kilobytes (1000 bytes) of memory for each place, index and caches together."""
SAVE, LOAD = Budget(2.0), Budget(3.0)
"""Seconds for a map of :data:`BUDGET_PLACES` places."""
BUDGET_PLACES = 10_000
