"""Other spellings of any text."""

from __future__ import annotations

from hypothesis import given

from allocation.domain.fields import cleaned
from allocation.domain.look_alikes import spellings
from tests.property.test_texts import TEXTS

MANY_SPELLINGS = 15


@given(TEXTS)
def test_other_spellings_are_few_and_others(text: str) -> None:
    others = spellings(text)
    assert len(others) == len(set(others)) <= MANY_SPELLINGS
    assert text not in others
    if cleaned(text) not in {text, ""}:
        assert others[0] == cleaned(text)
