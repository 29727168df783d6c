"""The HTTP app: three protocols with the same answers, health, metrics, and a page to drop an image on."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from ensemble.images.inputs import Pixels
from ensemble.serving import hugging_face, open_inference, plain
from ensemble.serving.bodies import decode_all
from ensemble.serving.meters import Meters
from ensemble.serving.service import About, Answer, RequestError, Service
from ensemble.serving.settings import ServingConfig

_PAGE = Path(__file__).with_name("page.html")
_RETRY_AFTER_S = 1
_OPEN_PATHS = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")
_PLAIN_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "format": "byte"},
                        "images": {"type": "array", "items": {"type": "string", "format": "byte"}},
                        "top_k": {"type": "integer", "minimum": 1},
                        "explain": {"type": "boolean"},
                        "probabilities": {"type": "boolean"},
                    },
                }
            },
        },
    }
}


def make_app(
    service: Service, config: ServingConfig, key: str | None = None, lifespan: Any = None
) -> FastAPI:
    """Make the app.

    Args:
        service: Whoever predicts.
        config: Limits, and defaults of requests.
        key: What clients must send as `Authorization: Bearer KEY`; everybody is answered if None.
        lifespan: What is entered, with the app, before the first request and left after the last one.
    """
    server = _Server(service, config)
    app = FastAPI(title=f"Ensemble {service.about.name}", version="1", lifespan=lifespan)

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        headers = {"Retry-After": str(_RETRY_AFTER_S)} if error.status == 503 else {}
        return JSONResponse({"error": str(error)}, error.status, headers)

    if key is not None:
        app.add_middleware(_KeyCheck, key=key)
    app.include_router(_questions(server))
    app.include_router(_descriptions(server, service.about))
    app.include_router(_health(server, service))
    return app


class _KeyCheck:
    """Answers 401 to whoever does not send the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            header = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(header, self._expected):
                refusal = JSONResponse(
                    {"error": "the key is missing or wrong; expected Authorization: Bearer KEY."},
                    401,
                    {"WWW-Authenticate": "Bearer"},
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _questions(server: "_Server") -> APIRouter:
    """The routes that answer images."""
    router = APIRouter()

    @router.post("/v1/predict", openapi_extra=_PLAIN_BODY)
    async def predict(request: Request) -> Any:
        """Answer one image or several: as they are, as files of a form, or as base64 in JSON."""
        async with server.measured("plain"):
            return JSONResponse(await server.predict_plain(request))

    @router.post("/", include_in_schema=False)
    async def classify(request: Request) -> Any:
        async with server.measured("hugging_face"):
            return JSONResponse(await server.classify(request))

    @router.post("/v2/models/{name}/infer")
    @router.post("/v2/models/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, name: str) -> Any:
        """Answer a request of the Open Inference Protocol."""
        async with server.measured("open_inference"):
            server.check_name(name)
            return JSONResponse(await server.infer(request))

    return router


def _descriptions(server: "_Server", about: About) -> APIRouter:
    """The routes that tell what is served, and the page to try it."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers={"X-Frame-Options": "DENY"})

    @router.get("/v2")
    async def describe_server() -> Any:
        return {"name": "ensemble", "version": "1", "extensions": ["binary_tensor_data"]}

    @router.get("/v2/models/{name}")
    @router.get("/v2/models/{name}/versions/{version}", include_in_schema=False)
    async def describe_model(name: str) -> Any:
        server.check_name(name)
        return open_inference.describe(about)

    return router


def _health(server: "_Server", service: Service) -> APIRouter:
    """The routes that tell whether all is well, and how much was answered."""
    router = APIRouter()

    @router.get("/livez")
    @router.get("/v2/health/live", include_in_schema=False)
    async def live() -> Any:
        """Tell that the server answers at all."""
        return {"live": True}

    @router.get("/readyz")
    @router.get("/v2/health/ready", include_in_schema=False)
    @router.get("/v2/models/{name}/ready", include_in_schema=False)
    async def ready() -> Response:
        """Hash changed files, replay the golden inputs, and tell whether all answers are as they should be."""
        problems = await service.problems()
        return JSONResponse(
            {"ready": not problems, "problems": list(problems)}, 503 if problems else 200
        )

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(server.meters.text(), media_type="text/plain; version=0.0.4")

    return router


class _Server:
    def __init__(self, service: Service, config: ServingConfig) -> None:
        self._service, self._config = service, config
        self._under_way = 0
        self.meters = Meters()

    @asynccontextmanager
    async def measured(self, protocol: str) -> AsyncIterator[None]:
        """Count a request, and refuse it where too many are under way."""
        began, status = time.perf_counter(), 200
        try:
            if self._under_way >= self._config.max_queue:
                raise RequestError(
                    503, f"{self._under_way} requests are under way; send this one again later."
                )
            self._under_way += 1
            self.meters.set_under_way(self._under_way)
            try:
                yield
            finally:
                self._under_way -= 1
                self.meters.set_under_way(self._under_way)
        except RequestError as error:
            status = error.status
            raise
        except BaseException:
            status = 500
            raise
        finally:
            self.meters.count_request(protocol, status, time.perf_counter() - began)

    def check_name(self, name: str) -> None:
        """Refuse a request for another model.

        Raises:
            RequestError: The name is not that of the ensemble.
        """
        if name != self._service.about.name:
            raise RequestError(
                404, f"no model {name!r:.60} is here; expected {self._service.about.name!r}."
            )

    async def predict_plain(self, request: Request) -> dict[str, Any]:
        query, top_k = dict(request.query_params), self._config.top_k
        kind = _media_type(request)
        if kind == "application/json":
            question = plain.read_document(await self._body(request), query, top_k)
        elif kind == "multipart/form-data":
            files, fields = await self._form(request)
            question = plain.read_encoded(files, {**query, **fields}, top_k)
        elif kind.startswith("image/") or kind in ("", "application/octet-stream"):
            question = plain.read_encoded([await self._body(request)], query, top_k)
        else:
            raise RequestError(
                415,
                f"the type of the body is {kind!r:.60}; expected image/…, application/octet-stream, "
                "multipart/form-data or application/json.",
            )
        answers = await self._answer(await self._decode(question.images))
        return plain.write(answers, question, self._service.about)

    async def classify(self, request: Request) -> list[dict[str, Any]]:
        is_json = _media_type(request) == "application/json"
        image, top_k = hugging_face.read(await self._body(request), is_json, self._config.top_k)
        (answer,) = await self._answer(await self._decode([image]))
        return hugging_face.write(answer, top_k, self._service.about)

    async def infer(self, request: Request) -> dict[str, Any]:
        length = request.headers.get(open_inference.LENGTH_HEADER)
        question = open_inference.read(await self._body(request), length)
        self._check_count(len(question))
        pixels = await asyncio.to_thread(question.decode, self._config.max_pixels)
        return open_inference.write(await self._answer(pixels), question, self._service.about)

    async def _decode(self, images: Sequence[bytes]) -> list[Pixels]:
        self._check_count(len(images))
        return await asyncio.to_thread(decode_all, images, self._config.max_pixels)

    async def _answer(self, pixels: Sequence[Pixels]) -> list[Answer]:
        answers = []
        for number, answer in enumerate(await self._service.answer(pixels)):
            if isinstance(answer, str):
                raise RequestError(400, f"image {number} cannot be predicted: {answer}.")
            self.meters.count_image(answer.label, answer.routed, answer.exit_step)
            answers.append(answer)
        return answers

    def _check_count(self, count: int) -> None:
        if not 1 <= count <= self._config.max_images:
            raise RequestError(
                400,
                f"there are {count} images in the request; expected 1 to {self._config.max_images}.",
            )

    async def _body(self, request: Request) -> bytes:
        """Read the body, and no more of it than is allowed."""
        most = int(self._config.max_body_mb * 1e6)
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise RequestError(
                413, f"the body has {int(length):,} bytes; expected {most:,} at most."
            )
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise RequestError(413, f"the body has more than {most:,} bytes.")
                parts.append(part)
        except ClientDisconnect as error:
            raise RequestError(400, "the client went away before the body was there.") from error
        return b"".join(parts)

    async def _form(self, request: Request) -> tuple[list[bytes], dict[str, str]]:
        """Read the files of a form, and its other fields.

        The body is read within its bound first; the form is then read from memory.
        """
        body = await self._body(request)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        copy = Request(request.scope, receive)
        most = self._config.max_images
        try:
            async with copy.form(max_files=most, max_fields=len(_FORM_FIELDS)) as form:
                files = [
                    await value.read()
                    for _, value in form.multi_items()
                    if isinstance(value, UploadFile)
                ]
                fields = {
                    name: value for name, value in form.multi_items() if isinstance(value, str)
                }
        except (HTTPException, MultiPartException, ValueError) as error:
            reason = getattr(error, "detail", error)
            raise RequestError(400, f"the form cannot be read: {reason}") from error
        unknown = sorted(fields.keys() - set(_FORM_FIELDS))
        if unknown:
            raise RequestError(
                400,
                f"no field {unknown[0]!r:.40} is known; expected files, and {', '.join(_FORM_FIELDS)}.",
            )
        return files, fields


_FORM_FIELDS = ("top_k", "explain", "probabilities")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
