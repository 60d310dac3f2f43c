"""The addresses of the server: the page, images that are sent, and what was found in them."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from distill.colours import class_colour
from distill.serve.downloads import from_score
from distill.serve.refusal import Refused
from distill.serve.uploads import Uploads
from distill.serve.work import Job, Result, Worker

_PAGE = Path(__file__).parent / "page"
_PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/drawing.js": ("drawing.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(worker: Worker, max_bytes: int, max_pixels: int) -> FastAPI:
    """The application; `distill.serve.guard.Guard` goes around it.

    Args:
        worker: Predicts the images.
        max_bytes: Of a file.
        max_pixels: Of an image.
    """
    # The pages of FastAPI's own documentation load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    uploads = Uploads(worker, max_bytes, max_pixels)
    for address, (name, kind) in _PAGES.items():
        app.get(address)(_page(name, kind))

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> JSONResponse:
        return JSONResponse({"error": str(refused)}, refused.status)

    @app.exception_handler(HTTPException)
    async def refuse_address(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"there is nothing here ({error.detail})"}, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def refuse_values(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "the address has a part that is no such value"}, 422)

    @app.get("/api/runs")
    def runs() -> dict[str, Any]:
        described = [
            {
                "name": run.name,
                "task": run.task,
                "score": run.score,
                "classes": [[name, class_colour(label)] for label, name in enumerate(run.class_names)],
            }
            for run in worker.runs
        ]
        return {"runs": described, "max_bytes": max_bytes, "max_pixels": max_pixels}

    @app.post("/api/images", status_code=202)
    async def send(request: Request, name: str = "image") -> dict[str, str]:
        return {"id": (await uploads.receive(request, name)).id}

    @app.get("/api/images/{identity}")
    def state(identity: str) -> dict[str, Any]:
        return _state(worker, _job(worker, identity))

    @app.delete("/api/images/{identity}", status_code=204)
    def remove(identity: str) -> None:
        worker.remove(identity)

    @app.get("/api/images/{identity}/picture")
    def picture(identity: str) -> FileResponse:
        found = _job(worker, identity).picture
        if found is None:
            raise Refused(404, "the image is not read yet")
        return FileResponse(found.file, media_type="image/jpeg")

    @app.get("/api/images/{identity}/{number}/shown")
    def shown(identity: str, number: int) -> FileResponse:
        return FileResponse(_result(worker, identity, number).shown, media_type="application/octet-stream")

    @app.get("/api/images/{identity}/{number}/files/{name}")
    def download(identity: str, number: int, name: str, score: float = 0.0) -> Response:
        path = _result(worker, identity, number).files.get(name)
        if path is None:
            raise Refused(404, "there is no such file")
        if path.suffix in (".json", ".geojson"):
            attached = {"content-disposition": f"attachment; filename*=utf-8''{quote(path.name)}"}
            return Response(from_score(path, score), media_type="application/json", headers=attached)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    return app


def _page(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (_PAGE / name).read_bytes()

    async def page() -> Response:
        return Response(content, media_type=kind)

    return page


def _job(worker: Worker, identity: str) -> Job:
    job = worker.job(identity)
    if job is None:
        raise Refused(404, "there is no such image any more; send it again")
    return job


def _result(worker: Worker, identity: str, number: int) -> Result:
    results = _job(worker, identity).results
    found = results[number] if 0 <= number < len(results) else None
    if not isinstance(found, Result):
        raise Refused(404, "there is no such result")
    return found


def _state(worker: Worker, job: Job) -> dict[str, Any]:
    """What the page is told of an image."""
    told: dict[str, Any] = {"state": job.state, "name": job.name}
    if job.state == "waiting":
        told["ahead"] = worker.ahead(job)
    elif job.state == "predicting":
        told["run"], told["done"], told["total"] = job.doing
    elif job.state == "failed":
        told["error"] = job.error
    elif job.picture is not None:
        told["size"] = [job.picture.height, job.picture.width]
        told["results"] = [
            {"error": found}
            if isinstance(found, str)
            else {"counts": found.counts, "files": list(found.files), "notes": found.notes, "seconds": found.seconds}
            for found in job.results
        ]
    return told
