"""Tables of the annotation store. Portable between SQLite and Postgres.

Three kinds of tables are kept apart:

* *facts*: users, projects, photos, what a control photo's truth is;
* *log*: what people did, append-only (the database refuses updates and deletes);
* *derived*: photo states, worker figures and bans, all recomputable from facts and log.

``assignments`` is operational: who holds which slot until when.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

_Id = BigInteger().with_variant(Integer, "sqlite")

meta = Table("meta", metadata, Column("key", String(40), primary_key=True), Column("value", Text))

users = Table(
    "users",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("name", String(80), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
)

credentials = Table(
    "credentials",
    metadata,
    # Sessions (cookie) and API tokens (bearer). Only a SHA-256 is stored.
    Column("digest", String(64), primary_key=True),
    Column("id", String(24), nullable=False, unique=True),
    Column("kind", String(8), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("label", String(80), nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked", Boolean, nullable=False, default=False),
)

invites = Table(
    "invites",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("id", String(24), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("project_id", ForeignKey("projects.id")),
    # Set for a link that signs a known person in again.
    Column("user_id", ForeignKey("users.id")),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False, default=0),
    Column("revoked", Boolean, nullable=False, default=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("slug", String(60), nullable=False, unique=True),
    Column("name", String(120), nullable=False),
    Column("instructions", Text, nullable=False),
    Column("status", String(12), nullable=False),  # draft, active, paused, closed
    Column("settings", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("joined_at", Float, nullable=False),
    Column("trained", Integer, nullable=False, default=0),
    Column("since_captcha", Integer, nullable=False, default=0),
    Column("captcha_due", Integer, nullable=False, default=0),
    Column("last_submit_at", Float),
)

photos = Table(
    "photos",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(400), nullable=False),
    Column("blob", String(80), nullable=False),  # file name inside the data folder
    Column("sha256", String(64), nullable=False),
    Column("media_type", String(20), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("grp", String(200), nullable=False),
    Column("source", Text, nullable=False, default=""),
    Column("licence", Text, nullable=False, default=""),
    Column("purpose", String(8), nullable=False),  # task, control, training
    Column(
        "truth", JSON(none_as_null=True)
    ),  # control and training: {"plates": [...]}; never leaves the server
    Column("priority", Float, nullable=False, default=0.0),
    Column("proposal", JSON(none_as_null=True)),  # {"model": ..., "plates": [...]}
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project_id", "name"),
    Index("photos_purpose", "project_id", "purpose"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("photo_id", ForeignKey("photos.id"), nullable=False),
    Column("worker_id", ForeignKey("users.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # task, control, training
    Column("slot", Integer, nullable=False),  # -1 for control and training
    Column("state", String(10), nullable=False),  # leased, submitted, expired, dropped
    Column("proposed", Boolean, nullable=False, default=False),
    Column("price", Float, nullable=False, default=0.0),
    Column("leased_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("submitted_at", Float),
    Column("client_id", String(64)),
    Column("attempts", Integer, nullable=False, default=0),
    UniqueConstraint("worker_id", "client_id"),
    Index("assignments_photo", "photo_id", "state"),
    Index("assignments_worker", "worker_id", "project_id", "state"),
    Index("assignments_expiry", "project_id", "state", "expires_at"),
    # Two people never hold the same slot, nobody sees a photo twice: the database says so.
    Index(
        "one_holder_a_slot",
        "photo_id",
        "slot",
        unique=True,
        sqlite_where=text("kind = 'task' AND state IN ('leased', 'submitted')"),
        postgresql_where=text("kind = 'task' AND state IN ('leased', 'submitted')"),
    ),
    Index(
        "one_look_a_worker",
        "photo_id",
        "worker_id",
        unique=True,
        sqlite_where=text("state <> 'expired'"),
        postgresql_where=text("state <> 'expired'"),
    ),
)

log = Table(
    "log",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("project_id", String(24), nullable=False),
    # judgement, training, captcha, expert, drop, restore, accept, reopen, ban, unban, rules
    Column("kind", String(12), nullable=False),
    Column("actor_id", String(24), nullable=False),
    Column("photo_id", String(24)),
    Column("assignment_id", String(24)),
    Column("body", JSON, nullable=False),
    Index("log_project", "project_id", "seq"),
    Index("log_photo", "photo_id", "seq"),
    Index("log_actor", "actor_id", "project_id", "seq"),
)

captchas = Table(
    "captchas",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("picture", String(12), nullable=False),
    Column("sound", String(12), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("open", Boolean, nullable=False, default=True),
)

# Derived -----------------------------------------------------------------------------------

photo_state = Table(
    "photo_state",
    metadata,
    Column("photo_id", ForeignKey("photos.id"), primary_key=True),
    Column("project_id", String(24), nullable=False),
    Column("status", String(10), nullable=False),  # open, agreed, escalated
    # An agreed photo may still want an answer for the sake of precision (crowd.overlap).
    Column("final", Boolean, nullable=False, default=False),  # decided by a person
    Column("wanted", Integer, nullable=False),
    Column("free", Integer, nullable=False),  # slots that may be handed out now
    Column("judgements", Integer, nullable=False, default=0),
    Column("posterior", Float, nullable=False, default=0.0),
    Column("agreement", Float, nullable=False, default=0.0),
    Column("result", JSON(none_as_null=True)),
    Column("rank", Float, nullable=False, default=0.0),
    Column("updated_at", Float, nullable=False, default=0.0),
    Index("photo_state_free", "project_id", "free", "rank"),
    Index("photo_state_status", "project_id", "status"),
)

worker_state = Table(
    "worker_state",
    metadata,
    Column("project_id", String(24), primary_key=True),
    Column("worker_id", String(24), primary_key=True),
    Column("skill", Float, nullable=False, default=0.0),
    Column("golden_right", Integer, nullable=False, default=0),
    Column("golden_total", Integer, nullable=False, default=0),
    Column("judgements", Integer, nullable=False, default=0),
    Column("seconds_sum", Float, nullable=False, default=0.0),
    Column("agreed", Integer, nullable=False, default=0),
    Column("compared", Integer, nullable=False, default=0),
    Column("paid", Integer, nullable=False, default=0),
    Column("banned", Boolean, nullable=False, default=False),
    Column("reason", Text, nullable=False, default=""),
    Column("banned_until", Float),
    Column("peer_right", Float, nullable=False, default=0.0),
    Column("peer_total", Float, nullable=False, default=0.0),
    Column("pardoned", Boolean, nullable=False, default=False),
    Column("control", JSON(none_as_null=True)),  # crowd.sequential.ControlState
    Column("updated_at", Float, nullable=False, default=0.0),
)

events = Table(
    "events",
    metadata,
    # What quality rules look at (crowd.events.Event), derived from the log.
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("project_id", String(24), nullable=False),
    Column("at", Float, nullable=False),
    Column("worker_id", String(24), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("value", Float, nullable=False),
    Column("task", String(24), nullable=False, default=""),
    Index("events_worker", "project_id", "worker_id", "id"),
)

decisions = Table(
    "decisions",
    metadata,
    # What rules and control tasks decided about workers.
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("project_id", String(24), nullable=False),
    Column("at", Float, nullable=False),
    Column("worker_id", String(24), nullable=False),
    Column("rule", String(200), nullable=False),
    Column("action", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Index("decisions_worker", "project_id", "worker_id"),
)
