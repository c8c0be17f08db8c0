"""second plan: declared outputs, tables of grids and traces, content keys, digests of protocols

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from db.migrations.outputs_0002 import outputs_of

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
    with op.batch_alter_table("models") as batch_op:
        batch_op.add_column(sa.Column("withdrawn", sa.Text(), nullable=True))
    with op.batch_alter_table("evaluations") as batch_op:
        batch_op.alter_column("norm", type_=sa.String(length=40), existing_type=sa.String(length=8))
        batch_op.add_column(sa.Column("attack_version", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("content", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("content_key", sa.String(length=64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("outputs", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.create_index(batch_op.f("ix_evaluations_content_key"), ["content_key"], unique=False)
    migrate_protocols(op.get_bind())
    migrate_evaluations(op.get_bind())


DEFAULTS: dict[str, dict[str, Any]] = {
    "curve": {"norm": "linf", "attack": "engine", "effort": "standard"},
    "autoattack": {"norm": "linf", "eps": 8 / 255, "version": "standard"},
    "clever": {
        "norm": "linf",
        "targets": "untargeted",
        "preset": "board",
        "order": 1,
        "batches": None,
        "samples": None,
        "radius": None,
    },
    "certificate": {"norm": "linf", "method": "auto"},
    "exact": {"norm": "linf", "time_limit": 10.0, "most_neurons": 64},
    "challenge": {"norm": None, "author": "", "paper": "", "sha256": "", "evidence": ""},
    "transfer": {"norm": None, "evidence": "", "tried": ""},
}
"""The measures' parameters with their defaults when this was written; what equals its default is in no key."""

AT_MOST = {"autoattack": "samples", "clever": "limit", "certificate": "samples", "exact": "samples"}
"""The parameter that says how many samples are measured: in no key, since the number itself is."""


def digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def migrate_protocols(bind: sa.Connection) -> None:
    """A protocol's digest is that of its contents as they are stored."""
    protocols = sa.table("protocols", sa.column("id"), sa.column("spec", sa.JSON), sa.column("digest"))
    for row in bind.execute(sa.select(protocols.c.id, protocols.c.spec)).all():
        bind.execute(protocols.update().where(protocols.c.id == row.id).values(digest=digest(row.spec)))


def migrate_evaluations(bind: sa.Connection) -> None:
    """Keys of what the measure needs and nothing else, versions apart, and the outputs that the measures declare."""
    evaluations = sa.table(
        "evaluations",
        *(sa.column(name) for name in ("id", "key", "model_id", "dataset_id", "n", "samples", "measure", "version")),
        *(sa.column(name) for name in ("attack_version", "seed", "content_key")),
        *(sa.column(name, sa.JSON) for name in ("parameters", "provenance", "content", "outputs")),
    )
    models: dict[int, str] = dict(bind.execute(sa.text("SELECT id, digest FROM models")).all())
    datasets: dict[int, str] = dict(bind.execute(sa.text("SELECT id, digest FROM datasets")).all())
    chunks = sa.text("SELECT evaluation_id, min(evidence_digest) FROM chunks GROUP BY evaluation_id")
    evidence: dict[int, str | None] = dict(bind.execute(chunks).all())
    for row in bind.execute(sa.select(evaluations)).all():
        parameters, provenance = dict(row.parameters), dict(row.provenance)
        version, attack_version = divmod(row.version, 1000)
        if row.measure in {"challenge", "transfer"}:
            _as_measure(row.measure, parameters, provenance, evidence.get(row.id) or "")
        defaults, bound = DEFAULTS.get(row.measure, {}), AT_MOST.get(row.measure)
        missing = object()
        content = {
            "model": models[row.model_id],
            "dataset": datasets[row.dataset_id],
            "measure": row.measure,
            "version": version,
            "attack_version": attack_version,
            "parameters": {k: v for k, v in parameters.items() if k != bound and defaults.get(k, missing) != v},
            "seed": row.seed,
            "needs": {},
        }
        bind.execute(
            evaluations.update()
            .where(evaluations.c.id == row.id)
            .values(
                version=version,
                attack_version=attack_version,
                parameters=parameters,
                provenance=provenance,
                content=content,
                content_key=digest(content),
                key=digest({**content, "n": row.n, "samples": row.samples}),
                outputs=outputs_of(row.measure, parameters),
            )
        )


def _as_measure(measure: str, parameters: dict[str, Any], provenance: dict[str, Any], evidence: str) -> None:
    """Challenges and replays have become measures of stored examples; whom they credit is recorded as for others."""
    change = {"challenge": "challenge-accepted", "transfer": "transfer-lowered"}[measure]
    if measure == "transfer":
        parameters["tried"] = parameters.get("evidence", "")
    parameters["evidence"] = evidence
    author = parameters.get("author") or "anonymous"
    who = f"challenge: {author}" if measure == "challenge" else "transfer"
    title = {"challenge": "Challenge", "transfer": "Transfer replay"}[measure]
    provenance["method"] = {
        "title": title,
        "paper": parameters.get("paper", ""),
        "contributor": who,
        "change": change,
    }
