"""Documents made by the programs of others, and by hand what those would not make."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

FONT, SIZE = "Vera", 10.0
Drawn = tuple[float, float, str]


def pdf(
    *pages: Iterable[Drawn], angle: int = 0, rotation: int = 0, password: str | None = None, owner: str | None = None
) -> bytes:
    """A PDF whose pages hold texts at (x, y) in points, in the order given.

    The texts are drawn at an angle around the middle of the page, and the page is displayed with a rotation.
    """
    if FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(FONT, "Vera.ttf"))  # comes with ReportLab
    buffer = io.BytesIO()
    locked = None if password is None and owner is None else StandardEncryption(password or "", owner)
    canvas = Canvas(buffer, pagesize=(800, 800), encrypt=locked)
    for page in pages:
        canvas.setPageRotation(rotation)
        canvas.translate(400, 400)
        canvas.rotate(angle)
        canvas.translate(-400, -400)
        canvas.setFont(FONT, SIZE)
        for x, y, text in page:
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def width(text: str) -> float:
    """How wide a text is on the page, in points."""
    return float(pdfmetrics.stringWidth(text, FONT, SIZE))


def lines(texts: Sequence[str], x: float = 72.0, top: float = 700.0, step: float = 14.0) -> list[Drawn]:
    """Texts one below the other."""
    return [(x, top - step * index, text) for index, text in enumerate(texts)]


def raw_pdf(objects: Sequence[bytes], root: int = 1) -> bytes:
    """A PDF of the objects given, numbered from 1. It has no table of places, so a reader has to search for them."""
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, one) for number, one in enumerate(objects, start=1))
    return b"%PDF-1.7\n" + body + b"trailer << /Root %d 0 R >>\n%%%%EOF\n" % root


def repacked(path: Path, changes: dict[str, bytes]) -> bytes:
    """An archive with other contents under some of its names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in {*old.namelist(), *changes}:
            new.writestr(name, changes[name] if name in changes else old.read(name))
    return buffer.getvalue()
