"""Webhooks in the database, what of them is known in memory, and the effect that posts: on both kinds of database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from allocation.adapters.database import parse_url
from allocation.adapters.migrate import migrate
from allocation.adapters.webhook_sender import HttpSender
from allocation.adapters.webhooks import SqlWebhooks
from allocation.domain.errors import TooManyWebhooks, UnknownWebhook, WebhookConflict
from allocation.service_layer.delivering import subscriptions as subscriptions_module
from allocation.service_layer.delivering.effects import Unreachable
from allocation.service_layer.delivering.subscriptions import Subscriptions
from allocation.service_layer.delivering.webhooks import (
    EVENT_TYPES,
    MAX_WEBHOOKS,
    Declined,
    PostWebhook,
    Webhook,
    WebhookMessage,
    disabled,
    effect_name,
    new_webhook,
    rotated,
)
from allocation.service_layer.writing.store import StoreUnavailable
from tests.receiver import Receiver, answer
from tests.servers import PostgresServer
from tests.waiting import PATIENCE_S, until

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
MESSAGE = WebhookMessage("m1~2", "Allocated", NOW, '{"orderid":"o1","sku":"SOFA","qty":2,"batchref":"b1"}')
REFRESH_S = 0.02
HELD_S = 0.5


def webhook(*event_types: str, url: str = "https://shop.example/hooks", age: int = 0) -> Webhook:
    return new_webhook(url, event_types, "of the shop", allow_private=True, now=NOW - age * HOUR)


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[SqlWebhooks]:
    webhooks = SqlWebhooks(parse_url(database_url))
    try:
        yield webhooks
    finally:
        await webhooks.close()


def on(database_url: str, work: Callable[[SqlWebhooks], Awaitable[object]]) -> None:
    async def run() -> None:
        async with opened(database_url) as webhooks:
            await work(webhooks)

    asyncio.run(run())


def test_what_is_kept_is_what_was_added(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        third = rotated(disabled(webhook("OutOfStock"), "answered 410 – gone", NOW), HOUR, NOW)
        second, first = webhook("Allocated", "Backordered", age=1), webhook(age=2)
        for each in (second, third, first):
            await webhooks.add(each)
        assert await webhooks.all() == [first, second, third]
        assert await webhooks.find(third.id) == third
        assert await webhooks.find("wh_nope") is None

    on(database_url, work)


def test_a_webhook_is_changed_and_removed(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        added, other = webhook(), webhook("Allocated")
        await webhooks.add(added)
        await webhooks.add(other)
        changed = await webhooks.change(added.id, partial(rotated, overlap=HOUR, now=NOW))
        assert changed.secrets[1].text == added.secrets[0].text
        assert await webhooks.find(added.id) == changed
        await webhooks.remove(added.id)
        assert await webhooks.all() == [other]

    on(database_url, work)


def test_the_same_is_not_added_twice_whoever_asks_at_once(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        same = [webhook("Allocated") for _ in range(4)]
        results = await asyncio.gather(*map(webhooks.add, same), return_exceptions=True)
        (kept,) = await webhooks.all()
        refusals = [each for each in results if isinstance(each, WebhookConflict)]
        assert len(refusals) == len(same) - 1
        assert all(kept.id in refusal.message for refusal in refusals)
        await webhooks.add(webhook())  # other types are something else
        await webhooks.add(webhook("Allocated", url="https://shop.example/others"))

    on(database_url, work)


def test_no_more_are_kept_than_there_may_be(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        for number in range(MAX_WEBHOOKS):
            await webhooks.add(webhook(url=f"https://shop.example/{number}"))
        with pytest.raises(TooManyWebhooks, match="100 webhooks"):
            await webhooks.add(webhook())
        assert len(await webhooks.all()) == MAX_WEBHOOKS

    on(database_url, work)


def test_what_is_not_there_can_be_neither_changed_nor_removed(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        with pytest.raises(UnknownWebhook, match="wh_nope"):
            await webhooks.change("wh_nope", lambda found: found)
        with pytest.raises(UnknownWebhook, match="wh_nope"):
            await webhooks.remove("wh_nope")

    on(database_url, work)


def test_changes_at_once_are_made_one_after_the_other(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        added = webhook()
        await webhooks.add(added)
        rotations = [webhooks.change(added.id, partial(rotated, overlap=HOUR, now=NOW)) for _ in range(3)]
        await asyncio.gather(*rotations)
        found = await webhooks.find(added.id)
        assert found is not None
        assert len(found.secrets) == 4

    on(database_url, work)


def test_a_change_waits_for_that_of_another_process(database_url: str) -> None:
    def rotate_elsewhere(id_: str) -> None:
        on(database_url, lambda webhooks: webhooks.change(id_, partial(rotated, overlap=HOUR, now=NOW)))

    async def work(webhooks: SqlWebhooks) -> None:
        added = webhook()
        await webhooks.add(added)
        elsewhere = threading.Thread(target=rotate_elsewhere, args=(added.id,))

        def rotate_meanwhile(found: Webhook) -> Webhook:
            elsewhere.start()
            elsewhere.join(HELD_S)
            assert elsewhere.is_alive()
            return rotated(found, HOUR, NOW)

        await webhooks.change(added.id, rotate_meanwhile)
        await asyncio.to_thread(elsewhere.join)
        found = await webhooks.find(added.id)
        assert found is not None
        assert len(found.secrets) == 3

    on(database_url, work)


def test_a_change_that_fails_changes_nothing(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        added = webhook()
        await webhooks.add(added)
        with pytest.raises(ZeroDivisionError):
            await webhooks.change(added.id, lambda found: replace(found, description=str(1 // 0)))
        assert await webhooks.all() == [added]

    on(database_url, work)


def test_a_lost_database_is_unavailable() -> None:
    with PostgresServer() as server:
        url = server.create_database("webhooks")
        server.kill()

        async def work(webhooks: SqlWebhooks) -> None:
            with pytest.raises(StoreUnavailable):
                await webhooks.all()

        on(url, work)


@asynccontextmanager
async def subscriptions_of(webhooks: SqlWebhooks) -> AsyncIterator[Subscriptions]:
    subscriptions = Subscriptions(webhooks)
    await subscriptions.start()
    try:
        yield subscriptions
    finally:
        await subscriptions.close()


def test_it_is_known_who_wants_what(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        every, some, closed = webhook(age=2), webhook("Allocated", age=1), disabled(webhook("OutOfStock"), "gone", NOW)
        for each in (every, some, closed):
            await webhooks.add(each)
        async with subscriptions_of(webhooks) as subscriptions:
            assert subscriptions.subscribed("Allocated") == [every.id, some.id]
            assert subscriptions.subscribed("OutOfStock") == [every.id]
            assert subscriptions.subscribed("AllocationRequired") == ()

    on(database_url, work)


def test_without_webhooks_nothing_is_wanted(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        async with subscriptions_of(webhooks) as subscriptions:
            assert not any(map(subscriptions.subscribed, EVENT_TYPES))

    on(database_url, work)


def test_changes_of_other_processes_are_noticed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions_module, "REFRESH_INTERVAL_S", REFRESH_S)

    async def work(webhooks: SqlWebhooks) -> None:
        async with subscriptions_of(webhooks) as subscriptions, opened(database_url) as others:
            added = webhook("Allocated")
            await others.add(added)
            await until(lambda: list(subscriptions.subscribed("Allocated")) == [added.id])
            await others.change(added.id, lambda found: disabled(found, "gone", NOW))
            await until(lambda: not subscriptions.subscribed("Allocated"))

    on(database_url, work)


def test_what_was_known_stays_known_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscriptions_module, "REFRESH_INTERVAL_S", REFRESH_S)
    with PostgresServer() as server:
        url = server.create_database("webhooks")
        migrate(parse_url(url))

        async def work(webhooks: SqlWebhooks) -> None:
            added = webhook("Allocated")
            await webhooks.add(added)
            async with subscriptions_of(webhooks) as subscriptions:
                await asyncio.to_thread(server.kill)
                await until(lambda: "webhooks cannot be read" in caplog.text)
                assert subscriptions.subscribed("Allocated") == [added.id]
                await asyncio.to_thread(server.start)
                await webhooks.remove(added.id)
                await until(lambda: not subscriptions.subscribed("Allocated"))

        on(url, work)


class Posting:
    """The effect, bound to a database and a sender, and called in a thread as effects are."""

    def __init__(self, webhooks: SqlWebhooks, sender: HttpSender) -> None:
        self._effect = PostWebhook(webhooks, sender)
        self._effect.start()

    async def post(self, webhook_id: str) -> None:
        await asyncio.to_thread(self._effect, MESSAGE, webhook_id)


@asynccontextmanager
async def posting(webhooks: SqlWebhooks) -> AsyncIterator[Posting]:
    sender = HttpSender(allow_private=True)
    try:
        yield Posting(webhooks, sender)
    finally:
        sender.close()


def test_the_effect_posts_a_message_that_its_receiver_verifies(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        with Receiver() as receiver:
            hook = webhook(url=receiver.url)
            await webhooks.add(hook)
            async with posting(webhooks) as effect:
                await effect.post(hook.id)
                fresh = await webhooks.change(hook.id, partial(rotated, overlap=timedelta(0), now=datetime.now(UTC)))
                await effect.post(hook.id)
            first, second = receiver.received
            assert first.verified_by(hook.secrets[0].text)
            assert second.verified_by(fresh.secrets[0].text)

    on(database_url, work)


def test_a_target_that_is_gone_has_its_webhook_disabled(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        with Receiver() as receiver:
            receiver.reply = lambda handler: answer(handler, 410, b"moved out")
            hook, other = webhook(url=receiver.url), webhook()
            await webhooks.add(hook)
            await webhooks.add(other)
            async with posting(webhooks) as effect:
                await effect.post(hook.id)
                await effect.post(hook.id)
            found = await webhooks.find(hook.id)
            assert found is not None
            assert found.disabled_at is not None
            assert found.disabled_reason == "answered 410 moved out"
            assert len(receiver.received) == 1
            assert await webhooks.find(other.id) == other
            assert f"webhook='{hook.id}'" in caplog.text

    on(database_url, work)


def test_the_messages_of_a_webhook_that_is_removed_are_done_with(database_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        async with posting(webhooks) as effect:
            await effect.post(webhook().id)

    on(database_url, work)


@pytest.mark.parametrize(("status", "error"), [(503, Unreachable), (302, Declined), (422, Declined)])
def test_what_the_target_says_is_what_the_effect_raises(sqlite_url: str, status: int, error: type[Exception]) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        with Receiver() as receiver:
            receiver.reply = lambda handler: answer(handler, status, b"because")
            hook = webhook(url=receiver.url)
            await webhooks.add(hook)
            async with posting(webhooks) as effect:
                with pytest.raises(error, match=f"answered {status} because"):
                    await effect.post(hook.id)
            assert await webhooks.find(hook.id) == hook

    on(sqlite_url, work)


def test_a_database_that_is_away_says_nothing_about_the_message() -> None:
    with PostgresServer() as server:
        url = server.create_database("webhooks")
        server.kill()

        async def work(webhooks: SqlWebhooks) -> None:
            async with posting(webhooks) as effect:
                with pytest.raises(Unreachable, match="the webhook cannot be read"):
                    await effect.post("wh_1")

        on(url, work)


def test_the_effects_of_two_webhooks_may_run_at_once(sqlite_url: str) -> None:
    async def work(webhooks: SqlWebhooks) -> None:
        both = threading.Barrier(2, timeout=PATIENCE_S)
        with Receiver() as receiver:

            def together(handler: object) -> None:
                both.wait()
                answer(handler, 204)  # type: ignore[arg-type]  # the handler that is replying

            receiver.reply = together
            hooks = [webhook(url=receiver.url), webhook("Allocated", url=receiver.url)]
            for hook in hooks:
                await webhooks.add(hook)
            async with posting(webhooks) as effect:
                await asyncio.gather(*(effect.post(hook.id) for hook in hooks))

    on(sqlite_url, work)


def test_each_webhook_has_an_effect_of_its_own() -> None:
    assert effect_name("wh_1") == "post_webhook/wh_1"
