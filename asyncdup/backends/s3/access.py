"""Whom S3 requests are signed for, where they go and for which region: what the user has said, completed by botocore's session.

botocore knows profiles, SSO, assumed roles, container and instance credentials, and costs 0.3 s and 50 MB; it is imported only when keys in
the environment do not settle the matter or a configuration file has a say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asyncdup.backends.s3.options import DEFAULT_REGION, Addressing, S3Options, amazon_host, is_hostable
from asyncdup.backends.s3.sign import Credentials
from asyncdup.errors import OperatorError, UsageError
from asyncdup.threads import in_thread

_PROFILE_NAMES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_NO_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with --s3-profile, or say --s3-anonymous"
_FAILED = "check the profile in ~/.aws/config and ~/.aws/credentials, or log in again (aws sso login)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go. ``host``: as in the Host header; ``base``: path before the key, percent-encoded, without a slash at its end."""

    scheme: str
    host: str
    base: str
    region: str

    @property
    def origin(self) -> str:
        """Scheme and host."""
        return f"{self.scheme}://{self.host}"


class Access:
    """Credentials and place of one bucket. ``prepare`` comes before anything else."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self._session: Any = None  # aiobotocore's AioSession, which is not typed
        self._source: Any = None  # its credentials object, which renews itself before they expire
        self._static: Credentials | None = None
        self._region: str | None = None
        self._target: Target | None = None

    @property
    def target(self) -> Target:
        """Where requests go; known after ``prepare``."""
        assert self._target is not None
        return self._target

    async def prepare(self) -> None:
        """Look up what the user has not said. Raises UsageError and OperatorError. Called again it does nothing."""
        if self._target is not None:
            return
        options = self.options
        if not options.anonymous and options.profile is None:
            self._static = _static(options.environ)
        if await in_thread(self._needs_session):
            self._session = await in_thread(_open_session, options)
            options = self.options = _completed(options, self._session)
            if not options.anonymous and self._static is None:
                self._source = await _find_credentials(self._session)
        self._aim(options)

    async def credentials(self) -> Credentials | None:
        """Those of this moment; None = requests are not signed."""
        if self.options.anonymous:
            return None
        if self._static is not None:
            return self._static
        frozen = await _guarded(self._source.get_frozen_credentials)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    async def renew(self) -> bool:
        """Get new credentials instead of those that the server calls expired (K1); False if there is no source of others."""
        if self._source is None:
            return False
        before = await self.credentials()
        self._session = await in_thread(_open_session, self.options)
        self._source = await _find_credentials(self._session)
        return await self.credentials() != before

    def move_to(self, region: str) -> None:
        """The bucket is in ``region``: from now on requests go there."""
        self._region = region
        self._aim(self.options)

    def _aim(self, options: S3Options) -> None:
        region = self._region or options.region or DEFAULT_REGION
        own = options.endpoint is not None
        scheme, _, rest = (options.endpoint or f"{options.scheme}://{amazon_host(region)}").partition("://")
        host, slash, path = rest.partition("/")
        base = f"{slash}{path}".rstrip("/")
        if _in_path(options.addressing, own, options.bucket):
            base = f"{base}/{options.bucket}"
        else:
            host = f"{options.bucket}.{host}"
        self._target = Target(scheme=scheme, host=_without_default_port(scheme, host.lower()), base=base, region=region)

    def _needs_session(self) -> bool:
        options = self.options
        if options.profile is not None or (self._static is None and not options.anonymous):
            return True
        if options.endpoint is not None and options.region is not None:
            return False
        return any(_has_a_say(path, options) for path in _files(options.environ))


def _in_path(addressing: Addressing, own_endpoint: bool, bucket: str) -> bool:
    if addressing == "auto":
        return own_endpoint or not is_hostable(bucket)
    return addressing == "path"


def _without_default_port(scheme: str, host: str) -> str:
    """As HTTP clients write the Host header, which is signed."""
    return host.removesuffix({"https": ":443", "http": ":80"}[scheme])


def _static(environ: Mapping[str, str]) -> Credentials | None:
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    return Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None) if key and secret else None


def _files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    home = Path(environ.get("HOME") or "~").expanduser()
    return (
        Path(environ.get("AWS_CONFIG_FILE") or home / ".aws" / "config").expanduser(),
        Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials").expanduser(),
    )


def _has_a_say(path: Path, options: S3Options) -> bool:
    """Whether a configuration file may hold what ``_completed`` would take from it; a profile that is named must be in one."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError:
        return True  # botocore knows what to say of it
    if any(options.environ.get(name) for name in _PROFILE_NAMES):
        return True
    return any(word in text for word in ("endpoint_url", "addressing_style", "ca_bundle", *(() if options.region else ("region",))))


def _open_session(options: S3Options) -> Any:
    """In a thread: importing botocore takes a while, and the session reads files."""
    sessions = importlib.import_module("aiobotocore.session")
    session = sessions.AioSession()
    profile = options.profile or next(filter(None, map(options.environ.get, _PROFILE_NAMES)), None)
    if profile:
        session.set_config_variable("profile", profile)
    config, shared = _files(options.environ)
    session.set_config_variable("config_file", str(config))
    session.set_config_variable("credentials_file", str(shared))
    _read_profile(session)
    return session


def _read_profile(session: Any) -> Mapping[str, Any]:
    exceptions = importlib.import_module("botocore.exceptions")
    try:
        profile: Mapping[str, Any] = session.get_scoped_config()
    except exceptions.ProfileNotFound as exc:
        raise UsageError(str(exc), hint="list them with: aws configure list-profiles") from exc
    except exceptions.BotoCoreError as exc:
        raise UsageError(f"the AWS configuration cannot be read: {exc}") from exc
    return profile


def _completed(options: S3Options, session: Any) -> S3Options:
    """``options`` with what the configuration file says where they say nothing."""
    profile = _read_profile(session)
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    of_s3 = _table(services.get("s3"))
    endpoint = of_s3.get("endpoint_url") or profile.get("endpoint_url")
    if str(profile.get("ignore_configured_endpoint_urls", "")).lower() == "true":
        endpoint = None
    style = _table(profile.get("s3")).get("addressing_style")
    return replace(
        options,
        endpoint=options.endpoint or (endpoint.rstrip("/") if endpoint else None),
        region=options.region or profile.get("region"),
        addressing=style if options.addressing == "auto" and style in ("path", "virtual") else options.addressing,
        ca_file=options.ca_file or profile.get("ca_bundle"),
    )


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


async def _find_credentials(session: Any) -> Any:
    source = await _guarded(session.get_credentials)
    if source is None:
        raise OperatorError("there are no credentials for S3", hint=_NO_CREDENTIALS)
    return source


async def _guarded(call: Callable[[], Any]) -> Any:
    """What ``call`` returns. botocore's many ways to fail are one to the user: no credentials could be had."""
    exceptions = importlib.import_module("botocore.exceptions")
    try:
        return await call()
    except (exceptions.BotoCoreError, exceptions.ClientError) as exc:
        raise OperatorError(f"the credentials for S3 could not be had: {exc}", hint=_FAILED) from exc
