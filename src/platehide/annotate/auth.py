"""Who is asking. Sessions by cookie, API tokens by bearer header, invite links that expire.

Nobody has a password. A person gets a link ``…/join#TOKEN`` (a fragment: it reaches no server
log and no referrer), opens it and presses a button, which trades the invite for a session.
Only SHA-256 digests of secrets are stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.db import digest, new_id
from platehide.annotate.faults import Denied, NotFound
from platehide.errors import UsageError

Role = Literal["requester", "expert", "worker"]
ROLES: tuple[Role, ...] = ("requester", "expert", "worker")
SESSION_COOKIE = "platehide_session"
SESSION_SECONDS = 30 * 86_400.0


@dataclass(frozen=True)
class Caller:
    """An authenticated caller. ``csrf`` is empty for bearer tokens, which need none."""

    user_id: str
    name: str
    role: Role
    csrf: str


def csrf_for(session_secret: str) -> str:
    """The CSRF token of a session: derived, so that it cannot outlive or be swapped."""
    return hmac.new(session_secret.encode(), b"platehide-csrf", hashlib.sha256).hexdigest()


def add_user(connection: Connection, role: str, name: str, now: float) -> str:
    """Create a person; returns the id."""
    if role not in ROLES:
        raise UsageError(f"unknown role {role!r}; roles are {', '.join(ROLES)}")
    name = " ".join(name.split())[:80]
    if not name or not name.isprintable():
        raise UsageError("a name takes 1 to 80 printable characters")
    user_id = new_id()
    connection.execute(
        schema.users.insert().values(
            id=user_id, role=role, name=name, created_at=now, disabled=False
        )
    )
    return user_id


def add_credential(
    connection: Connection,
    user_id: str,
    kind: Literal["session", "api"],
    now: float,
    *,
    lifetime_seconds: float | None,
    label: str = "",
) -> tuple[str, str]:
    """Create a session or an API token; returns (id, secret). The secret is shown only here."""
    secret = ("phs_" if kind == "session" else "pha_") + secrets.token_urlsafe(32)
    credential_id = new_id()
    connection.execute(
        schema.credentials.insert().values(
            digest=digest(secret),
            id=credential_id,
            kind=kind,
            user_id=user_id,
            label=label[:80],
            created_at=now,
            expires_at=None if lifetime_seconds is None else now + lifetime_seconds,
            revoked=False,
        )
    )
    return credential_id, secret


def authenticate(
    connection: Connection, secret: str, kind: Literal["session", "api"], now: float
) -> Caller | None:
    """The caller behind a secret, or ``None`` when it is unknown, expired or revoked."""
    c, u = schema.credentials, schema.users
    row = connection.execute(
        sa.select(u.c.id, u.c.name, u.c.role)
        .join(u, u.c.id == c.c.user_id)
        .where(
            c.c.digest == digest(secret),
            c.c.kind == kind,
            c.c.revoked.is_(False),
            u.c.disabled.is_(False),
            sa.or_(c.c.expires_at.is_(None), c.c.expires_at > now),
        )
    ).first()
    if row is None:
        return None
    csrf = csrf_for(secret) if kind == "session" else ""
    return Caller(user_id=row.id, name=row.name, role=cast(Role, row.role), csrf=csrf)


def revoke(connection: Connection, *, secret: str = "", credential_id: str = "") -> bool:
    """Revoke a credential by its secret (sign out) or its id; False when there is none."""
    c = schema.credentials
    match = c.c.digest == digest(secret) if secret else c.c.id == credential_id
    done = connection.execute(c.update().where(match).values(revoked=True))
    return bool(done.rowcount)


def add_invite(
    connection: Connection,
    role: str,
    now: float,
    *,
    project_id: str | None = None,
    user_id: str | None = None,
    lifetime_seconds: float = 7 * 86_400.0,
    max_uses: int = 1,
) -> tuple[str, str]:
    """Create an invite; returns (id, secret)."""
    if role not in ROLES:
        raise UsageError(f"unknown role {role!r}; roles are {', '.join(ROLES)}")
    if not 60 <= lifetime_seconds <= 90 * 86_400:
        raise UsageError("an invite lives between a minute and 90 days")
    if not 1 <= max_uses <= 10_000:
        raise UsageError("an invite can be used 1 to 10,000 times")
    if user_id is not None and max_uses != 1:
        raise UsageError("a link that signs a known person in can be used once")
    if role == "requester" and max_uses != 1:
        raise UsageError("an invite for a requester can be used once")
    secret = "phi_" + secrets.token_urlsafe(24)
    invite_id = new_id()
    connection.execute(
        schema.invites.insert().values(
            digest=digest(secret),
            id=invite_id,
            role=role,
            project_id=project_id,
            user_id=user_id,
            created_at=now,
            expires_at=now + lifetime_seconds,
            max_uses=max_uses,
            uses=0,
            revoked=False,
        )
    )
    return invite_id, secret


def join(connection: Connection, project_id: str, user_id: str, now: float) -> None:
    """Make a person a member of a project (once)."""
    m = schema.members
    there = connection.execute(
        sa.select(m.c.user_id).where(m.c.project_id == project_id, m.c.user_id == user_id)
    ).first()
    if there is None:
        connection.execute(
            m.insert().values(
                project_id=project_id,
                user_id=user_id,
                joined_at=now,
                trained=0,
                since_captcha=0,
                captcha_due=0,
            )
        )


def redeem(
    connection: Connection, secret: str, name: str, now: float, *, signed_in: Caller | None = None
) -> tuple[str, str]:
    """Trade an invite for a session; returns (user id, session secret).

    One conditional update takes the use, so that two people never share the last one. Whoever is
    signed in with the same role joins the project as themselves.

    Raises:
        Denied: the invite is unknown, used up, revoked or expired (which one is not told apart).
    """
    i = schema.invites
    taken = connection.execute(
        i.update()
        .where(
            i.c.digest == digest(secret),
            i.c.revoked.is_(False),
            i.c.uses < i.c.max_uses,
            i.c.expires_at > now,
        )
        .values(uses=i.c.uses + 1)
    )
    if taken.rowcount != 1:
        raise Denied("this link has expired or was already used; ask for a new one", status=410)
    row = connection.execute(sa.select(i).where(i.c.digest == digest(secret))).one()
    if row.user_id is not None:
        user_id = str(row.user_id)
    elif signed_in is not None and signed_in.role == row.role:
        user_id = signed_in.user_id
    else:
        user_id = add_user(connection, row.role, name, now)
    if row.project_id is not None:
        join(connection, row.project_id, user_id, now)
    _, session = add_credential(
        connection, user_id, "session", now, lifetime_seconds=SESSION_SECONDS
    )
    return user_id, session


def revoke_invite(connection: Connection, invite_id: str) -> None:
    """Make an invite useless."""
    i = schema.invites
    done = connection.execute(i.update().where(i.c.id == invite_id).values(revoked=True))
    if not done.rowcount:
        raise NotFound("no such invite")
