"""The tree of errors, grouped by the required reaction.

::

    MarketDataError
      ConfigError                  a connection, feed or environment setting is wrong        fail now
        ClockError                 a clock is wrong: two clocks differ, or a stamp is in the future
      ParamError                   run parameters are wrong; lists every problem             fail now
      ProviderError                a provider reported an error, or failed to respond
        RetriableError             the same request may work later                          retry
          NetworkError             no response: refused, reset, timed out
          ServerError              5xx, or a body that is not the API's (HTML, empty)
          TruncatedResponse        a response, but provably incomplete
          Throttled                429; ``retry_after`` seconds if the provider sent them    wait
          CircuitOpen              too many failures in a row: no calls before ``until``     wait
        TerminalError              no retry will help                                       fail now
          AuthError                the key is missing, unknown or revoked
          EntitlementError         the plan does not include this data
          BadRequest               the provider refused the request as malformed
          QuotaExhausted           a long quota is used up until ``resets_at``
        PerCellError               affects some cells only                                 record, continue
          UnknownSymbol            the provider does not know ``symbols``
          NotYetAvailable          the session is available from ``until`` on
      DataError                    the data is wrong                                        quarantine
        SchemaDrift                fields or types differ from the contract
        QualityError               the checkpoint could not judge it
      LakeError                    the object store failed; stored objects are unchanged   retry
        BrokenObject               an object was read as a whole, and its content is not what belongs there
      WarehouseError               the warehouse failed; stored rows are unchanged         retry
      RunTimeout                   the feed's run_timeout is over                          fail now

``market_data.airflow.retry`` maps the tree to Airflow, in one table. Every error can be pickled (it crosses process boundaries). Its
message names the field, the value and what is allowed, and never contains a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from market_data.core import settings


def _rebuild(cls: type[MarketDataError], state: dict[str, Any]) -> MarketDataError:
    error = cls.__new__(cls)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


class MarketDataError(Exception):
    """Base of all errors of this package. ``message`` is the text for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__)

    def __str__(self) -> str:
        return self.message

    @property
    def page(self) -> str:
        """The section of the documentation on this type.

        An address if ``MARKET_DATA_DOCS`` is set, else a path of the repository.
        """
        site = settings.value("MARKET_DATA_DOCS").rstrip("/")
        known = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        return f"{f'{site}/reference/errors.html' if site else 'docs/reference/errors.md'}#{known.__name__.lower()}"

    def with_page(self) -> str:
        """Return the message, and on a line of its own where the documentation explains it."""
        return f"{self.message}\nSee {self.page}"


class ConfigError(MarketDataError):
    """A connection, feed or environment setting is wrong."""


class ClockError(ConfigError):
    """Two clocks differ, or a stored stamp lies in the future: the newest response is not known.

    :param gap: by how much; None: not known.
    """

    def __init__(self, message: str, gap: timedelta | None = None) -> None:
        super().__init__(message)
        self.gap = gap


class ParamError(MarketDataError):
    """Run parameters are wrong. ``problems`` holds a sentence per problem, all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = "".join(f"\n  {n}. {problem}" for n, problem in enumerate(self.problems, 1))
        super().__init__(f"{count} {noun} with the run parameters:{lines}")


class ProviderError(MarketDataError):
    """A provider reported an error, or failed to respond.

    :param provider: registry name, e.g. ``polygon``.
    :param request: the request in words, without secrets, e.g. ``grouped 2012-01-03``.
    :param request_id: the provider's own id of the response, for a support ticket.

    ``said`` keeps the bare message; ``message`` adds provider, request and the class's advice, ``to_do``.
    """

    to_do: ClassVar[str] = ""

    def __init__(self, message: str, *, provider: str = "", request: str = "", request_id: str = "") -> None:
        self.said, self.provider, self.request, self.request_id = message, provider, request, request_id
        super().__init__(self._words())

    def at(self, *, provider: str, request: str) -> Self:
        """Add where the error happened, and return it."""
        self.provider, self.request = provider, request
        self.message = self._words()
        return self

    def _words(self) -> str:
        where = "".join(f"{part}: " for part in (self.provider, self.request) if part)
        suffix = f" [request id {self.request_id}]" if self.request_id else ""
        advice = f". To do: {self.to_do}" if self.to_do else ""
        return f"{where}{self.said}".rstrip(". ") + suffix + advice


class RetriableError(ProviderError):
    """The same request may work later."""


class NetworkError(RetriableError):
    """No response: connection refused or reset, name not found, timed out."""

    to_do = "retried automatically; if it persists, check the connection's host and your network"


class ServerError(RetriableError):
    """The provider failed: status 5xx, or a body that is not its API's."""

    to_do = "retried automatically; if it persists, see the provider's status page"


