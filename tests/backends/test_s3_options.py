"""What s3:// URLs and --s3-… options mean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.s3 import access as access_module
from asyncdup.backends.s3.access import Access
from asyncdup.backends.s3.options import S3Options, amazon_host, read_options
from asyncdup.backends.s3.sign import Credentials
from asyncdup.backends.urls import parse_url
from asyncdup.errors import OperatorError, UsageError

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/nowhere"}


def options(url: str = "s3://bucket/prefix", environ: dict[str, str] | None = None, **settings: Any) -> S3Options:
    return read_options(parse_url(url), BackendOptions(environ=environ or {}, settings=settings))


async def aimed(url: str = "s3://bucket/prefix", environ: dict[str, str] | None = None, **settings: Any) -> Access:
    access = Access(options(url, KEYS | (environ or {}), **settings))
    await access.prepare()
    return access


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/pre/fix", "s3:///bucket/pre/fix", "boto3+s3:///bucket/pre/fix", "boto3+s3://bucket//pre///fix/", "s3://bucket/pre/fix/"],
)
def test_the_spellings_of_a_url_mean_the_same(url: str) -> None:
    where = options(url)

    assert (where.bucket, where.prefix, where.description) == ("bucket", "pre/fix/", "s3://bucket/pre/fix")


def test_a_bucket_may_be_used_without_a_prefix() -> None:
    assert options("s3://bucket").prefix == options("boto3+s3:///bucket/").prefix == ""


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "no bucket"),
        ("s3:///", "no bucket"),
        ("s3://key:secret@bucket/prefix", "no credentials"),
        ("s3://localhost:9000/bucket/prefix", "names a server"),
        ("s3://s3.eu-central-1.amazonaws.com/bucket/prefix", "names a server"),
        ("s3://b/prefix", "cannot be the name of a bucket"),
        ("s3://bucket/prefix?endpiont=https://x", "no setting 'endpiont'"),
        ("s3://bucket/prefix?path_style=perhaps", "say true or false"),
        ("s3://bucket/prefix?addressing_style=odd", "say auto, path or virtual"),
        ("s3://bucket/prefix?endpoint=ftp://host", "endpoint is no http"),
        ("s3://bucket/prefix?endpoint=https://host:99999", "endpoint is no http"),
    ],
)
def test_what_makes_no_sense_is_refused_without_telling_secrets(url: str, says: str) -> None:
    """P15."""
    with pytest.raises(UsageError, match=says) as caught:
        options(url)

    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_credentials_in_an_endpoint_are_refused_without_telling_them() -> None:
    """P15."""
    with pytest.raises(UsageError, match="endpoint is no http") as caught:
        options(s3_endpoint_url="https://user:secret@host")

    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_key_that_nothing_uses_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing uses it"):
        options(s3_kms_key_id="key")


@pytest.mark.parametrize("url", ["s3://bucket?endpoint=https://o:1/", "s3://bucket?endpoint-url=https://o:1", "s3://bucket"])
def test_an_endpoint_comes_from_the_option_the_url_or_the_environment(url: str) -> None:
    environ = {"AWS_ENDPOINT_URL": "https://o:1"}

    assert options(url, environ).endpoint == "https://o:1"
    assert options(url, environ, s3_endpoint_url="https://mine").endpoint == "https://mine"


def test_the_endpoint_of_s3_comes_before_that_of_all_services_and_can_be_ignored() -> None:
    environ = {"AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "https://s3"}

    assert options(environ=environ).endpoint == "https://s3"
    assert options(environ=environ | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}).endpoint is None


def test_an_endpoint_without_a_scheme_is_encrypted_unless_said_otherwise() -> None:
    assert options(s3_endpoint_url="minio:9000").endpoint == "https://minio:9000"
    assert options(s3_endpoint_url="minio:9000", s3_unencrypted_connection=True).endpoint == "http://minio:9000"


@pytest.mark.parametrize(
    ("settings", "of_volume", "of_manifest"),
    [
        ({}, None, None),
        ({"s3_use_ia": True}, "STANDARD_IA", "STANDARD_IA"),
        ({"s3_use_onezone_ia": True}, "ONEZONE_IA", "ONEZONE_IA"),
        ({"s3_use_rrs": True, "s3_use_glacier": True}, "REDUCED_REDUNDANCY", "REDUCED_REDUNDANCY"),
        ({"s3_use_glacier": True}, "GLACIER", None),
        ({"s3_use_glacier_ir": True}, "GLACIER_IR", None),
        ({"s3_use_deep_archive": True}, "DEEP_ARCHIVE", None),
    ],
)
def test_archive_classes_are_for_volumes_only(settings: dict[str, Any], of_volume: str | None, of_manifest: str | None) -> None:
    where = options(**settings)

    assert where.class_of("x-duplicity-full.20231114T221320Z.vol12.difftar.gpg") == of_volume
    for name in ("duplicity-full.20231114T221320Z.manifest.gpg", "duplicity-full-signatures.20231114T221320Z.sigtar.gpg", "lock"):
        assert where.class_of(name) == of_manifest


def test_encryption_is_asked_for_in_each_put() -> None:
    assert options(s3_use_server_side_encryption=True).stored_as("a") == {"x-amz-server-side-encryption": "AES256"}
    assert options(s3_use_server_side_kms_encryption=True, s3_kms_key_id="k").stored_as("a") == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "k",
    }


@pytest.mark.parametrize(("said", "least"), [(None, 5 << 20), ("20", 20 << 20), ("1", 5 << 20), ("999999", 5 << 30)])
def test_the_chunk_size_is_the_least_part_within_what_s3_takes(said: str | None, least: int) -> None:
    assert options(s3_multipart_chunk_size=said).part_size == least


@pytest.mark.parametrize(
    ("url", "settings", "origin", "base"),
    [
        ("s3://bucket", {}, "https://bucket.s3.us-east-1.amazonaws.com", ""),
        ("s3://bucket", {"s3_region_name": "cn-north-1"}, "https://bucket.s3.cn-north-1.amazonaws.com.cn", ""),
        ("s3://bucket", {"s3_unencrypted_connection": True}, "http://bucket.s3.us-east-1.amazonaws.com", ""),
        ("s3://dotted.bucket", {}, "https://s3.us-east-1.amazonaws.com", "/dotted.bucket"),
        ("s3://Old_Bucket", {}, "https://s3.us-east-1.amazonaws.com", "/Old_Bucket"),
        ("s3://bucket", {"s3_path_style": True}, "https://s3.us-east-1.amazonaws.com", "/bucket"),
        ("s3://bucket", {"s3_endpoint_url": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000", "/bucket"),
        ("s3://bucket", {"s3_endpoint_url": "https://Host:443/gate/s3/"}, "https://host", "/gate/s3/bucket"),
        ("s3://bucket?addressing_style=virtual", {"s3_endpoint_url": "https://r2.example"}, "https://bucket.r2.example", ""),
        ("s3://bucket?path_style=false&endpoint=https://r2.example", {}, "https://bucket.r2.example", ""),
    ],
)
async def test_the_bucket_stands_in_the_host_or_the_path(url: str, settings: dict[str, Any], origin: str, base: str) -> None:
    target = (await aimed(url, **settings)).target

    assert (target.origin, target.base) == (origin, base)


async def test_another_region_means_another_host_at_amazon() -> None:
    access = await aimed()

    access.move_to("eu-central-1")

    assert (access.target.host, access.target.region) == (f"bucket.{amazon_host('eu-central-1')}", "eu-central-1")


async def test_keys_in_the_environment_are_used_with_their_token() -> None:
    assert await (await aimed(environ={"AWS_SESSION_TOKEN": "t"})).credentials() == Credentials("key", "secret", "t")
    assert await (await aimed(s3_anonymous=True)).credentials() is None
    assert await (await aimed()).renew() is False  # there are no others (K1)


def test_credentials_are_not_shown() -> None:
    """P15."""
    assert "secret" not in repr(Credentials("key", "secret", "secret token"))
    assert "secret" not in repr(options(environ=KEYS))


@pytest.fixture
def configured(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with two profiles."""
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\n\n[profile work]\nregion = eu-north-1\nservices = mine\ns3 =\n  addressing_style = virtual\n\n"
        "[services mine]\ns3 =\n  endpoint_url = https://s3.work.example/\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = dkey\naws_secret_access_key = dsecret\n"
        "[work]\naws_access_key_id = wkey\naws_secret_access_key = wsecret\n"
    )
    return {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.mark.realtime
@pytest.mark.parametrize("how", ["option", "url", "environment"])
async def test_a_profile_gives_credentials_region_endpoint_and_addressing(
    how: str, configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    environ = configured | ({"AWS_PROFILE": "work"} if how == "environment" else {})
    settings = {"s3_profile": "work"} if how == "option" else {}
    access = Access(options("s3://bucket?profile=work" if how == "url" else "s3://bucket", environ, **settings))

    await access.prepare()

    assert await access.credentials() == Credentials("wkey", "wsecret")
    assert (access.target.origin, access.target.base, access.target.region) == ("https://bucket.s3.work.example", "", "eu-north-1")


@pytest.mark.parametrize(
    ("file", "environ", "settings", "asked", "target"),
    [
        ("config", {"AWS_REGION": "eu-west-3"}, {}, False, "https://bucket.s3.eu-west-3.amazonaws.com"),  # it has nothing to add
        ("config", {}, {}, True, "https://bucket.s3.eu-west-1.amazonaws.com"),  # its region
        ("config", {"AWS_REGION": "eu-west-3", "AWS_PROFILE": "work"}, {}, True, "https://bucket.s3.eu-west-3.amazonaws.com"),
        ("config", {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_PROFILE": "work"}, {}, True, "https://bucket.s3.eu-west-3.amazonaws.com"),
        ("config", {"AWS_REGION": "eu-west-3"}, {"s3_profile": "work"}, True, "https://bucket.s3.eu-west-3.amazonaws.com"),
        ("endpoint", {"AWS_REGION": "eu-west-3"}, {}, True, "https://files.example"),
        ("endpoint", {"AWS_REGION": "eu-west-3", "AWS_ENDPOINT_URL": "https://env.example"}, {}, False, "https://env.example"),
        ("style", {"AWS_REGION": "eu-west-3"}, {}, True, "https://s3.eu-west-3.amazonaws.com"),
        ("none", {}, {}, False, "https://bucket.s3.us-east-1.amazonaws.com"),
    ],
)
@pytest.mark.realtime
async def test_with_keys_in_the_environment_files_are_asked_only_for_what_they_may_add(
    file: str, environ: dict[str, str], settings: dict[str, Any], asked: bool, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else botocore is not loaded. The environment goes before the files, a profile that is named by option before the environment's keys."""
    files = {
        "config": "[default]\nregion = eu-west-1\noutput = json\n[profile work]\nregion = eu-north-1\n",
        "endpoint": "[default]\nendpoint_url = https://files.example\n",
        "style": "[default]\ns3 =\n  addressing_style = path\n",
    }
    if file in files:
        (tmp_path / "config").write_text(files[file])
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = wkey\naws_secret_access_key = wsecret\n")
    paths = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    opened: list[str] = []
    open_session = access_module._open_session
    monkeypatch.setattr(access_module, "_open_session", lambda given: opened.append("session") or open_session(given))

    access = await aimed("s3://bucket", paths | environ, **settings)

    assert (bool(opened), access.target.origin) == (asked, target)
    assert await access.credentials() == (Credentials("wkey", "wsecret") if settings else Credentials("key", "secret"))


@pytest.mark.realtime
async def test_renewed_credentials_are_read_from_the_files_again(configured: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """K1."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    access = Access(options(environ=configured))
    await access.prepare()
    assert await access.renew() is False

    path = Path(configured["AWS_SHARED_CREDENTIALS_FILE"])
    path.write_text(path.read_text().replace("dkey", "newkey"))

    assert await access.renew() is True
    assert await access.credentials() == Credentials("newkey", "dsecret")


@pytest.mark.realtime
async def test_a_profile_that_is_not_there_is_the_users_mistake(configured: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="nobody"):
        await Access(options(environ=configured, s3_profile="nobody")).prepare()


@pytest.mark.realtime
async def test_without_any_credentials_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # botocore asks this of the process
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(OperatorError, match="no credentials") as caught:
        await Access(options(environ={"HOME": str(tmp_path)})).prepare()

    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)


def test_certificate_authorities_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing.pem"):
        options(ssl_cacert_file=str(tmp_path / "nothing.pem")).tls()


def test_certificates_are_checked_unless_the_user_says_no() -> None:
    assert options().tls().check_hostname
    assert not options(ssl_no_check_certificate=True).tls().check_hostname


def test_both_schemes_open_the_backend() -> None:
    for url in ("s3://bucket/p", "boto3+s3:///bucket/p"):
        backend = open_backend(url)
        assert backend.description == "s3://bucket/p"
        assert backend.supports_concurrency() and backend.capabilities().parts == (5 << 20, 5 << 30, 10_000)


@pytest.mark.slow
def test_botocore_is_not_loaded_where_keys_and_endpoint_are_known() -> None:
    """It costs 0.3 s and 50 MB. Neither are aiohttp and the backend before such a URL is opened."""
    code = """
import sys, asyncdup.backends.registry as registry, asyncdup.cli.main
assert not any(name.split(".")[0] in ("aiohttp", "botocore", "aiobotocore") for name in sys.modules), "loaded without need"
import asyncio
async def main():
    backend = registry.open_backend("s3://bucket", registry.BackendOptions(environ={"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "HOME": "/nowhere", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}))
    try:
        await backend.stat("a")
    except registry.UsageError.__mro__[1]:
        pass
    await backend.aclose()
asyncio.run(main())
assert "aiohttp" in sys.modules and not any(name.startswith(("botocore", "aiobotocore")) for name in sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=240)
