"""Contract tests for your own implementations of the ports.

Subclass the suite in a test file and implement how to make the tested object. The tests are plain methods with plain
asserts, so this package needs no test runner.
"""

from allocation.testing.effects import EffectTargetCompliance
from allocation.testing.store import StoreCompliance

__all__ = ["EffectTargetCompliance", "StoreCompliance"]
