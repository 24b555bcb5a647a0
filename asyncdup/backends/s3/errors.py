"""What an answer of an S3 server, or the lack of one, means to the engine: one table of classes (engine semantics, section 3)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from asyncdup.backends import oserrors
from asyncdup.backends.s3.xml import Fault
from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, Precondition, RetryableError, Unsupported, in_words

_THROTTLES = frozenset(
    [
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
    ]
)
_RETRIES = frozenset(
    [
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RequestTimeout",
        "ServiceUnavailable",
        "OperationAborted",
        "ConditionalRequestConflict",
        "BadDigest",
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "RequestTimeoutException",
        "TransientError",
        "Busy",
    ]
)
_RETRY_STATUS = frozenset({408, 409, 425, 500, 502, 503, 504})
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "NoSuchVersion"})
_SPACE = frozenset(
    [
        "QuotaExceeded",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
        "InsufficientStorage",
        "NoSpaceLeft",
        "EntityQuotaExceeded",
        "BucketQuotaExceeded",
    ]
)
_UNABLE = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed"})
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"})
SKEWED = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in ~/.aws/credentials"
_BUCKET = "check the bucket's name, --s3-endpoint-url and --s3-region-name; a bucket is never made by a backup"
# What only a person can put right, and how.
_REMEDIES = {
    "AccessDenied": "the credentials may not do this here: check the policies of the user and the bucket",
    "AllAccessDisabled": "the bucket is closed by its owner or provider",
    "AccountProblem": "ask the provider about the account",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS + ", and that no proxy changes requests",
    "ExpiredToken": "the credentials have expired and could not be renewed: log in again (aws sso login, new AWS_SESSION_TOKEN)",
    "InvalidToken": "AWS_SESSION_TOKEN is not of these keys: log in again, or unset it",
    "RequestTimeTooSkewed": "set this machine's clock",
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "PermanentRedirect": _BUCKET,
    "AuthorizationHeaderMalformed": "set --s3-region-name to the bucket's region",
    "IllegalLocationConstraintException": "set --s3-region-name to the bucket's region",
    "InvalidRegion": "set --s3-region-name to the bucket's region",
    "InvalidObjectState": "the object is archived: bring it back first (aws s3api restore-object), then run this again",
    "KMS.DisabledException": "enable the key of --s3-kms-key-id",
    "KMS.NotFoundException": "check --s3-kms-key-id",
    "InvalidStorageClass": "this server does not have the storage class: leave --s3-use-… away",
}
_REMEDIES |= dict.fromkeys(("ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"), _REMEDIES["ExpiredToken"])
_REMEDIES["RequestInTheFuture"] = _REMEDIES["RequestTimeTooSkewed"]
_UNKNOWN_REFUSAL = "the server refuses the credentials: check them, and the policies of the user and the bucket"

_NO_FAULT = Fault()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error.

    Attributes:
        doing: what was asked, at which place, without secrets.
        status: HTTP's.
        retry_after: seconds, if the server said so.
        object_asked: a 404 without a code is about an object, not the bucket.
    """

    doing: str
    status: int
    fault: Fault = _NO_FAULT
    retry_after: float | None = None
    object_asked: bool = True

    @property
    def code(self) -> str:
        """S3's name for the error; ``""`` if the answer had none."""
        return self.fault.code

    def error(self) -> BackendError:
        """What can be done about it."""
        text = f"{self.doing}: {self._reason()}"
        if self.code in _THROTTLES or self.status == 429:
            return RetryableError(text, throttle=True, retry_after=self.retry_after, scope="lane")
        if self.code in _REMEDIES:
            return OperatorError(text, hint=_REMEDIES[self.code])
        if self.code in _SPACE or self.status in (402, 507):
            return OperatorError(text, space=True, hint="make room at the provider, or raise the quota")
        if self.code in _ABSENT:
            return NotFound(text)
        if self.code in _UNABLE or self.status in (405, 501):
            return Unsupported(text)
        if self.code == "PreconditionFailed" or self.status == 412:
            return Precondition(text)
        if self.code in _RETRIES or self.status in _RETRY_STATUS:
            return RetryableError(text, retry_after=self.retry_after)
        return self._by_status(text)

    def _by_status(self, text: str) -> BackendError:
        if self.status == 404:
            return NotFound(text) if self.object_asked else OperatorError(text, hint=_BUCKET)
        if self.status in (401, 403):
            return OperatorError(text, hint=_UNKNOWN_REFUSAL)
        if self.status in (301, 302, 307, 308):
            return OperatorError(text, hint=_BUCKET)
        if self.status >= 500 or self.status < 300:
            return RetryableError(text, retry_after=self.retry_after)
        return BadRequest(text)

    def _reason(self) -> str:
        message = " ".join(self.fault.message.split())[:300]
        words = [word for word in (self.code, "".join(c for c in message if c.isprintable())) if word]
        return ": ".join(words) or f"HTTP status {self.status}"


def translate(exc: Exception, doing: str, *, begun: bool) -> BackendError:
    """The class of an error of the transport. ``begun``: bytes of a body may have reached the server, so the outcome is not known."""
    if isinstance(exc, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return OperatorError(
            f"{doing}: {exc}", hint="check the server's certificate and the clock; --ssl-cacert-file names another authority"
        )
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return OperatorError(f"{doing}: the proxy answers {exc.status}", hint="check http_proxy, https_proxy and no_proxy")
    if isinstance(exc, aiohttp.ClientConnectorError):
        return RetryableError(f"{doing}: {exc.host}, port {exc.port}: {in_words(exc)}", scope="lane")
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return RetryableError(f"{doing}: {in_words(exc)}", scope="lane")
    if isinstance(exc, TimeoutError):
        return RetryableError(f"{doing}: no answer in time", ambiguous=begun)
    if isinstance(exc, OSError) and exc.errno is not None:
        error = oserrors.classify(exc, doing, ambiguous=begun)
        return error if isinstance(error, RetryableError) else RetryableError(str(error), ambiguous=begun)
    if isinstance(exc, aiohttp.InvalidURL):
        return OperatorError(f"{doing}: {exc} is no URL", hint="check --s3-endpoint-url")
    reason = str(exc) if isinstance(exc, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)) else type(exc).__name__
    return RetryableError(f"{doing}: the connection was lost ({reason})", ambiguous=begun)


def read_retry_after(text: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date by the clock that says ``now``. None: none, or nonsense."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (TypeError, ValueError):
        return None
