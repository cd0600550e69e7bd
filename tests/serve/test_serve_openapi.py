"""The OpenAPI document is true: schemathesis asks what it promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serve_client import Running

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


@pytest.mark.skipif(
    not SCHEMATHESIS.exists() and shutil.which("schemathesis") is None, reason="needs schemathesis"
)
@pytest.mark.timeout(900)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with Running(
        ["--max-body", "100k", "--in-flight", "50", "--timeout", "100", "--queue-deadline", "100"]
    ) as running:
        done = subprocess.run(
            [
                str(SCHEMATHESIS), "run", f"http://127.0.0.1:{running.port}/openapi.json",
                "--max-examples", "8", "--seed", "7", "--no-color", "--workers", "1",
                "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
                "response_schema_conformance,response_headers_conformance,unsupported_method",
                "--exclude-path", "/metrics", "--request-timeout", "100",
                "--generation-database", "none",
                "--suppress-health-check", "too_slow",  # the machine's, not the service's
            ],
            capture_output=True, text=True, timeout=800, check=False, cwd=tmp_path,
            env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert running.ask("GET", "/readyz").status == 200
