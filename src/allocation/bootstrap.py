"""Puts the service together: the only module that knows every other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from sqlalchemy.engine import URL

from allocation import views
from allocation.adapters.clock import SqlClock
from allocation.adapters.closed_lines import SqlClosedLines
from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.dead_letters import SqlDeadLetters
from allocation.adapters.digests import SqlDigests
from allocation.adapters.email import notifications
from allocation.adapters.least_harm import installed_solver
from allocation.adapters.migrate import migrate
from allocation.adapters.outbox import Outbox
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.adapters.turns import PostgresTurns
from allocation.adapters.webhook_sender import HttpSender
from allocation.adapters.webhooks import SqlWebhooks
from allocation.config import Settings
from allocation.domain.days import Calendar
from allocation.domain.lines import Today
from allocation.domain.rules import Rules, usual_rules
from allocation.service_layer import flow
from allocation.service_layer.delivering.dead_letters import DeadLetters
from allocation.service_layer.delivering.digest import DigestClock, digest_effect, next_due
from allocation.service_layer.delivering.effects import among, bind, first_of
from allocation.service_layer.delivering.relay import Policy, Relay
from allocation.service_layer.delivering.stock_mail import Place
from allocation.service_layer.delivering.stock_team import StockTeam
from allocation.service_layer.delivering.subscriptions import Subscriptions
from allocation.service_layer.delivering.webhooks import PostWebhook
from allocation.service_layer.handlers import EFFECTS
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.proving.retention import Retention
from allocation.service_layer.writing.expiry import Expiry
from allocation.service_layer.writing.new_day import NewDay
from allocation.service_layer.writing.store import Store
from allocation.service_layer.writing.writer import MAX_GROUP, PILE_SHARE, Writer
from allocation.views.new_day import brought

DAY_S = 86_400
SQLITE_PILE_SHARE = 1.0  # it writes in our own process, where larger groups save more than handling beside it


@dataclass(frozen=True, slots=True)
class Service:
    """Everything an entrypoint needs, started and to be closed: ``async with bootstrap(settings) as service``."""

    settings: Settings
    url: URL
    usual_rules: Rules
    calendar: Calendar
    writer: Writer
    previews: Previews
    reader: Reader
    effects: Relay
    expiry: Expiry
    new_day: NewDay
    retention: Retention
    store: Store
    turns: PostgresTurns | None
    webhooks: SqlWebhooks
    subscriptions: Subscriptions
    sender: HttpSender
    post_webhook: PostWebhook
    stock_team: StockTeam
    digest: DigestClock
    dead_letters: DeadLetters

    def today(self) -> Today:
        """The business's day now."""
        return self.calendar.at(datetime.now(UTC))

    async def __aenter__(self) -> Self:
        await self.subscriptions.start()
        self.post_webhook.start()
        self.stock_team.start()
        self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.retention.close()
        await self.new_day.close()
        await self.expiry.close()
        await self.writer.close()
        if self.turns is not None:
            await self.turns.close()
        self.previews.close()
        await self.effects.close()
        await self.digest.close()
        await self.subscriptions.close()
        await self.webhooks.close()
        self.sender.close()
        await self.dead_letters.close()
        await self.reader.close()
        await self.store.close()


def bootstrap(settings: Settings, *, max_group: int = MAX_GROUP) -> Service:
    """Check the flow of events, bring the database up to date, and wire the parts. Nothing runs yet.

    ``max_group``: how many messages the writer commits together at most.
    """
    flow.check()
    url = parse_url(settings.database_url)
    migrate(url)
    store = _store(url)
    webhooks = SqlWebhooks(url)
    subscriptions = Subscriptions(webhooks)
    sender = HttpSender(allow_private=settings.webhooks_allow_private)
    post_webhook = PostWebhook(webhooks, sender)
    turns = None if is_sqlite(url) else PostgresTurns(url)
    usual = usual_rules(settings.strategy)
    calendar = Calendar(settings.zone, settings.overdue_days)
    solve = installed_solver()
    writer = Writer(
        store,
        max_queued=settings.max_queued,
        max_group=max_group,
        pile_share=SQLITE_PILE_SHARE if is_sqlite(url) else PILE_SHARE,
        turns=turns,
        effects_of=subscriptions.effects_of,
        usual_rules=usual,
        solve=solve,
        calendar=calendar,
    )
    reader = Reader(url)
    digests = SqlDigests(url)
    stock_team = _stock_team(settings, reader, digests)
    mails = notifications(settings)
    declared = among(bind(EFFECTS, notifications=mails, stock_team=stock_team))
    find_effect = first_of(post_webhook.find, declared, digest_effect(stock_team, mails))
    effects = Relay(Outbox(url), find_effect, _policy(settings))
    writer.on_commit(effects.wake)
    return Service(
        settings=settings,
        url=url,
        usual_rules=usual,
        calendar=calendar,
        writer=writer,
        previews=Previews(
            lambda: _store(url),
            max_previews=settings.max_previews,
            usual_rules=usual,
            solve=solve,
            calendar=calendar,
        ),
        reader=reader,
        expiry=Expiry(writer, lambda moment, most: reader.run(views.expired_holds, moment, most)),
        new_day=NewDay(writer, lambda *asked: reader.run_by_index(brought, *asked), SqlClock(url), calendar),
        effects=effects,
        retention=Retention(SqlClosedLines(url), settings.keep_closed),
        store=store,
        turns=turns,
        webhooks=webhooks,
        subscriptions=subscriptions,
        sender=sender,
        post_webhook=post_webhook,
        stock_team=stock_team,
        digest=DigestClock(digests, effects.wake),
        dead_letters=SqlDeadLetters(url),
    )


def _store(url: URL) -> SqliteStore | PostgresStore:
    return SqliteStore(url) if is_sqlite(url) else PostgresStore(url)


def _stock_team(settings: Settings, reader: Reader, digests: SqlDigests) -> StockTeam:
    hour, zone = settings.mail_digest_hour, settings.zone

    async def note(sku: str, cascade: str) -> None:
        if hour is not None:
            await digests.note(next_due(datetime.now(UTC), hour, zone), sku, cascade)

    return StockTeam(
        settings.stock_team,
        Place(settings.base_url, zone),
        read=lambda sku, cascade: reader.run_by_index(views.shortage, sku, cascade),
        read_noted=lambda noted: reader.run_by_index(views.shortages, noted),
        note=None if hour is None else note,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
        lease_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        dead_letters_hold=settings.dead_letters_hold,
        keep_done_s=settings.keep_done_days * DAY_S,
        keep_dead_s=settings.keep_dead_days * DAY_S,
    )
