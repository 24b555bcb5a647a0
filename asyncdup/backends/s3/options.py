"""What the user says of an S3 place: the URL, its query, ``--s3-…`` and ``AWS_…``. Nothing is looked up elsewhere and nothing is connected."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location
from asyncdup.errors import UsageError

Addressing = Literal["auto", "path", "virtual"]

# Names in the URL's query, and the option that each stands for. An option on the command line wins.
_QUERY = {
    "endpoint": "s3_endpoint_url",
    "endpoint_url": "s3_endpoint_url",
    "region": "s3_region_name",
    "region_name": "s3_region_name",
    "profile": "s3_profile",
    "path_style": "s3_path_style",
    "anonymous": "s3_anonymous",
    "addressing_style": "addressing_style",
    "kms_key_id": "s3_kms_key_id",
}
_TRUE, _FALSE = ("", "1", "true", "yes", "on"), ("0", "false", "no", "off")
_FLAGS = ("s3_path_style", "s3_anonymous")
# In the order in which stock minds them if several are given. True: volumes only, so that manifests and signatures can be read at once
# (observed: duplicity 3.2.1 keeps these in STANDARD with the archive classes).
_CLASSES = (
    ("s3_use_rrs", "REDUCED_REDUNDANCY", False),
    ("s3_use_ia", "STANDARD_IA", False),
    ("s3_use_onezone_ia", "ONEZONE_IA", False),
    ("s3_use_glacier", "GLACIER", True),
    ("s3_use_glacier_ir", "GLACIER_IR", True),
    ("s3_use_deep_archive", "DEEP_ARCHIVE", True),
)
_VOLUME = re.compile(r"\.vol[0-9]+\.difftar")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HOSTABLE = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
# Partitions with another domain than amazonaws.com, by what the names of their regions begin with (public: botocore's endpoints).
_DOMAINS = (
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
)
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Where the objects are and how they are to be stored, as far as the user has said; None: not said.

    Attributes:
        bucket: its name; ``prefix``: what every key begins with, ``""`` or text that ends with ``/``.
        endpoint: URL of the server with its scheme; None = Amazon's, or what a configuration file says.
        scheme: ``https`` or ``http``, for endpoints without one.
        addressing: where the bucket stands: in the host name or the path.
        storage_class, volumes_only: of new objects, and whether of volumes only.
        encryption: value of ``x-amz-server-side-encryption``; ``kms_key``: with which key.
        part_size: least bytes of a part.
        congestion: the congestion control to send with; None = the host's.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    scheme: str = "https"
    addressing: Addressing = "auto"
    anonymous: bool = False
    storage_class: str | None = None
    volumes_only: bool = False
    encryption: str | None = None
    kms_key: str | None = None
    part_size: int = 5 << 20
    ca_file: str | None = None
    ca_path: str | None = None
    check_certificate: bool = True
    congestion: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def description(self) -> str:
        """The URL, without settings, for people and logs."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def class_of(self, name: str) -> str | None:
        """The storage class that object ``name`` is put in; None = the bucket's usual one."""
        return None if self.volumes_only and not _VOLUME.search(name) else self.storage_class

    def stored_as(self, name: str) -> dict[str, str]:
        """Headers that say how object ``name`` is to be kept."""
        headers = {}
        if storage_class := self.class_of(name):
            headers["x-amz-storage-class"] = storage_class
        if self.encryption:
            headers["x-amz-server-side-encryption"] = self.encryption
        if self.kms_key:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = self.kms_key
        return headers

    def tls(self) -> ssl.SSLContext:
        """The context to connect with; reads files. Raises UsageError if they cannot be read."""
        files = self.ca_file, self.ca_path
        try:
            context = ssl.create_default_context(cafile=files[0], capath=files[1])
        except (OSError, ssl.SSLError) as exc:
            raise UsageError(f"cannot read the certificate authorities in {' and '.join(filter(None, files))}: {exc}") from exc
        if not self.check_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def read_options(location: Location, options: BackendOptions) -> S3Options:
    """What ``location`` and the settings say together.

    ``s3://bucket/prefix``, ``s3:///bucket/prefix`` and ``boto3+s3:///bucket/prefix`` mean the same; empty parts of a prefix are left out.

    Raises:
        UsageError: no bucket, a server or credentials in the URL, an unknown name in its query, or settings that contradict each other.
    """
    if location.user is not None or location.password is not None:
        raise UsageError(
            f"s3:// takes no credentials in the URL, where others can see them: {location.scheme}://***@{location.host}",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws with --s3-profile",
        )
    bucket, prefix = _place(location)
    settings = {**_query(location), **options.settings}
    environ = options.environ
    scheme = "http" if settings.get("s3_unencrypted_connection") else "https"
    storage_class, volumes_only = _storage_class(settings)
    return S3Options(
        bucket=bucket,
        prefix=prefix,
        endpoint=_endpoint(settings.get("s3_endpoint_url") or _endpoint_of(environ), scheme),
        region=settings.get("s3_region_name") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
        profile=settings.get("s3_profile") or None,
        scheme=scheme,
        addressing=_addressing(settings),
        anonymous=_flag(settings, "s3_anonymous") is True,
        storage_class=storage_class,
        volumes_only=volumes_only,
        **_encryption(settings),
        part_size=_part_size(settings.get("s3_multipart_chunk_size")),
        ca_file=settings.get("ssl_cacert_file") or environ.get("AWS_CA_BUNDLE") or None,
        ca_path=settings.get("ssl_cacert_path") or None,
        check_certificate=not settings.get("ssl_no_check_certificate"),
        congestion=settings.get("tcp_congestion") or None,
        environ=environ,
    )


