from typing import Any

def unstuff(data: Any, start: int, /) -> tuple[bytes, bytes, int]: ...
def walk(
    frame: Any,
    scan: Any,
    tables: Any,
    clean: Any,
    intervals: Any,
    checkpoints: Any,
    scale: int,
    quant: Any,
    p0: Any,
    p1: Any,
    p2: Any,
    /,
) -> None: ...
def read(
    frame: Any,
    scan: Any,
    tables: Any,
    clean: Any,
    intervals: Any,
    checkpoints: Any,
    x0: int,
    y0: int,
    x1: int,
    y1: int,
    c0: Any,
    c1: Any,
    c2: Any,
    /,
) -> None: ...
def splice(
    frame: Any,
    scan: Any,
    tables: Any,
    clean: Any,
    intervals: Any,
    checkpoints: Any,
    data: Any,
    touched: Any,
    coefficients: Any,
    /,
) -> tuple[bytes, bytes] | None: ...
def decode_scan(
    frame: Any,
    scan: Any,
    tables: Any,
    clean: Any,
    intervals: Any,
    progressive: bool,
    c0: Any,
    c1: Any,
    c2: Any,
    /,
) -> None: ...
def encode_scan(
    frame: Any,
    scan: Any,
    progressive: bool,
    c0: Any,
    c1: Any,
    c2: Any,
    /,
) -> tuple[bytes, bytes]: ...
def forward(
    frame: Any,
    quant: Any,
    rgb: Any,
    changed: Any,
    c0: Any,
    c1: Any,
    c2: Any,
    touched: Any,
    /,
) -> None: ...
def reduce(
    frame: Any,
    quant: Any,
    scale: int,
    c0: Any,
    c1: Any,
    c2: Any,
    p0: Any,
    p1: Any,
    p2: Any,
    /,
) -> None: ...
