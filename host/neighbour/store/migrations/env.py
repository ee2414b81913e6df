"""How Alembic reaches the database: by the connection that `neighbour.store.database.migrate` hands over."""

from alembic import context

from neighbour.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
