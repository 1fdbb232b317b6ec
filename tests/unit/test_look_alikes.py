"""Look-alikes of an unknown SKU: other spellings, looked up when the SKU is refused."""

from __future__ import annotations

import asyncio

import pytest

from allocation.adapters.memory import MemoryStore
from allocation.domain.errors import InvalidSku, Refusal, UnknownSku
from allocation.domain.events import AllocationRequired, BatchCreated, Event, RulesChanged
from allocation.domain.look_alikes import spellings
from allocation.service_layer.messages import checked_message
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.writing.writer import Writer
from tests.builders import contents

COMPOSED, DECOMPOSED = "CAF\u00c9", "CAFE\u0301"


def test_other_spellings_are_few_and_never_the_same() -> None:
    assert spellings("bed")[:2] == ["BED", "Bed"]
    assert spellings("BED 1")[:4] == ["bed 1", "Bed 1", "BED1", "bed1"]
    assert spellings(DECOMPOSED)[0] == COMPOSED
    assert spellings("BED ")[0] == "BED"
    assert "BED " in spellings("BED")
    for sku in ("bed", "BED 1", "\u00df", " ", "7", COMPOSED, "x" * 255):
        assert sku not in spellings(sku)
        assert len(spellings(sku)) <= 15
        assert "" not in spellings(sku)


def refusals(*events: Event) -> list[Refusal]:
    """What the last event is refused with: by a writer, in a group of its own and behind others, and by a preview."""
    *before, last = [checked_message(event, "test") for event in events]

    async def play() -> list[Refusal]:
        store, found = MemoryStore(), []
        writer = Writer(store)
        writer.start()
        for message in before:
            await writer.handle(message)
        for ask in (
            writer.handle(last),
            asyncio.gather(writer.handle(checked_message(events[0], "test")), writer.handle(last)),
        ):
            with pytest.raises(Refusal) as refused:
                await ask
            found.append(refused.value)
        previews = Previews(lambda: store)
        [outcome] = (await previews.preview([last])).outcomes
        assert isinstance(outcome, Refusal)
        previews.close()
        kept = await contents(store.tables)
        assert len({row[0] for row in kept.ledger}) == len(before) + 1
        await writer.close()
        return [*found, outcome]

    return asyncio.run(play())


@pytest.mark.parametrize(
    ("known", "asked", "told"),
    [
        (["BED"], "bed", "BED"),
        (["Bed"], "bed", "Bed"),
        (["bed"], "BED", "bed"),
        (["bED"], "Bed", "bED"),
        (["CAF\u00c9"], "caf\u00e9", "CAF\u00c9"),
        (["RELIABLE-FORK"], "Reliable-Fork", "RELIABLE-FORK"),
        (["BED1"], "BED 1", "BED1"),
        (["bed", "BED"], "Bed", "BED or bed"),
        (["BED "], "BED", "'BED '"),
        ([DECOMPOSED], COMPOSED, "'CAFE\\u0301'"),
    ],
)
def test_the_refusal_of_an_unknown_sku_names_its_look_alikes(known: list[str], asked: str, told: str) -> None:
    stocked = [BatchCreated(f"b{number}", sku, 9) for number, sku in enumerate(known)]
    for refusal in refusals(*stocked, AllocationRequired("o1", asked, 1)):
        assert isinstance(refusal, InvalidSku)
        assert str(refusal) == f"Invalid sku {asked} (did you mean {told}?)"
        assert refusal.cure == "Correct the SKU, or add a batch of it first."
    for refusal in refusals(*stocked, RulesChanged(asked, safety_stock=1)):
        assert isinstance(refusal, UnknownSku)
        assert str(refusal) == f"Unknown sku {asked} (did you mean {told}?)"


def test_the_refusal_of_a_sku_like_no_other_names_none() -> None:
    for refusal in refusals(BatchCreated("b1", "BED", 9), AllocationRequired("o1", "SOFA", 1)):
        assert (str(refusal), refusal.cure) == ("Invalid sku SOFA", "Add a batch of it first.")
