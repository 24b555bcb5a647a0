"""What S3 refuses and why: each answer ends as the table of classes says (engine semantics, section 3); who can be pleased is."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import anyio
import pytest

from asyncdup.errors import BadRequest, OperatorError, RetryableError
from asyncdup.testing.httpfaults import (
    answers,
    clock_ahead,
    everything,
    lost_answer,
    moved_to,
    slow_down,
    stale,
)
from asyncdup.transfer import RetryPolicy
from tests.ports import free_port
from tests.s3.conftest import Place
from tests.s3.fault_ground import BODY, DATA, ground

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize(
    ("fault", "kind", "scope", "throttle"),
    [
        (answers(500, "InternalError"), RetryableError, "op", False),
        (answers(502), RetryableError, "op", False),
        (answers(503, "ServiceUnavailable"), RetryableError, "op", False),
        (answers(504), RetryableError, "op", False),
        (answers(400, "RequestTimeout"), RetryableError, "op", False),
        (answers(400, "BadDigest"), RetryableError, "op", False),
        (slow_down(), RetryableError, "lane", True),
        (answers(429, "TooManyRequests"), RetryableError, "lane", True),
        (answers(401), OperatorError, "lane", False),
        (answers(403, "AccessDenied"), OperatorError, "lane", False),
        (answers(403, "SignatureDoesNotMatch"), OperatorError, "lane", False),
        (answers(403, "InvalidAccessKeyId"), OperatorError, "lane", False),
        (answers(404, "NoSuchBucket"), OperatorError, "lane", False),
        (answers(400, "ExpiredToken"), OperatorError, "lane", False),
        (answers(507), OperatorError, "lane", False),
        (answers(403, "QuotaExceeded"), OperatorError, "lane", False),
        (answers(400, "InvalidArgument"), BadRequest, None, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_an_answer_has_the_class_of_the_table(
    moto_place: Place, fault: Any, kind: type[Exception], scope: str | None, throttle: bool | None
) -> None:
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", fault, times=None)

        with pytest.raises(kind) as caught:
            await g.backend.put("object", BODY)

        error = caught.value
        assert type(error) is kind
        assert getattr(error, "scope", None) == scope
        assert getattr(error, "throttle", None) == throttle
        assert not getattr(error, "ambiguous", False), "the server has said no"
        assert g.proxy.count(everything) == 1, "the engine retries, not the backend"
        if isinstance(error, OperatorError):
            assert error.hint, "a person is told what to do"


@pytest.mark.parametrize("code", [507, 402])
async def test_a_full_bucket_is_a_matter_of_space(moto_place: Place, code: int) -> None:
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", answers(code))

        with pytest.raises(OperatorError) as caught:
            await g.backend.put("object", BODY)

    assert caught.value.space and caught.value.exit_code == 53


async def test_a_burst_of_throttles_is_ridden_out_by_one_probe_at_a_time(moto_place: Place) -> None:
    """B1, G1, A5: the lane backs off, as one; no op gives up."""
    async with ground(moto_place, policy=RetryPolicy(base=0.01, cap=0.02)) as g:
        g.proxy.on("PutObject", slow_down(), times=3)

        ops = [await g.engine.submit(g.lane, "put", "v0", BODY)]
        while not g.states():
            await anyio.sleep(0.001)
        ops += [await g.engine.submit(g.lane, "put", f"v{number}", BODY) for number in (1, 2, 3)]
        for op in ops:
            await op.result()

        assert g.proxy.count("PutObject") == 4 + 3
        assert set(g.classes()) == {"throttle"}
        assert {"BACKOFF", "PROBING"} <= set(g.states())
        assert await g.stored("v3") == DATA


@pytest.mark.slow
async def test_retry_after_holds_the_whole_lane_for_as_long_as_it_says(moto_place: Place) -> None:
    """B2: also ops that nobody has refused."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", slow_down("1"))

        first = await g.engine.submit(g.lane, "put", "first", BODY)
        while not g.states():
            await anyio.sleep(0.005)
        second = await g.engine.submit(g.lane, "put", "second", BODY)
        await first.result()
        await second.result()

        refused, *later = [seen.at for seen in g.proxy.seen if seen.operation == "PutObject"]
        assert len(later) == 2
        assert min(later) - refused >= 1.0


async def test_a_retry_after_that_is_too_long_is_not_waited_for(moto_place: Place) -> None:
    """B2: more than max_retry_after is given up on at once."""
    async with ground(moto_place, policy=RetryPolicy(max_retry_after=5)) as g:
        g.proxy.on("PutObject", slow_down("3600"), times=None)

        with pytest.raises(RetryableError, match="SlowDown"):
            await g.put()

        assert g.proxy.count("PutObject") == 1


async def test_a_server_error_is_retried(moto_place: Place) -> None:
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", answers(500, "InternalError"), times=2)

        await g.put()

        assert g.proxy.count("PutObject") == 3
        assert g.classes() == ["retry", "retry"]
        assert await g.stored() == DATA


@pytest.mark.parametrize("acted", [False, True])
async def test_an_error_inside_a_200_is_no_completion(moto_place: Place, acted: bool) -> None:
    """Amazon answers 200 before it knows; the error comes in the document."""
    async with ground(moto_place) as g:
        g.proxy.on("CompleteMultipartUpload", answers(200, "InternalError", acted=acted))
        upload = await g.backend.begin_parts("big", BODY)
        part = await g.backend.put_part("big", upload, 1, BODY)

        with pytest.raises(RetryableError, match="InternalError"):
            await g.backend.complete_parts("big", upload, [part], BODY)
        if acted:
            assert (await g.backend.stat("big")).size == BODY.size, "a look settles it (I2)"
        else:
            await g.backend.complete_parts("big", upload, [part], BODY)

        assert await g.stored("big") == DATA


