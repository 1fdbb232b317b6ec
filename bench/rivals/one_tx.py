"""Raw ASGI and asyncpg, one transaction per order.

Four round trips, which are the fewest for a transaction that the application controls:
BEGIN; lock and pick the batch; book the line; COMMIT.

`FOR UPDATE` re-reads a batch that another order changed meanwhile; when it no longer has
room, no row comes back and the order asks again.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import msgspec

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PICK = """
    SELECT ref FROM batches
    WHERE sku = $1 AND purchased_quantity - allocated_quantity >= $2
    ORDER BY eta NULLS FIRST LIMIT 1 FOR UPDATE
"""
BOOK = """
    WITH counted AS (
        UPDATE batches SET allocated_quantity = allocated_quantity + $3 WHERE ref = $4
    )
    INSERT INTO allocations (orderid, sku, qty, batchref) VALUES ($1, $2, $3, $4)
"""
IS_KNOWN = "SELECT 1 FROM products WHERE sku = $1"
MAX_TRIES = 3
JSON_HEADERS = [(b"content-type", b"application/json")]


class Order(msgspec.Struct):
    orderid: str
    sku: str
    qty: int


class App:
    def __init__(self, database_url: str, pool_size: int) -> None:
        self._database_url = database_url
        self._pool_size = pool_size
        self._pool: Any = None
        self._decode = msgspec.json.Decoder(Order).decode

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/readyz":
            await _answer(send, 200, b"{}")
        else:
            await _answer(send, *await self._allocate(await _body(receive)))

    async def _allocate(self, body: bytes) -> tuple[int, bytes]:
        try:
            order = self._decode(body)
        except msgspec.DecodeError as error:
            return 400, msgspec.json.encode({"message": str(error)})
        async with self._pool.acquire() as connection:
            try:
                return await _allocate(connection, order)
            except asyncpg.UniqueViolationError:
                return 409, b'{"message":"This line is already allocated"}'

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._pool = await asyncpg.create_pool(
            self._database_url,
            min_size=self._pool_size,
            max_size=self._pool_size,
            reset=_leave_as_is,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})


def create_app() -> App:
    return App(os.environ["BENCH_DATABASE_URL"], int(os.environ["BENCH_POOL_SIZE"]))


async def _allocate(connection: Any, order: Order) -> tuple[int, bytes]:
    async with connection.transaction():
        for _ in range(MAX_TRIES):
            ref = await connection.fetchval(PICK, order.sku, order.qty)
            if ref is not None:
                await connection.execute(BOOK, order.orderid, order.sku, order.qty, ref)
                return 201, msgspec.json.encode({"batchref": ref})
        if await connection.fetchval(IS_KNOWN, order.sku):
            return 409, b'{"message":"Out of stock"}'
        return 400, msgspec.json.encode({"message": f"Invalid sku {order.sku}"})


async def _leave_as_is(_connection: Any) -> None:
    """Saves the round trip with which the pool resets a connection; this app changes no setting."""


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [*JSON_HEADERS, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
