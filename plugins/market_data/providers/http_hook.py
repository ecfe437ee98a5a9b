"""The base of providers with an HTTP API: one transport, opened and closed, and connection checks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

from market_data.core.errors import ProviderError
from market_data.http.client import Response, Transport
from market_data.providers.base import ProviderHook

TransportT = TypeVar("TransportT", bound=Transport)


class TransportHook(ProviderHook, Generic[TransportT]):
    """A hook that makes its calls through a transport of its own kind."""

    password_needed: ClassVar[str] = "the API key is needed there"  # noqa: S105 - words
    """The end of the message where the connection's password is empty."""
    _transport: TransportT | None = None

    def connect(self) -> None:
        if self._transport is None:
            self._transport = self._make_transport()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        super().close()

    @property
    def transport(self) -> TransportT:
        """The open transport.

        :raises RuntimeError: before `connect`.
        """
        if self._transport is None:
            raise RuntimeError("call connect() first")
        return self._transport

    @abstractmethod
    def _make_transport(self) -> TransportT:
        """Return a transport for the account; no call is made."""

    @abstractmethod
    def _classify(self, response: Response, what: str) -> ProviderError | None:
        """Return the typed error of a response that is not a success, else None.

        :param what: the request in words, for messages.
        """

    def _connection_problems(self) -> list[str]:
        problems = super()._connection_problems()
        if not self.config.password:
            problems.append(f"connection {self.config.conn_id!r}: password is empty; {self.password_needed}")
        return problems


class HttpProviderHook(TransportHook[Transport]):
    """A hook for an HTTP API whose key is sent in headers."""

    @abstractmethod
    def _headers(self) -> Mapping[str, str]:
        """Return the headers that carry the key."""

    def _secrets(self) -> tuple[str, ...]:
        """Return what must not appear in messages."""
        return (self.config.password,)

    def _make_transport(self) -> Transport:
        return Transport(
            self.provider,
            self.base_url,
            self._headers(),
            self.pacer(),
            self._classify,
            self._secrets(),
            self.retry,
            counters=self.counters,
        )