def amazon_host(region: str) -> str:
    """Amazon's S3 in ``region``."""
    domain = next((domain for prefix, domain in _DOMAINS if region.startswith(prefix)), "amazonaws.com")
    return f"s3.{region}.{domain}"


def is_hostable(bucket: str) -> bool:
    """Whether ``bucket`` can be part of a host name that a wildcard certificate covers: no dots, and what DNS allows."""
    return _HOSTABLE.fullmatch(bucket) is not None


def _place(location: Location) -> tuple[str, str]:
    if location.port is not None or location.host.endswith(".amazonaws.com"):
        raise UsageError(
            f"{location.description} names a server where the bucket should be",
            hint=f"write s3://BUCKET/PREFIX with --s3-endpoint-url https://{location.host}{f':{location.port}' if location.port else ''}",
        )
    parts = [part for part in (location.host, *location.path.split("/")) if part]
    if not parts:
        raise UsageError(f"{location.description} names no bucket", hint="write s3://BUCKET/PREFIX")
    bucket, *folders = parts
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{bucket!r} cannot be the name of a bucket: at least three letters, digits, dots and hyphens")
    return bucket, "".join(f"{folder}/" for folder in folders)


def _query(location: Location) -> dict[str, str]:
    settings = {}
    for name, value in location.query.items():
        option = _QUERY.get(name.replace("-", "_"))
        if option is None:
            raise UsageError(f"{location.description} has no setting {name!r}", hint=f"known: {', '.join(sorted(_QUERY))}")
        settings[option] = value
    return settings


def _flag(settings: Mapping[str, object], name: str) -> bool | None:
    """True or False as said; None if nothing is said."""
    value = settings.get(name)
    if value is None or isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UsageError(f"{name.removeprefix('s3_')}={value} in an s3:// URL: say true or false")


def _addressing(settings: Mapping[str, object]) -> Addressing:
    path_style = _flag(settings, "s3_path_style")
    if path_style is not None:
        return "path" if path_style else "virtual"
    style = settings.get("addressing_style", "auto")
    if style in ("auto", "path", "virtual"):
        return style
    raise UsageError(f"addressing_style={style} in an s3:// URL: say auto, path or virtual")


def _endpoint_of(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")


def _endpoint(text: str | None, scheme: str) -> str | None:
    """``text`` with a scheme and no slash at its end."""
    if not text:
        return None
    url = (text if "://" in text else f"{scheme}://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.username or parts.query or parts.fragment:
        raise UsageError("the S3 endpoint is no http:// or https:// URL of a server", hint="write --s3-endpoint-url https://HOST[:PORT]")
    return url


def _storage_class(settings: Mapping[str, object]) -> tuple[str | None, bool]:
    return next(((name, volumes) for option, name, volumes in _CLASSES if settings.get(option)), (None, False))


def _encryption(settings: Mapping[str, object]) -> dict[str, str | None]:
    if settings.get("s3_use_server_side_encryption"):  # stock, too, takes this one if both are given
        return {"encryption": "AES256"}
    key = settings.get("s3_kms_key_id")
    if settings.get("s3_use_server_side_kms_encryption"):
        return {"encryption": "aws:kms", "kms_key": str(key) if key else None}
    if key:
        raise UsageError("--s3-kms-key-id names a key, but nothing uses it", hint="add --s3-use-server-side-kms-encryption")
    return {}


def _part_size(text: object) -> int:
    try:
        mebibytes = float(str(text)) if text else 5.0
    except ValueError:
        raise UsageError(f"--s3-multipart-chunk-size {text}: not a number of MiB") from None
    return min(max(int(mebibytes * (1 << 20)), 5 << 20), 5 << 30)
