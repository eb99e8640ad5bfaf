"""How Alembic reaches the prediction log: by the connection that `datacloak_nb.monitoring.log` has open."""

from alembic import context

from datacloak_nb.monitoring.log import VERSION_TABLE, schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema,
                  version_table=VERSION_TABLE, transactional_ddl=True, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
