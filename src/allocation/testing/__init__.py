"""What every implementation of a port has to pass, for whoever writes another one.

Subclass the suite in a test file and say how to make what is tested. The tests are plain methods with plain asserts, so
that this package needs no test runner.
"""

from allocation.testing.effects import EffectTargetCompliance
from allocation.testing.store import StoreCompliance

__all__ = ["EffectTargetCompliance", "StoreCompliance"]
