from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from platehide.cover import Cover, CoverOptions, cover_plate, load_cover
from platehide.errors import UsageError
from platehide.pixels import ArrayPixels, apply_patches

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 47 10">{}</svg>'
RED = '<rect width="47" height="10" fill="#e00000"/>'


def png(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", **options)
    return out.getvalue()


def test_our_own_design_needs_no_font_and_is_opaque() -> None:
    cover = load_cover(None)
    assert cover.name == "platehide"
    assert cover.design[..., 3].min() == 255
    assert "<text" not in (cover.vector or "")
    assert cover.design.shape[1] / cover.design.shape[0] == pytest.approx(4.7, rel=0.02)


def test_a_png_file(tmp_path: Path) -> None:
    path = tmp_path / "brand.png"
    array = np.zeros((20, 90, 4), np.uint8)
    array[..., 0], array[5:15, 10:80, 3] = 200, 128
    path.write_bytes(png(array))
    cover = load_cover(path)
    assert cover.name == "brand"
    np.testing.assert_array_equal(cover.design, array)
    with pytest.raises(ValueError, match="read-only"):
        cover.design[0, 0] = 0


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA", "1", "I;16"])
def test_every_kind_of_png(mode: str) -> None:
    if mode == "I;16":
        data = png(np.full((10, 40), 128 * 257, np.uint16))
    else:
        image = Image.new("RGB", (40, 10), (128, 128, 128))
        image = image.quantize(4) if mode == "P" else image.convert(mode)
        out = io.BytesIO()
        image.save(out, "PNG")
        data = out.getvalue()
    design = load_cover(data).design
    assert design.shape == (10, 40, 4)
    assert design[..., 3].min() == 255
    assert abs(int(np.median(design[..., 0])) - 128) <= 1 or mode == "1"


def test_a_large_png_is_reduced_without_a_fringe() -> None:
    array = np.zeros((1000, 4000, 4), np.uint8)
    array[..., :3] = (0, 255, 0)  # green under transparency must not bleed
    array[200:800, 500:3500] = (255, 0, 0, 255)
    design = load_cover(png(array)).design
    assert max(design.shape) == 1560
    visible = design[design[..., 3] > 200]
    assert visible[:, 1].max() <= 2


def test_an_svg_with_alpha() -> None:
    cover = load_cover(SVG.format('<rect width="20" height="10" fill="#00f"/>').encode())
    assert cover.design.shape[1] / cover.design.shape[0] == pytest.approx(4.7, rel=0.01)
    assert cover.design[10, 10].tolist() == [0, 0, 255, 255]
    assert cover.design[10, -10, 3] == 0


@pytest.mark.parametrize(
    "head",
    [
        '<svg xmlns="http://www.w3.org/2000/svg" width="94mm" height="20mm">',
        '<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="100%" viewBox="0 0 47 10">',
        '<svg xmlns="http://www.w3.org/2000/svg" width="470" viewBox="0 0 47 10">',
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- drawn by hand -->\n'
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0,0,47,10">',
    ],
)
def test_every_way_to_state_an_svgs_size(head: str) -> None:
    rect = '<rect width="100%" height="100%" fill="#e00000"/></svg>'
    design = load_cover((head + rect).encode()).design
    assert design.shape[1] / design.shape[0] == pytest.approx(4.7, rel=0.01)


def bomb() -> bytes:
    """A PNG of a few bytes that declares 50,000 × 50,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


GOOD = png(np.full((30, 120, 3), 200, np.uint8))
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "neither a PNG nor an SVG"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "neither a PNG nor an SVG"),
    "html": (b"<html><body>svg</body></html>", "neither a PNG nor an SVG"),
    "png magic only": (GOOD[:8], "damaged PNG"),
    "truncated png": (GOOD[:60], "damaged PNG"),
    "bomb": (bomb(), "50000×50000"),
    "clear png": (png(np.zeros((30, 120, 4), np.uint8)), "fully transparent"),
    "thread": (png(np.full((1, 900, 3), 9, np.uint8)), "absurd shape"),
    "broken svg": (SVG.format(RED).encode()[:-9], "damaged SVG"),
    "empty svg": (SVG.format("").encode(), "fully transparent"),
    "sizeless svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>', "neither a width"),
    "thread svg": (SVG.format(RED).replace("0 0 47 10", "0 0 1 9000").encode(), "absurd shape"),
    "outward svg": (
        SVG.format('<image href="/etc/hostname" width="9" height="9"/>').encode(),
        "refers to another file",
    ),
    "outward xlink": (
        SVG.format(
            '<image xmlns:x="http://www.w3.org/1999/xlink" x:href="file:///x.png" width="9"/>'
        ).encode(),
        "refers to another file",
    ),
    "outward use": (
        SVG.format('<use href="other.svg#a"/>' + RED).encode(),
        "embeds something|refers to another file",
    ),
    "outward style": (
        SVG.format('<style>@import url("http://127.0.0.1/a.css");</style>' + RED).encode(),
        "refers to another file",
    ),
    "outward paint": (
        SVG.format("<path d='M0 0h9v9z' style='fill:url( http://127.0.0.1/a#b)'/>").encode(),
        "refers to another file",
    ),
    "panic": (
        SVG.format('<path d="M-1e30 50L1e30 51L1e30 1e30Z"/><circle r="1e20"/>').encode(),
        "cannot be rendered",
    ),
    "nested": (SVG.format("<g>" * 3000 + RED + "</g>" * 3000).encode(), "too complex"),
    "chain": (
        SVG.format(
            "".join(f'<g id="a{i}"><use href="#a{i + 1}"/></g>' for i in range(100)) + RED
        ).encode(),
        "too complex",
    ),
    "layers": (SVG.format('<g opacity=".5"/>' * 500 + RED).encode(), "too complex"),
    "turbulence": (
        SVG.format(
            '<filter id="f"><feTurbulence baseFrequency=".1" numOctaves="999999999"/></filter>'
        ).encode(),
        "too slow",
    ),
    "expanding": (
        SVG.format(
            "<defs>"
            + '<g id="a0"><rect width="1" height="1"/></g>'
            + "".join(
                f'<g id="a{i}">' + f'<use href="#a{i - 1}"/>' * 10 + "</g>" for i in range(1, 9)
            )
            + '</defs><use href="#a8"/>'
        ).encode(),
        "cannot be rendered",
    ),
    "svg in svg": (
        SVG.format('<image href="data:image/svg+xml;base64,PHN2Zy8+" width="9"/>').encode(),
        "embeds something",
    ),
    "bomb in svg": (
        SVG.format(
            '<image href="data:image/png;base64,' + base64.b64encode(bomb()).decode() + '"/>'
        ).encode(),
        "embeds",
    ),
    "unknown font": (
        SVG.format('<text y="9" font-family="No Such Face">brand</text>').encode(),
        "font is not installed",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_the_reason(name: str, tmp_path: Path) -> None:
    data, reason = BAD[name]
    path = tmp_path / "cover file.png"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=reason) as caught:
        load_cover(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match=reason):
        load_cover(data)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_cover(tmp_path / "missing.svg")
    with pytest.raises(UsageError, match=r"directory|cannot"):
        load_cover(tmp_path)
    if Path("/dev/zero").exists():
        with pytest.raises(UsageError, match="larger than"):
            load_cover(Path("/dev/zero"))


def test_paint_within_the_file_is_no_reference_to_another() -> None:
    gradient = '<linearGradient id="g"><stop stop-color="#f00"/></linearGradient>'
    shape = """<rect width="47" height="10" style="fill: url('#g')"/>"""
    fonts = "<style>@font-face{font-family:x;src:url(data:font/woff;base64,AA==)}</style>"
    link = '<a href="https://example.com/"><rect width="4" height="4" fill="url(#g)"/></a>'
    cover = load_cover(SVG.format(gradient + fonts + shape + link).encode())
    assert cover.design[20, 200].tolist() == [255, 0, 0, 255]


def test_entity_bombs_end_in_an_error() -> None:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    data = f'<!DOCTYPE svg [<!ENTITY a0 "ha">{entities}]>' + SVG.format("<desc>&a11;</desc>")
    with pytest.raises(UsageError, match="damaged SVG"):
        load_cover(data.encode())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"strength": 0.0}, "lets the plate through is refused"),
        ({"strength": -1.0}, "refused"),
        ({"strength": 0.5}, "opaque"),
        ({"strength": 0.0, "style": "blur"}, "refused"),
        ({"strength": 0.1, "style": "blur"}, "hides nothing"),
        ({"strength": float("nan")}, "refused"),
        ({"margin": -0.01}, "margin"),
        ({"margin": 0.9}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"style": "mosaic"}, "logo, solid or blur"),
        ({"variant": "pink"}, "light or dark"),
        ({"text": "  "}, "1 to 40"),
        ({"text": "x" * 41}, "1 to 40"),
        ({"text": "two\nlines"}, "line breaks"),
        ({"text": "brand", "style": "blur"}, "not with blur"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        CoverOptions(**options)  # type: ignore[arg-type]


def test_a_cover_checks_its_array() -> None:
    with pytest.raises(ValueError, match="a design is"):
        Cover("x", np.zeros((4, 4, 3), np.uint8))


def test_a_transparent_cover_still_ends_opaque() -> None:
    array = np.zeros((20, 90, 4), np.uint8)
    array[8:12, 40:50] = (255, 0, 0, 90)
    cover = load_cover(png(array))
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (120, 300, 3), dtype=np.uint8)
    quad = [[50, 40], [250, 40], [250, 82], [50, 82]]
    covered = cover_plate(ArrayPixels(rgb), quad, cover, CoverOptions())
    out = apply_patches(rgb, (covered.patch,))
    assert out[42:80, 52:100].astype(float).std(axis=(0, 1)).max() < 25  # a plain ground


def test_an_embedded_picture_and_plain_opacities_are_fine() -> None:
    inner = base64.b64encode(png(np.full((10, 47, 3), 7, np.uint8))).decode()
    body = f'<image href="data:image/png;base64,{inner}" width="47" height="10"/>'
    body += '<path d="M0 0h1" fill-opacity=".5" style="stroke-opacity:.5"/>' * 600
    design = load_cover(SVG.format(body).encode()).design
    assert np.median(design[..., 0]) == 7
    circle = SVG.format(RED + '<g id="a"><use href="#a"/></g>')
    assert load_cover(circle.encode()).design[9, 9].tolist() == [224, 0, 0, 255]


def test_covers_of_the_same_content_are_equal_and_survive_a_process_border() -> None:
    import pickle

    one, same, other = load_cover(GOOD), load_cover(GOOD), load_cover(None)
    assert one == same and hash(one) == hash(same)
    assert one != other
    assert pickle.loads(pickle.dumps(other)) == other
