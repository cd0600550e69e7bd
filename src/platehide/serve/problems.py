"""Problem documents (RFC 9457) with a stable ``code``; every refusal of the service is one."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"

STATUS_OF_CODE: dict[str, int] = {
    # what is wrong with the request
    "bad_request": 400,
    "invalid_parameter": 400,
    "invalid_multipart": 400,
    "empty": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_model": 404,
    "unknown_cover": 404,
    "unknown_job": 404,
    "method_not_allowed": 405,
    "slow_upload": 408,
    "not_finished": 409,
    "body_too_large": 413,
    "too_many_photos": 413,
    "not_an_image": 415,
    "unsupported": 415,
    "unsupported_media_type": 415,
    # what is wrong with the photo
    "truncated": 422,
    "corrupt": 422,
    "too_large": 422,
    "unsure": 422,
    "bad_cover": 422,
    "bad_quads": 422,
    "bad_url": 422,
    "fetch_failed": 422,
    "webhooks_disabled": 422,
    # what is wrong here
    "rate_limited": 429,
    "headers_too_large": 431,
    "internal": 500,
    "busy": 503,
    "not_ready": 503,
    "draining": 503,
    "job_queue_full": 503,
    "timeout": 504,
}
"""HTTP status of each code. Codes never change once released."""


class Problem(Exception):  # noqa: N818 - 'problem document' is the standard's word
    """A refusal that becomes a problem document.

    ``code`` is one of ``STATUS_OF_CODE``; ``headers`` are added to the answer; ``extra`` to the
    document.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = STATUS_OF_CODE.get(code, 500)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def document(self, request_id: str | None) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "type": f"urn:platehide:problem:{self.code}",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **({"request_id": request_id} if request_id else {}),
            **self.extra,
        }

    def response(self, request_id: str | None = None) -> Response:
        """Return the answer; it is never cached."""
        return Response(
            json.dumps(self.document(request_id)),
            self.status,
            {"Cache-Control": "no-store", "X-Problem-Code": self.code, **self.headers},
            MEDIA_TYPE,
        )
