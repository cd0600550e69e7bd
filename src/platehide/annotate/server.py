"""One process: the web site over uvicorn."""

from __future__ import annotations

import sys

import sqlalchemy as sa
import uvicorn

from platehide.annotate import schema
from platehide.annotate.app import create_app
from platehide.annotate.auth import add_invite
from platehide.annotate.context import Context
from platehide.errors import UsageError


def requester_link(context: Context) -> str:
    """A link, good once and for a day, that signs a requester in."""
    with context.db.write() as connection:
        _, secret = add_invite(
            connection, "requester", context.clock(), lifetime_seconds=86_400.0, max_uses=1
        )
    return context.link(secret)


def serve(
    context: Context, *, host: str, port: int, log_level: str, forwarded_allow_ips: str = ""
) -> int:
    """Serve until interrupted. On a store without people, print a link for the first requester.

    Raises:
        UsageError: the address cannot be bound.
    """
    config = uvicorn.Config(
        create_app(context),
        host=host,
        port=port,
        log_level=log_level,
        access_log=False,
        proxy_headers=bool(forwarded_allow_ips),
        forwarded_allow_ips=forwarded_allow_ips or None,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    try:
        socket = config.bind_socket()
    except SystemExit as error:
        raise UsageError(f"cannot listen on {host}:{port}") from error
    bound = socket.getsockname()
    if port == 0 and not context.public_url.startswith("https://"):
        context.public_url = f"http://{host}:{bound[1]}"
    print(f"platehide annotate: listening on http://{host}:{bound[1]}", flush=True)
    with context.db.read() as connection:
        people = connection.execute(sa.select(sa.func.count()).select_from(schema.users))
        nobody = not people.scalar()
    if nobody:
        print(f"first requester, open within a day: {requester_link(context)}", flush=True)
    server = uvicorn.Server(config)
    server.run(sockets=[socket])
    if not server.started:
        print("platehide annotate: the server could not start", file=sys.stderr)
        return 1
    return 0
