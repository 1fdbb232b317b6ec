"""Look-alikes of a SKU: other spellings of it, which somebody may have meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from allocation.domain.fields import cleaned

_CASES = (str, str.upper, str.lower, str.title, str.capitalize, str.swapcase)


def spellings(sku: str) -> Sequence[str]:
    """Other spellings, the likeliest first: in another case, without spaces, and as earlier versions stored names.

    They are few, so that looking them up costs the same however many products there are.
    """
    clean = cleaned(sku)
    written = [cleaned(case(text)) for text in (clean, clean.replace(" ", "")) for case in _CASES]
    stored_before = [f"{clean} ", f" {clean}", unicodedata.normalize("NFD", clean)]
    return [text for text in dict.fromkeys([*written, *stored_before]) if text not in {sku, "", " "}]
