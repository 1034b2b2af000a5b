"""The page of a room: one template, in the language that the browser asks for or somebody has chosen."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from palmette.web.application import TEMPLATES
from palmette.web.languages import COOKIE, LANGUAGES, Room, choose_language, texts_of

_YEAR = 365 * 24 * 3600  # seconds for which a browser keeps the language


def add_page(router: APIRouter, room: Room) -> None:
    """Serve the page of a room at the root. Whoever asks gets it, so it says nothing about what the room holds."""

    @router.get("/", response_class=HTMLResponse)
    def page(request: Request, language: str | None = None) -> HTMLResponse:
        accepted = request.headers.get("accept-language")
        chosen = choose_language(language, request.cookies.get(COOKIE), accepted)
        template = TEMPLATES.get_template(f"{room}.html")
        html = template.render(room=room, language=chosen, languages=LANGUAGES, texts=texts_of(room, chosen))
        response = HTMLResponse(html, headers={"Vary": "Accept-Language, Cookie"})
        if language in LANGUAGES:
            response.set_cookie(COOKIE, chosen, max_age=_YEAR, path="/", httponly=True, samesite="strict")
        return response
