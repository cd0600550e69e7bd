"""Signing in and out, invites, tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from platehide.annotate import schema
from platehide.annotate.auth import (
    SESSION_COOKIE,
    SESSION_SECONDS,
    add_credential,
    add_invite,
    add_user,
    authenticate,
    join,
    redeem,
    revoke,
    revoke_invite,
)
from platehide.annotate.context import Anyone, MaybeCaller, Parts, Requester
from platehide.annotate.faults import AnnotateError, NotFound
from platehide.annotate.limits import client_of, secret_of

router = APIRouter(prefix="/api", tags=["people"])
RoleName = Literal["requester", "expert", "worker"]


class Strict(BaseModel):
    """Unknown fields are refused: a typo must not silently change what happens."""

    model_config = ConfigDict(extra="forbid")


class Join(Strict):
    """An invite, and what the person wants to be called."""

    invite: str = Field(min_length=8, max_length=200)
    name: str = Field(default="Annotator", min_length=1, max_length=80)


class NewInvite(Strict):
    """Whom to invite. ``user`` makes a link that signs a known person in again."""

    role: RoleName = "worker"
    days: float = Field(default=7.0, gt=0, le=90)
    uses: int = Field(default=1, ge=1, le=10_000)
    user: str | None = None


class NewToken(Strict):
    """An API token for a new service account, or for yourself with ``role`` left out."""

    role: RoleName | None = None
    name: str = Field(min_length=1, max_length=80)
    days: float | None = Field(default=90.0, gt=0, le=3650)
    projects: list[str] = Field(default_factory=list, max_length=100)


@router.post("/join")
def join_with_invite(
    request: Request,
    response: Response,
    context: Parts,
    caller: MaybeCaller,
    body: Annotated[Join, Body()],
) -> dict[str, Any]:
    """Trade an invite for a session cookie."""
    if context.limits.attempts.take(f"join {client_of(request.scope)}"):
        raise AnnotateError("too many attempts; wait a minute", code="rate_limited", status=429)
    with context.db.write() as connection:
        _, secret = redeem(
            connection, body.invite.strip(), body.name, context.clock(), signed_in=caller
        )
        signed = authenticate(connection, secret, "session", context.clock())
    if signed is None:
        raise NotFound("this person's access was withdrawn")
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=int(SESSION_SECONDS),
        httponly=True,
        samesite="strict",
        secure=context.https,
        path="/",
    )
    return {"user": signed.user_id, "name": signed.name, "role": signed.role, "csrf": signed.csrf}


@router.get("/me")
def me(caller: Anyone) -> dict[str, Any]:
    """Who you are, and the CSRF token that unsafe requests of a session carry."""
    return {"user": caller.user_id, "name": caller.name, "role": caller.role, "csrf": caller.csrf}


@router.post("/leave")
def leave(request: Request, response: Response, context: Parts, caller: Anyone) -> dict[str, Any]:
    """Sign out: the session is over on the server too."""
    del caller
    with context.db.write() as connection:
        revoke(connection, secret=secret_of(request.scope))
    response.delete_cookie(SESSION_COOKIE, path="/")
    return {"left": True}


@router.post("/projects/{project}/invites", status_code=201)
def invite(project: str, context: Parts, caller: Requester, body: NewInvite) -> dict[str, Any]:
    """Make an invite link for a project. The link is shown only now."""
    del caller
    row = context.projects.find(project)
    with context.db.write() as connection:
        if body.user is not None:
            u = schema.users
            person = connection.execute(sa.select(u).where(u.c.id == body.user)).first()
            if person is None or person.role != body.role:
                raise NotFound("no such person with that role")
        invite_id, secret = add_invite(
            connection,
            body.role,
            context.clock(),
            project_id=row.id,
            user_id=body.user,
            lifetime_seconds=body.days * 86_400,
            max_uses=body.uses,
        )
    return {"id": invite_id, "link": context.link(secret), "invite": secret}


@router.get("/projects/{project}/invites")
def invites(project: str, context: Parts, caller: Requester) -> list[dict[str, Any]]:
    """Invites of a project that can still be used."""
    del caller
    row, i = context.projects.find(project), schema.invites
    with context.db.read() as connection:
        rows = connection.execute(
            sa.select(i)
            .where(
                i.c.project_id == row.id,
                i.c.revoked.is_(False),
                i.c.uses < i.c.max_uses,
                i.c.expires_at > context.clock(),
            )
            .order_by(i.c.created_at.desc())
        ).all()
    return [
        {
            "id": r.id,
            "role": r.role,
            "expires_at": r.expires_at,
            "uses": r.uses,
            "max_uses": r.max_uses,
        }
        for r in rows
    ]


@router.delete("/invites/{invite_id}")
def withdraw_invite(invite_id: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """Make an invite useless."""
    del caller
    with context.db.write() as connection:
        revoke_invite(connection, invite_id)
    return {"withdrawn": invite_id}


@router.post("/tokens", status_code=201)
def new_token(context: Parts, caller: Requester, body: NewToken) -> dict[str, Any]:
    """Make an API token. The secret is shown only now."""
    projects = [context.projects.find(p).id for p in body.projects]
    now = context.clock()
    with context.db.write() as connection:
        user_id = caller.user_id
        if body.role is not None:
            user_id = add_user(connection, body.role, body.name, now)
        for project_id in projects:
            join(connection, project_id, user_id, now)
        token_id, secret = add_credential(
            connection,
            user_id,
            "api",
            now,
            lifetime_seconds=None if body.days is None else body.days * 86_400,
            label=body.name,
        )
    return {"id": token_id, "user": user_id, "token": secret}


@router.get("/tokens")
def tokens(context: Parts, caller: Requester) -> list[dict[str, Any]]:
    """API tokens that work, without their secrets."""
    del caller
    c, u = schema.credentials, schema.users
    with context.db.read() as connection:
        rows = connection.execute(
            sa.select(c.c.id, c.c.label, c.c.created_at, c.c.expires_at, u.c.role, u.c.name)
            .join(u, u.c.id == c.c.user_id)
            .where(
                c.c.kind == "api",
                c.c.revoked.is_(False),
                sa.or_(c.c.expires_at.is_(None), c.c.expires_at > context.clock()),
            )
            .order_by(c.c.created_at)
        ).all()
    return [dict(r._mapping) for r in rows]


@router.delete("/tokens/{token_id}")
def withdraw_token(token_id: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """Make a token useless."""
    del caller
    with context.db.write() as connection:
        if not revoke(connection, credential_id=token_id):
            raise NotFound("no such token")
    return {"withdrawn": token_id}