def renewing(place: Place, *, always_new: bool = True) -> Place:
    """Credentials that come from a program, each time others, as those of a role do. They expire far in the future."""
    program = place.home / "credentials.py"
    program.write_text(
        "import json, os, pathlib\n"
        f"count = pathlib.Path({str(place.home / 'count')!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        f"number = number if {always_new} else 1\n"
        "keys = dict(Version=1, AccessKeyId='key', SecretAccessKey='secret', SessionToken=f'token{number}', Expiration='2099-01-01T00:00:00Z')\n"
        "print(json.dumps(keys))\n"
    )
    config = place.home / "config"
    config.write_text(f"[default]\nregion = us-east-1\ncredential_process = {sys.executable} {program}\n")
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    return replace(place, environ={**none, "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(place.home / "none")})


@pytest.mark.slow
async def test_an_expired_token_is_renewed_once_and_nobody_notices(moto_place: Place) -> None:
    """K1."""
    async with ground(renewing(moto_place)) as g:
        g.proxy.on("PutObject", answers(400, "ExpiredToken"))

        await g.put()

        tokens = [seen.headers["x-amz-security-token"] for seen in g.proxy.seen]
        assert tokens == ["token1", "token2"]
        assert g.classes() == []
        assert await g.stored() == DATA


@pytest.mark.slow
@pytest.mark.parametrize(("always_new", "requests"), [(True, 2), (False, 1)])
async def test_a_token_that_stays_expired_is_for_the_operator(moto_place: Place, always_new: bool, requests: int) -> None:
    """K1, C8: one renewal, no hammering; none, if there is nothing new."""
    async with ground(renewing(moto_place, always_new=always_new)) as g:
        g.proxy.on("PutObject", answers(400, "ExpiredToken"), times=None)

        with pytest.raises(OperatorError, match="ExpiredToken") as caught:
            await g.put()

        assert g.proxy.count("PutObject") == requests
        assert "log in again" in (caught.value.hint or "")
        assert "token1" not in str(caught.value)


async def test_keys_from_the_environment_that_have_expired_are_for_the_operator_at_once(moto_place: Place) -> None:
    async with ground(replace(moto_place, environ={"AWS_SESSION_TOKEN": "tok-of-old"})) as g:
        g.proxy.on("PutObject", answers(400, "ExpiredToken"), times=None)

        with pytest.raises(OperatorError) as caught:
            await g.put()

        assert g.proxy.count("PutObject") == 1
        assert "tok-of-old" not in f"{caught.value!r} {caught.value} {caught.value.__notes__}"


async def test_a_wrong_clock_is_found_out_once_and_told(moto_place: Place) -> None:
    """Requests are dated by the server's clock from then on."""
    async with ground(moto_place) as g:
        g.proxy.on(everything, clock_ahead(7200), times=None)

        await g.put("one")
        await g.put("two")

        assert g.proxy.count("PutObject") == 3
        assert g.classes() == [], "mended by the backend, which is no failure"
        assert len(g.said) == 1 and "clock" in g.said[0]
        assert await g.stored("two") == DATA


async def test_a_clock_that_nobody_can_please_is_for_the_operator(moto_place: Place) -> None:
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", answers(403, "RequestTimeTooSkewed"), times=None)

        with pytest.raises(OperatorError, match="RequestTimeTooSkewed") as caught:
            await g.put()

        assert g.proxy.count("PutObject") == 2
        assert "clock" in (caught.value.hint or "")


async def test_a_bucket_in_another_region_is_found_once(moto_place: Place) -> None:
    async with ground(moto_place) as g:
        g.proxy.on(everything, moved_to("eu-central-1"), times=None)

        await g.put("one")
        await g.put("two")

        assert g.proxy.count("PutObject") == 3
        assert g.classes() == []
        assert await g.stored("two") == DATA


async def test_a_bucket_that_is_never_where_one_looks_is_for_the_operator(moto_place: Place) -> None:
    """No endless chase."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", answers(301, "PermanentRedirect"), times=None)

        with pytest.raises(OperatorError, match="PermanentRedirect"):
            await g.put()

        assert g.proxy.count("PutObject") == 1


async def test_a_stale_list_is_the_servers_and_a_look_at_the_object_is_not(moto_place: Place) -> None:
    """What a list does not show yet can be got all the same: reconciling looks at the object."""
    async with ground(moto_place) as g:
        g.proxy.on("ListObjects", stale(), times=None)
        assert await g.engine.list(g.lane) == []
        g.proxy.on("PutObject", lost_answer)

        await g.put()

        assert await g.engine.list(g.lane) == [], "as stale as the script says"
        assert g.proxy.count("PutObject") == 1
        assert (await g.engine.run(g.lane, "stat", "object")).size == BODY.size


async def test_nobody_at_the_address_is_a_matter_of_the_lane(moto_place: Place) -> None:
    """G1: refused connections close the gate for all, at once."""
    port = free_port()
    backend = moto_place.through(f"http://127.0.0.1:{port}").backend()
    try:
        with pytest.raises(RetryableError) as caught:
            await backend.put("object", BODY)
    finally:
        await backend.aclose()

    assert caught.value.scope == "lane" and not caught.value.ambiguous
