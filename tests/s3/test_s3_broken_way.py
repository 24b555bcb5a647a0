"""The way to S3 and back: connections that break, answers that are lost or never come, bits that flip. What is stored is right."""

from __future__ import annotations

import hashlib
import random

import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import IntegrityError, NotFound
from asyncdup.testing.httpfaults import (
    answers,
    cut_answer,
    cut_request,
    flip_in_answer,
    flip_in_request,
    hang,
    lost_answer,
    slow_down,
)
from asyncdup.transfer import RetryPolicy
from tests.s3.conftest import Place
from tests.s3.fault_ground import BODY, DATA, ground

pytestmark = pytest.mark.realtime


async def test_a_connection_cut_in_the_body_of_a_put_is_looked_into_and_sent_again(moto_place: Place) -> None:
    """Ambiguous, I2: one look, one more put."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", cut_request(100_000))

        await g.put()

        assert [seen.operation for seen in g.proxy.seen] == ["PutObject", "HeadObject", "PutObject"]
        assert g.classes() == ["ambiguous"] and g.looks() == [False]
        assert await g.stored() == DATA


async def test_a_put_whose_answer_was_lost_is_not_sent_again(moto_place: Place) -> None:
    """I2: size and digest match."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", lost_answer)

        info = await g.put()

        assert (info.size, info.digests.get("sha1", BODY.digests["sha1"])) == (BODY.size, BODY.digests["sha1"])
        assert [seen.operation for seen in g.proxy.seen] == ["PutObject", "HeadObject"]
        assert g.looks() == [True]
        assert await g.stored() == DATA


async def test_a_put_if_absent_whose_answer_was_lost_is_no_conflict_with_itself(moto_place: Place) -> None:
    """I2."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", lost_answer)

        await g.engine.run(g.lane, "put_if_absent", "lock", BODY)

        assert g.proxy.count("PutObject") == 1
        assert await g.stored("lock") == DATA


async def test_a_delete_whose_answer_was_lost_is_done(moto_place: Place) -> None:
    async with ground(moto_place) as g:
        await g.put()
        g.proxy.on("DeleteObject", lost_answer)

        await g.engine.run(g.lane, "delete", "object")

        with pytest.raises(NotFound):
            await g.backend.stat("object")


async def test_a_connection_cut_in_the_body_of_a_get_goes_on_where_it_ended(moto_place: Place) -> None:
    async with ground(moto_place) as g:
        await g.put()
        g.proxy.on("GetObject", cut_answer(300_000))

        assert await g.read() == DATA

        ranges = [seen.headers.get("range") for seen in g.proxy.seen if seen.operation == "GetObject"]
        assert len(ranges) == 2 and ranges[0] is None
        assert g.classes() == ["retry"], "reading is never ambiguous"


async def test_a_bit_that_flips_on_the_way_there_is_never_stored_for_good(moto_place: Place) -> None:
    """P5: the server or we find it, and it is sent again."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", flip_in_request(70_000))

        await g.put()

        assert g.proxy.count("PutObject") == 2
        assert await g.stored() == DATA


async def test_a_bit_that_flips_on_the_way_back_is_fetched_again(moto_place: Place) -> None:
    """O7."""
    async with ground(moto_place) as g:
        await g.put()
        g.proxy.on("GetObject", flip_in_answer(70_000))

        assert await g.read() == DATA

        assert g.proxy.count("GetObject") == 2


async def test_an_object_that_is_always_wrong_is_given_up_after_three_fetches(moto_place: Place) -> None:
    """Permanent: nobody gets wrong bytes."""
    async with ground(moto_place) as g:
        await g.put()
        g.proxy.on("GetObject", flip_in_answer(70_000), times=None)

        with pytest.raises(IntegrityError):
            await g.read()

        assert g.proxy.count("GetObject") == 3


@pytest.mark.slow
async def test_an_answer_that_never_comes_is_not_waited_for(moto_place: Place) -> None:
    """T0, T3: ended by the engine, looked into, sent again."""
    async with ground(moto_place, policy=RetryPolicy(base=0.01, cap=0.02, response_timeout=2.0, stall_timeout=2.0)) as g:
        g.proxy.on("PutObject", hang)

        await g.put()

        assert g.proxy.count("PutObject") >= 2
        assert set(g.classes()) == {"ambiguous"}
        assert await g.stored() == DATA


async def test_what_was_spoiled_is_not_taken_for_what_was_sent(moto_place: Place) -> None:
    """P5, I2: moto stores whatever comes, with the digest that it was sent with; so the wrong object has to go before anybody looks."""
    async with ground(moto_place) as g:
        g.proxy.on("PutObject", flip_in_request(70_000))
        g.proxy.on("PutObject", cut_request(1000))

        await g.put(absent=True)

        assert g.classes() == ["retry", "ambiguous"] and g.looks() == [False]
        assert await g.stored() == DATA


async def test_a_weather_of_all_faults_leaves_every_object_whole(moto_place: Place) -> None:
    """P11: twenty objects through one fault in three requests."""
    faults = [slow_down(), answers(500, "InternalError"), cut_request(10_000), lost_answer, flip_in_request(5), answers(503)]
    rng = random.Random(7)
    bodies = [
        BytesBody(data, {"sha1": hashlib.sha1(data).hexdigest()}) for data in (rng.randbytes(20_000 + number) for number in range(20))
    ]
    async with ground(moto_place) as g:
        for fault in faults:
            g.proxy.on(lambda seen: seen.operation == "PutObject" and rng.random() < 0.1, fault, times=None)

        ops = [await g.engine.submit(g.lane, "put", f"v{number}", body) for number, body in enumerate(bodies)]
        for op in ops:
            await op.result()

        assert g.proxy.count(lambda seen: bool(seen.fault)) >= 5
        assert [await g.stored(f"v{number}") == body.data for number, body in enumerate(bodies)] == [True] * 20
