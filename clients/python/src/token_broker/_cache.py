"""The cache of one account: its token, its last failure, and the decisions that follow. No clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ._errors import InvalidRequest, TokenBrokerError

#: The default `min_ttl_seconds`; half of the lifetime of tokens that live for less than twice this.
_DEFAULT_MIN_TTL = 60
#: A round trip of up to this many seconds does not count against `min_ttl_seconds`. The broker's own margin covers it.
_ROUND_TRIP_SECONDS = 2
#: How far the clock may step back before remembered times are no longer trusted.
CLOCK_STEP_SECONDS = 5
#: For this long after a failed call, callers get its error again. It doubles with each failure in a row.
_FIRST_COOLDOWN_SECONDS = 0.25
_LONGEST_COOLDOWN_SECONDS = 10
#: The longest pause between two failed renewals in the background.
_LONGEST_RENEWAL_PAUSE_SECONDS = 300
#: The pause after a renewal that returned an older token. An instance of the broker may lag behind for this long.
_OLDER_TOKEN_SECONDS = 30
#: After the broker has found a reported token alive, the same generation is not reported again for this long.
_REPORT_SECONDS = 5


@dataclass(frozen=True)
class Token:
    """A bearer token. Only `access_token` and `authorization` show it; `repr` and `str` do not."""

    access_token: str = field(repr=False)
    generation: int
    account: str
    #: When the request for it was sent, by the wall clock.
    requested_at: float
    #: When the caller must stop using it, by the wall clock.
    expires_at: float
    #: Fields of the upstream's answer that the broker passes on, such as the host of the account's API.
    extra: Mapping[str, object] = field(default_factory=dict, repr=False, hash=False)

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        return f"Bearer {self.access_token}"

    @property
    def _lifetime(self) -> float:
        return self.expires_at - self.requested_at


@dataclass(frozen=True)
class Demand:
    """What a caller needs: a token for this many seconds, and an answer to its report."""

    min_ttl: int | None = None
    rejected: int | None = None

    def is_covered_by(self, other: Demand) -> bool:
        """Whether the result of a call for `other` answers this one too."""
        long_enough = self.min_ttl is None or (other.min_ttl is not None and other.min_ttl >= self.min_ttl)
        reported = self.rejected is None or (other.rejected is not None and other.rejected >= self.rejected)
        return long_enough and reported

    def _wanted(self, token: Token) -> float:
        return min(_DEFAULT_MIN_TTL, token._lifetime / 2) if self.min_ttl is None else self.min_ttl

    def is_met(self, token: Token, now: float) -> bool:
        # Rounded up: the broker's margin covers a second, and a caller may ask for the longest lifetime.
        left = math.ceil(token.expires_at - now)
        return left > 0 and left >= math.floor(self._wanted(token))

    def check(self, token: Token, now: float) -> Token:
        """The token that a call for this demand has just returned, if it lasts long enough."""
        left, wanted = token.expires_at - now, self._wanted(token)
        if left > 0 and token._lifetime >= wanted and left + _ROUND_TRIP_SECONDS >= wanted:
            return token
        lasts = f"the token lasts only {math.ceil(left)} s; {math.ceil(wanted)} s were requested"
        raise TokenBrokerError("token_expires_too_soon", lasts)


ANY = Demand()


@dataclass
class _Failure:
    error: BaseException
    at: float
    #: Until then, callers get the error.
    until: float
    #: Until then, nothing is renewed in the background.
    renew_after: float
    in_a_row: int


class Entry:
    """What the source knows about one account."""

    def __init__(self) -> None:
        self.token: Token | None = None
        self.renew_at = 0.0
        #: The reported generation that the broker last answered with this token instead of a newer one, and when.
        self.confirmed: tuple[int, float] = (-1, 0.0)
        self.failure: _Failure | None = None

    @property
    def expires_at(self) -> float:
        return 0.0 if self.token is None else self.token.expires_at

    def answer(self, demand: Demand, now: float) -> Token | None:
        token = self.token
        if token is None or token.requested_at > now + CLOCK_STEP_SECONDS or not demand.is_met(token, now):
            return None
        if demand.rejected is not None and token.generation <= demand.rejected:
            generation, at = self.confirmed
            if generation != demand.rejected or not -CLOCK_STEP_SECONDS <= now - at < _REPORT_SECONDS:
                return None
        return token

    def renewal_is_due(self, now: float) -> bool:
        pause = 0 if self.failure is None else self.failure.renew_after - now
        return now >= self.renew_at and not 0 < pause <= 2 * _LONGEST_RENEWAL_PAUSE_SECONDS

    def raise_failure(self, now: float) -> None:
        failure = self.failure
        if failure is None or not 0 < failure.until - now <= 2 * _LONGEST_COOLDOWN_SECONDS:
            return
        error = failure.error
        if isinstance(error, TokenBrokerError):
            left = None if error.retry_after is None else math.ceil(failure.at + error.retry_after - now)
            error = TokenBrokerError.of(error.code, error.description, left, error.request_id)
        raise error

    def store(self, demand: Demand, token: Token, now: float, draw: float) -> None:
        self.failure = None
        known = self.token
        # A call that was overtaken brings an older token, and so does an instance of the broker that is behind. But if
        # the API refused the known token, and the broker answers that with an older one, its table was restored.
        if (
            known is not None
            and known.generation > token.generation
            and demand.is_met(known, now)
            and (demand.rejected is None or demand.rejected < known.generation)
        ):
            self.renew_at = max(self.renew_at, now + _OLDER_TOKEN_SECONDS)
            return
        self.token = token
        # Up to a tenth earlier, so that a fleet that started together does not renew together.
        self.renew_at = token.requested_at + token._lifetime * 2 / 3 * (1 - draw / 10)
        is_alive = demand.rejected is not None and token.generation <= demand.rejected
        self.confirmed = (demand.rejected or 0, now) if is_alive else (-1, 0.0)

    def fail(self, demand: Demand, error: BaseException, now: float, draw: float) -> None:
        if demand != ANY and isinstance(error, InvalidRequest):
            return  # an error in one caller's options must not delay others
        in_a_row = 0 if self.failure is None else self.failure.in_a_row + 1
        backoff = _FIRST_COOLDOWN_SECONDS * 2 ** min(in_a_row, 16)
        retry_after = (error.retry_after if isinstance(error, TokenBrokerError) else None) or 0
        cooldown = min(
            retry_after or min(backoff, _LONGEST_COOLDOWN_SECONDS) * (1 + draw) / 2, _LONGEST_COOLDOWN_SECONDS
        )
        pause = min(max(retry_after, backoff), _LONGEST_RENEWAL_PAUSE_SECONDS) * (1 + draw / 10)
        self.failure = _Failure(error, now, now + cooldown, now + pause, in_a_row)
