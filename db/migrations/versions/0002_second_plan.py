"""second plan: declared outputs, tables of grids and traces, content keys, digests of protocols

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "summary_tables",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("confidence", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluations.id"],
            name=op.f("fk_summary_tables_evaluation_id_evaluations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_summary_tables")),
        sa.UniqueConstraint("evaluation_id", "name", name=op.f("uq_summary_tables_evaluation_id_name")),
    )
    with op.batch_alter_table("protocols") as batch_op:
        batch_op.add_column(sa.Column("digest", sa.String(length=64), nullable=False, server_default=""))
    with op.batch_alter_table("evaluations") as batch_op:
        batch_op.add_column(sa.Column("content_key", sa.String(length=64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("outputs", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.create_index(batch_op.f("ix_evaluations_content_key"), ["content_key"], unique=False)
