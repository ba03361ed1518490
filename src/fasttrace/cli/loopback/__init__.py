"""Both ends of a call on the loopback interface, for the demo, the examples and the tests."""

from .collector import Collector, Received
from .provider import KEY, Provider

__all__ = ["KEY", "Collector", "Provider", "Received"]
