"""Run by Alembic, on the connection and in the transaction that `adapters.migrate` has opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
