"""The connection to TWS or the Gateway of Interactive Brokers, through ``ib_async``.

Every request gets a response or an error within a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import date, datetime
from functools import partial
from typing import Any, TypeVar

from ib_async import IB, Contract, ContractDetails, RequestError

from market_data.core.errors import NetworkError, SchemaDrift, ServerError, TruncatedResponse
from market_data.core.messages import shown
from market_data.providers.ib.listings import listing_of
from market_data.providers.ib.parse import HistoryPage, UnreadableBar, readable_bars

T = TypeVar("T")

CLIENT_IDS = 32
"""As many clients as the gateway takes. A client id that is in use is not an error: the next one is tried."""
BARS, DETAILS = 17, 10
"""Numbers of the messages that bring bars and the details of a contract."""
NO_DATA, IN_USE = 162, 326
LOST = frozenset({502, 504, 1100, 1101, 1102, 1300})
"""The link between gateway and vendor, or between us and the gateway: pending requests may never get a response."""
WARNED = frozenset({321, 329, 434, 10167})
"""Codes that ``ib_async`` treats as warnings, although they end the request."""


class Link:
    """A connection to the gateway, with an event loop that runs only inside these methods.

    A hook is called from code that is not async.

    :param client_id: the first to try.
    :param connecting: seconds until connected. ``deadline``: seconds for a response.
    """

    def __init__(self, host: str, port: int, client_id: int) -> None:
        self.host, self.port, self.client_id = host, port, client_id
        self._ids = range(client_id, client_id + CLIENT_IDS)
        self.connecting, self.deadline = 10.0, 120.0
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._ib: IB | None = None
        self._broken: asyncio.Future[None] | None = None
        self._heads: dict[int, tuple[date | None, int, Sequence[UnreadableBar]]] = {}

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def close(self) -> None:
        self._run(self._drop())
        self._runner.close()

    def history(self, contract: Contract, end: datetime, duration: str, size: str, what: str, *, regular: bool) -> HistoryPage:
        """Return the bars that one request brings.

        :raises RequestError: what the gateway says in place of bars; "no data" is a response with none.
        :raises ProviderError, SchemaDrift: where there is no response, or one that is not whole or not legible.
        """

        def ask(ib: IB) -> Awaitable[Any]:
            return ib.reqHistoricalDataAsync(contract, end, duration, size, what, regular, formatDate=2, timeout=0)

        try:
            bars, number = self._run(self._response(ask))
        except RequestError as error:
            if error.code == NO_DATA and "no data" in error.message.lower():
                return HistoryPage((), None, len(error.message), f"{self.client_id}/{error.reqId}")
            raise
        begins, length, odd = self._heads.pop(number, (None, 0, ()))
        return HistoryPage(bars, begins, length, f"{self.client_id}/{number}", odd)

    @property
    def version(self) -> int:
        """The version of the protocol that the gateway speaks; 0 before the first request."""
        return self._ib.client.serverVersion() if self._ib else 0

    def details(self, contract: Contract) -> list[ContractDetails]:
        """Return all contracts that a description fits.

        :raises RequestError: if there are none.
        """
        found: list[ContractDetails]
        found, _ = self._run(self._response(lambda ib: ib.reqContractDetailsAsync(contract)))
        return found

    def describe(self, contract: Contract) -> str:
        """Return what the gateway calls a contract, and which version of the protocol it speaks."""
        details = self.details(contract)
        return f"protocol version {self.version}, client id {self.client_id}; it knows {contract.symbol} as {details[0].longName}"

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of ``work``, but not as a task's result.

        When the runner restores the handler of SIGINT, Python formats the task with its result. That takes longer than reading a month of
        minutes.
        """
        brought: list[T] = []

        async def keep() -> None:
            brought.append(await work)

        self._runner.run(keep())
        return brought[0]

    async def _response(self, ask: Callable[[IB], Awaitable[T]]) -> tuple[T, int]:
        """Return what a request brings, and its number. Without a response the connection is given up."""
        await _breathe()  # a connection that ended meanwhile is learnt of
        ib = await self._connected()
        number = ib.client.getReqId() + 1  # of the next request

        def told(about: int, code: int, text: str, _: Any) -> None:
            if (about == number and code in WARNED) or (about == -1 and code in LOST):
                self._fail(RequestError(about, code, text))

        self._broken = asyncio.get_running_loop().create_future()
        ib.errorEvent += told
        response = asyncio.ensure_future(ask(ib))
        try:
            either: list[asyncio.Future[Any]] = [response, self._broken]
            await asyncio.wait(either, timeout=self.deadline, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                self._broken.result()
            if response.done():
                return response.result(), number
            lost = f"no whole response in {self.deadline:g} s"
        except OSError:
            lost = f"the link to {self.address} was lost"
        finally:
            ib.errorEvent -= told
            response.cancel()
            self._broken.cancel()
            await asyncio.gather(response, self._broken, return_exceptions=True)
        await self._drop()
        raise NetworkError(lost)

    def _fail(self, error: Exception) -> None:
        """End the running request."""
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _take(self, fields: list[str], read: Callable[[list[str]], None]) -> None:
        """Read a message with bars before ``ib_async`` does: number, begin, end, count, then 8 fields per bar.

        ``ib_async`` gets the bars that can be read.
        """
        try:
            _, number, begins, _, declared, *cells = fields
            request, count = int(number), int(declared)
        except ValueError:
            self._fail(SchemaDrift(f"the head of a message with bars cannot be read: {shown(fields[:5])}"))
            return
        rows, rest = divmod(len(cells), 8)
        if rest or rows < count:
            self._fail(TruncatedResponse(f"{len(cells) / 8:g} bars came, {count} are declared"))
        elif rows > count:
            self._fail(ServerError(f"{rows} bars came, {count} are declared"))
        else:
            kept, odd = readable_bars(cells)
            if count > 1 and 2 * len(odd) > count:
                self._fail(SchemaDrift(f"a bar cannot be read: {odd[0].reason}, and {len(odd)} of {count} bars are like that"))
            try:
                read([*fields[:4], str(count - len(odd)), *kept])
            except (ValueError, OverflowError) as error:
                self._fail(SchemaDrift(f"a bar cannot be read: {shown(str(error), 200)}"))
            self._heads[request] = (_date(begins), sum(len(field) + 1 for field in fields), odd)

    def _take_details(self, fields: list[str], read: Callable[[list[str]], None]) -> None:
        """Read a contract's details; where ``ib_async`` cannot, only the fields that tell the listing."""
        try:
            read([*fields])
        except Exception:  # noqa: BLE001 - it reads some forty fields, each in its own way
            try:
                number, details = listing_of(fields, self.version)
            except (ValueError, IndexError) as error:
                self._fail(SchemaDrift(f"the details of a contract cannot be read: {shown(str(error), 200)}"))
                return
            if self._ib is not None:
                self._ib.wrapper.contractDetails(number, details)

    async def _connected(self) -> IB:
        """Return the connection, opened where there is none. Positions and orders are not requested."""
        if self._ib is not None and self._ib.client.isReady():
            return self._ib
        await self._drop()
        for client_id in self._ids:
            self.client_id = client_id
            ib = await self._opened()
            if ib is not None:
                return ib
        raise NetworkError(f"the client ids {self._ids[0]} to {self._ids[-1]} of {self.address} are all in use")

    async def _opened(self) -> IB | None:
        """Return a new connection, or None where the client id is in use.

        :raises NetworkError: where there is no gateway, or none that takes clients.
        """
        ib = self._ib = IB()
        ib.RaiseRequestErrors = True
        codes: list[int] = []
        ended = asyncio.get_running_loop().create_task(asyncio.Event().wait())  # until cancelled
        ib.errorEvent += lambda *told: codes.append(told[1])
        client: Any = ib.client
        client.conn.disconnected += lambda _: ended.cancel()
        handlers = client.decoder.handlers
        handlers[BARS] = partial(self._take, read=handlers[BARS])
        handlers[DETAILS] = partial(self._take_details, read=handlers[DETAILS])
        opening = asyncio.ensure_future(client.connectAsync(self.host, self.port, self.client_id, self.connecting))
        ib.wrapper.clientId = self.client_id
        try:
            await asyncio.wait([opening, ended], timeout=self.connecting, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
                return ib
        except OSError as error:
            await self._drop()
            raise NetworkError(f"no gateway responds at {self.address} ({type(error).__name__})") from None
        finally:
            closed = ended.cancelled()
            for task in (opening, ended):
                task.cancel()
            await asyncio.gather(opening, ended, return_exceptions=True)
        await self._drop()
        if IN_USE in codes:
            return None
        why = "it ended the connection; is API access enabled, and this host trusted?" if closed else "it does not speak as one"
        raise NetworkError(f"no gateway responds at {self.address}: {why}")

    async def _drop(self) -> None:
        if self._ib is not None:
            client: Any = self._ib.client
            self._ib = None
            with suppress(OSError):
                client.disconnect()
            await _breathe()  # the loop closes the socket
        self._heads.clear()


async def _breathe() -> None:
    """Let the loop read what has come, and do what follows from it."""
    for _ in range(4):
        await asyncio.sleep(0)


def _date(text: str) -> date | None:
    """Return the date of a gateway time stamp (``20130413  16:31:22``, its own time zone), or None."""
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()  # noqa: DTZ007 - a date
    except ValueError:
        return None
