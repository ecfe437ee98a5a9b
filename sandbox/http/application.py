"""The sample API as a Starlette application: routes, and how responses are sent, with faults."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from sandbox.http import control
from sandbox.sample_server import LINGER_ZERO
from sandbox.vendors.base import Vendor
from sandbox.vendors.messages import VendorRequest, VendorResponse

if TYPE_CHECKING:
    from sandbox.http.server import SampleApi

ANY = "/{rest:path}"


def application(api: SampleApi) -> Starlette:
    """Return the application: control, every vendor under its name, one of them at the root."""
    vendors: list[BaseRoute] = [Mount(f"/{name}", routes=_routes(api, vendor)) for name, vendor in api.vendors.items()]
    served = [*vendors, *_routes(api, api.vendor)]
    if api.prefix:
        served = [Mount(api.prefix, routes=served), _route(api, api.vendor, "unknown", ANY)]

    async def steer(request: Request) -> Response:
        status, body = control.respond(api, request.method, request.url.path, await request.body())
        return JSONResponse(body, status)

    return Starlette(routes=[Route(control.PREFIX + "{rest:path}", steer, methods=["GET", "POST", "DELETE"]), *served])


def _routes(api: SampleApi, vendor: Vendor) -> list[BaseRoute]:
    return [_route(api, vendor, endpoint, path) for path, endpoint in {**vendor.routes, ANY: "unknown"}.items()]


def _route(api: SampleApi, vendor: Vendor, endpoint: str, path: str) -> Route:
    async def respond(request: Request) -> Response:
        call = await VendorRequest.read(vendor, endpoint, request, api.prefix)
        return _Transfer(await run_in_threadpool(api.respond, call))

    return Route(path, respond, methods=vendor.methods)


class _Transfer(Response):
    """Sends a response with the faults of its transfer."""

    def __init__(self, response: VendorResponse) -> None:
        self.response = response
        body, headers = response.encoded(), response.all_headers
        takes = response.request.vendor.compresses and "gzip" in response.request.headers.get("accept-encoding", "")
        if takes and "Content-Encoding" not in headers:
            body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
        super().__init__(body, response.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the server stops
            await self._transfer(scope, receive, send)

    async def _transfer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response, transport = self.response, scope["extensions"]["transport"]
        if response.delay:
            await asyncio.sleep(response.delay)
        if not (response.reset or response.drip or response.send < 1):
            await super().__call__(scope, receive, send)
            return
        if response.reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            transport.abort()
        else:
            await self._write_part(transport)
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _write_part(self, transport: asyncio.Transport) -> None:
        response = self.response
        lines = [
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}".encode(),
            *(b": ".join(pair) for pair in self.raw_headers),
        ]
        head = b"\r\n".join([*lines, b"", b""])
        whole = head + self.body[: int(len(self.body) * response.send)]
        begin = len(whole) if not response.drip else 0 if response.drip_head else len(head)
        transport.write(whole[:begin])
        for place in range(begin, len(whole)):
            if transport.is_closing():
                return
            transport.write(whole[place : place + 1])
            await asyncio.sleep(response.drip)
