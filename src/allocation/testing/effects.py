"""The contract of every target of an effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from allocation.service_layer.delivering.effects import Unreachable


class EffectTargetCompliance:
    """The contract of a target, as tests. A subclass implements how to send, and how to see the result."""

    def send(self, text: str) -> None:
        """Let the adapter have its effect once. ``text`` is something that `seen` tells it by."""
        raise NotImplementedError

    def seen(self) -> Sequence[str]:
        """The texts that arrived, in order."""
        raise NotImplementedError

    def decline(self) -> None:
        """Let the target answer no to everything, while it is up."""
        raise NotImplementedError

    def take_down(self) -> None:
        """Let the target be away."""
        raise NotImplementedError

    def bring_back(self) -> None:
        """Let the target be there again, and take everything."""
        raise NotImplementedError

    def test_when_it_returns_it_is_done_once_and_in_order(self) -> None:
        for number in range(3):
            self.send(f"text {number}")
            assert list(self.seen()) == [f"text {each}" for each in range(number + 1)]

    def test_a_target_that_is_down_is_unreachable_and_comes_back(self) -> None:
        self.take_down()
        assert isinstance(raised_by(lambda: self.send("down")), Unreachable)
        self.bring_back()
        self.send("back")
        assert list(self.seen()) == ["back"]

    def test_what_is_declined_raises_and_is_no_trouble_of_the_target(self) -> None:
        self.decline()
        error = raised_by(lambda: self.send("declined"))
        assert error is not None, "declined without an error"
        assert not isinstance(error, Unreachable), "a target that answers is reachable"
        self.bring_back()
        self.send("taken")
        assert list(self.seen()) == ["taken"]


def raised_by(work: Callable[[], object]) -> Exception | None:
    """The error that the work raised; None if it succeeded."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - the error is the result
        return error
    return None
