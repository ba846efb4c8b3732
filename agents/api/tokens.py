"""Bearer tokens: JSON Web Tokens by one pinned algorithm, never by the one a token names.

A shared secret means HS256, a key set RS256: what is configured decides, so neither `none` nor a
public key used as a secret gets through (RFC 8725, 3.1 and 3.2).
"""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from agents.api.callers import ANYBODY, TENANT, Caller
from agents.api.keysets import KeysError, KeySet, claims_of
from agents.api.problems import Problem
from agents.settings import ApiSettings, SettingsError

TOKEN_BYTES_MAX = 8192
SECRET_BYTES_MIN = 32  # RFC 7518, 3.2
LISTED_MAX = 1000  # tenants of one token
LOOPBACK = ("127.0.0.1", "::1", "localhost")
ISSUER = "soma"


class Tokens:
    """Says who calls. `SettingsError` if the settings don't allow to tell."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._secret = secret_of(settings)
        self.keys: KeySet | None = None
        if settings.jwks_url or settings.jwks_file is not None:
            self.keys = KeySet(settings.jwks_url, settings.jwks_file)
        self._off = settings.auth == "off"
        check(settings, bool(self._secret), self.keys is not None)

    async def caller(self, authorization: str | None) -> Caller:
        """Who calls, by the request's Authorization header. `Problem` 401, or 503 without keys."""
        if self._off:
            return ANYBODY
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            cause = "another scheme, or no token" if authorization else "no Authorization header"
            raise _unauthorized("A bearer token is wanted.", cause, "")
        token = token.strip()
        if len(token) > TOKEN_BYTES_MAX:
            raise _unauthorized("The token is too long.", f"more than {TOKEN_BYTES_MAX} bytes")
        try:
            return caller_of(await self._claims(token))
        except jwt.ExpiredSignatureError:
            raise _unauthorized("The token has expired.", "expired") from None
        except ClaimsError as error:
            raise _unauthorized("The token isn't valid.", str(error)) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _unauthorized("The token isn't valid.", cause_of(error)) from None

    async def _claims(self, token: str) -> dict[str, Any]:
        of = self._settings
        options: dict[str, Any] = {
            "leeway": of.jwt_leeway_s,
            "issuer": of.jwt_issuer or None,
            "audience": of.jwt_audience or None,
            "options": {
                "require": ["exp", "sub"],
                "verify_aud": bool(of.jwt_audience),
                "verify_iss": bool(of.jwt_issuer),
            },
        }
        if self.keys is None:
            return claims_of(token, self._secret, "HS256", **options)
        kid = jwt.get_unverified_header(token).get("kid")
        try:
            key = await self.keys.key(kid if isinstance(kid, str) else None)
        except KeysError:
            later = {"Retry-After": "10"}
            raise Problem(503, "Tokens can't be checked just now.", later) from None
        if key is None:
            raise ClaimsError("signed with a key that the key set hasn't")
        return claims_of(token, key, "RS256", **options)


class ClaimsError(ValueError):
    """Claims that aren't of our form; the text holds nothing of them."""


def cause_of(error: Exception) -> str:
    """Why a token isn't valid, in words of the library's and not the token's."""
    claim = f": {error.claim}" if isinstance(error, jwt.MissingRequiredClaimError) else ""
    return type(error).__name__ + claim


def caller_of(claims: dict[str, Any]) -> Caller:
    """The caller of verified claims. `ClaimsError` if they aren't of our form."""
    tenants, roles = _names(claims.get("tenants", [])), _names(claims.get("roles", []))
    if not all(name == "*" or TENANT.fullmatch(name) for name in tenants):
        raise ClaimsError("tenants are not names")
    subject = claims["sub"]
    if not subject or len(subject) > 200 or not subject.isprintable():
        raise ClaimsError("no subject")
    return Caller(subject, None if "*" in tenants else frozenset(tenants), frozenset(roles))


def made(settings: ApiSettings, tenants: list[str], roles: list[str], ttl_s: int, sub: str) -> str:
    """A token for trying things out. `SettingsError` where no shared secret is configured."""
    secret = secret_of(settings)
    if not secret or settings.auth == "off":
        raise SettingsError(
            "Tokens are made with a shared secret only: set SOMA_API__JWT_SECRET "
            f"(at least {SECRET_BYTES_MIN} bytes)."
        )
    check(settings, True, bool(settings.jwks_url or settings.jwks_file))
    now = int(time.time())
    claims: dict[str, Any] = {"sub": sub, "iat": now, "exp": now + ttl_s}
    claims |= {"tenants": tenants, "roles": roles, "iss": settings.jwt_issuer or ISSUER}
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, secret, algorithm="HS256")


def secret_of(settings: ApiSettings) -> bytes:
    """The shared secret, or nothing."""
    if settings.jwt_secret_file is None:
        return settings.jwt_secret.get_secret_value().encode()
    if settings.jwt_secret.get_secret_value():
        raise SettingsError("Set one of SOMA_API__JWT_SECRET and SOMA_API__JWT_SECRET_FILE.")
    return _content(settings.jwt_secret_file, "SOMA_API__JWT_SECRET_FILE")


def check(settings: ApiSettings, secret: bool, keys: bool) -> None:
    """`SettingsError` unless it is clear, and safe, how callers are told apart."""
    if settings.auth == "off":
        if settings.host not in LOOPBACK:
            raise SettingsError(
                f"SOMA_API__AUTH=off opens every route: only on the loopback interface, not on "
                f"{settings.host}. Set SOMA_API__HOST=127.0.0.1, or configure tokens."
            )
        return
    if secret + keys != 1 or (settings.jwks_url and settings.jwks_file):
        raise SettingsError(
            "Say how callers are told apart: exactly one of SOMA_API__JWT_SECRET (HS256), "
            "SOMA_API__JWKS_URL or SOMA_API__JWKS_FILE (RS256); or SOMA_API__AUTH=off, which opens "
            "the API to everybody on this machine."
        )
    if secret and len(secret_of(settings)) < SECRET_BYTES_MIN:
        raise SettingsError(f"SOMA_API__JWT_SECRET has fewer than {SECRET_BYTES_MIN} bytes.")
    source = urlsplit(settings.jwks_url)
    if source.scheme == "http" and source.hostname not in LOOPBACK:
        raise SettingsError("SOMA_API__JWKS_URL must be https: whoever is between could sign.")


def _content(file: Path, variable: str) -> bytes:
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"{variable}: {file} can't be read ({error.strerror})") from error


def _names(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ClaimsError("tenants or roles are neither a name nor a list of names")
    if len(names) > LISTED_MAX:
        raise ClaimsError("too many tenants or roles")
    return names


def _unauthorized(detail: str, cause: str, error: str = ' error="invalid_token"') -> Problem:
    problem = Problem(401, detail, {"WWW-Authenticate": f"Bearer{error}"})
    problem.cause = cause
    return problem