class TruncatedResponse(RetriableError):
    """A response arrived, but is provably incomplete."""

    to_do = "retried automatically; none of the partial response was kept"


class Throttled(RetriableError):
    """Too many requests. ``retry_after``: the seconds to wait that the provider sent, or None."""

    to_do = "retried when the provider allows; if it happens often, give the pool fewer slots or the connection lower limits"

    def __init__(self, message: str, *, retry_after: float | None = None, **where: str) -> None:
        super().__init__(message, **where)
        self.retry_after = retry_after


class CircuitOpen(RetriableError):
    """The provider failed too often in a row.

    No calls are made before ``until`` (UTC), which is in ``retry_after`` seconds.
    """

    to_do = "retried after that; if it persists, see the provider's status page, then clear the failed tasks"

    def __init__(self, message: str, *, until: datetime, retry_after: float, **where: str) -> None:
        super().__init__(message, **where)
        self.until, self.retry_after = until, retry_after


class TerminalError(ProviderError):
    """No retry will help."""


class AuthError(TerminalError):
    """The key is missing, unknown or revoked."""

    to_do = "put a valid key into the connection, then clear the failed tasks"


class EntitlementError(TerminalError):
    """The plan does not include this data."""

    to_do = "request what the plan includes (the connection's extra.plan names it), or upgrade it"


class BadRequest(TerminalError):
    """The provider refused the request as malformed."""

    to_do = "correct the symbol or the params; the same request will fail again"


class QuotaExhausted(TerminalError):
    """A long quota (a day's, a month's) is used up. ``resets_at``: UTC, or None where unknown."""

    to_do = "clear the failed tasks when the quota is renewed"

    def __init__(self, message: str, *, resets_at: datetime | None = None, **where: str) -> None:
        super().__init__(message, **where)
        self.resets_at = resets_at


class PerCellError(ProviderError):
    """An error that affects some cells only: record their state and continue."""


class UnknownSymbol(PerCellError):
    """The provider does not know ``symbols``."""

    def __init__(self, message: str, *, symbols: Sequence[str], **where: str) -> None:
        super().__init__(message, **where)
        self.symbols = tuple(symbols)


class NotYetAvailable(PerCellError):
    """The plan does not have the session yet; ``until``: UTC moment from which to request it again."""

    def __init__(self, message: str, *, until: datetime, **where: str) -> None:
        super().__init__(message, **where)
        self.until = until


class DataError(MarketDataError):
    """The data is wrong."""


class SchemaDrift(DataError):
    """Fields or types differ from the contract."""


class QualityError(DataError):
    """The checkpoint could not judge the rows, or planned cells are missing."""


class LakeError(MarketDataError):
    """The object store failed; stored objects are unchanged."""


OTHER_FORM = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors of reading a stored JSON document of another form; a RecursionError where it is nested too deeply."""


class BrokenObject(LakeError):
    """An object exists and was read as a whole, but its content is not what belongs there.

    A failure of the object store is never a broken object.
    """


class WarehouseError(MarketDataError):
    """The warehouse failed; the transaction was rolled back.

    :param retriable: the same load may work later.
    """

    def __init__(self, message: str, *, retriable: bool = True) -> None:
        super().__init__(message)
        self.retriable = retriable


class RunTimeout(MarketDataError):
    """The feed's ``run_timeout`` is over; the work that is named was left undone."""


__all__: Sequence[str] = [name for name, item in list(globals().items()) if isinstance(item, type) and issubclass(item, Exception)]
