"""The days of the business: which one a moment is in, and the first day that overdue stock is promised for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from allocation.domain.lines import Today

ALLOWANCE: Final = 1  # days after today that an overdue delivery is promised for


class Calendar(NamedTuple):
    """A day begins at midnight in the ``zone``. Overdue stock is promised for ``overdue_days`` after today."""

    zone: tzinfo = UTC
    overdue_days: int = ALLOWANCE

    def at(self, moment: datetime) -> Today:
        """The day that the moment is in."""
        try:
            day = moment.astimezone(self.zone).date()
        except OverflowError:  # the first or the last day there is
            day = moment.date()
        return Today(day, day + timedelta(days=min(self.overdue_days, (date.max - day).days)))

    def midnight(self, moment: datetime) -> datetime:
        """The moment that the day of the moment began, in UTC: it has 23 or 25 hours when the clocks change."""
        day = self.at(moment).day
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)


UTC_DAYS: Final = Calendar()
