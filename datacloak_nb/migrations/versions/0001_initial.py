"""The first schema of the prediction log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade():
    op.create_table(
        "datacloak_log",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_datacloak_log"),
    )
    op.create_table(
        "datacloak_writers",
        sa.Column("id", number, nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("written", sa.BigInteger(), nullable=False),
        sa.Column("open", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger()),
        sa.Column("lost", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_datacloak_writers"),
    )
    op.create_table(
        "datacloak_batches",
        sa.Column("id", number, nullable=False),
        sa.Column("writer", number, nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("feature_version", sa.String(), nullable=False),
        sa.Column("classes", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_datacloak_batches"),
        sa.ForeignKeyConstraint(["writer"], ["datacloak_writers.id"], name="fk_datacloak_batches_writer"),
    )
    op.create_table(
        "datacloak_predictions",
        sa.Column("id", number, nullable=False),
        sa.Column("batch", number, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("prediction", sa.String(), nullable=False),
        sa.Column("confidence", sa.REAL(), nullable=False),
        sa.Column("probabilities", sa.LargeBinary(), nullable=False),
        sa.Column("codes", sa.LargeBinary()),
        sa.Column("header", sa.String()),
        sa.Column("truth", sa.String()),
        sa.Column("truth_time", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_datacloak_predictions"),
        sa.ForeignKeyConstraint(["batch"], ["datacloak_batches.id"], name="fk_datacloak_predictions_batch"),
    )
    for column in "batch", "time", "key":
        op.create_index(f"ix_datacloak_predictions_{column}", "datacloak_predictions", [column])


def downgrade():
    for table in "predictions", "batches", "writers", "log":
        op.drop_table(f"datacloak_{table}")
