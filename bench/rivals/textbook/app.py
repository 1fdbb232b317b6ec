"""Flask in front of the bus, for gunicorn: `bench.rivals.textbook.app:create_app()`."""

import os
from typing import Any

from flask import Flask, request
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from bench.rivals.textbook import messagebus, orm
from bench.rivals.textbook.model import AllocationRequired, BatchQuantityChanged, InvalidSku

Answer = tuple[dict[str, Any], int]


def create_app() -> Flask:
    app = Flask(__name__)
    engine = orm.connect(os.environ["BENCH_DATABASE_URL"], int(os.environ["BENCH_POOL_SIZE"]))
    orm.start_mappers()
    commands = Commands(engine)
    app.add_url_rule("/readyz", "readyz", dict)
    app.add_url_rule("/allocate", "allocate", commands.allocate, methods=["POST"])
    app.add_url_rule("/change_batch_quantity", "change", commands.change, methods=["POST"])
    app.register_error_handler(InvalidSku, refuse)
    app.register_error_handler(OperationalError, conflict)
    return app


class Commands:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def allocate(self) -> Answer:
        event = AllocationRequired(**request.get_json())
        (batchref, *_) = messagebus.handle(event, messagebus.UnitOfWork(self._engine))
        return {"batchref": batchref}, 201

    def change(self) -> Answer:
        event = BatchQuantityChanged(**request.get_json())
        messagebus.handle(event, messagebus.UnitOfWork(self._engine))
        return {}, 201


def refuse(error: InvalidSku) -> Answer:
    return {"message": str(error)}, 400


def conflict(_error: OperationalError) -> Answer:
    return {"message": "Somebody else changed this product; try again."}, 409
