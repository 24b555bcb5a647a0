"""The checks of the conformance suite: what ``backends.base.Backend`` promises, one function a promise. ``conformance`` runs them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Awaitable, Callable

import anyio

from asyncdup.backends.base import UNKNOWN_SIZE, Backend, Capabilities, Part, SupportsMove, SupportsParts, SupportsPutIfAbsent
from asyncdup.backends.bodies import CHUNK, BytesBody, PipedBody
from asyncdup.backends.names import TEMP_PREFIX
from asyncdup.errors import BadRequest, IntegrityError, NotFound, Precondition, RetryableError
from asyncdup.testing.site import Broken, Lying, Site, expecting, fail_with, must, pattern, then, together

ODD_NAMES = (
    "duplicity-full.20231114T221320Z.vol1.difftar.gpg",
    "duplicity-inc.20231114T221320Z.to.20231115T221320Z.manifest",
    "with a blank",
    " begins and ends with one ",
    "-rf",
    "--",
    "Zürich 東京 🗼",
    'it\'s "quoted" $HOME `x` ;&|',
    "100%41 + #? = ~",
    "star*[a]?",
    "back\\slash",
    "..two-dots",
    "trailing.",
    TEMP_PREFIX + "0-0",
)
ESCAPES = ("", ".", "..", "a/b", "../a", "/a", "a/..", "a\0b", "no bytes \ud800")


Promise = Callable[[Site], Awaitable[None]]
Applies = Callable[[Backend], bool]
PROMISES: list[tuple[Promise, Applies]] = []


def _always(_: Backend) -> bool:
    return True


def _if_able(capability: str) -> Applies:
    return lambda backend: bool(getattr(backend.capabilities(), capability))


def _if_concurrent(backend: Backend) -> bool:
    return backend.supports_concurrency()


def _promised(applies: Applies = _always) -> Callable[[Promise], Promise]:
    def add(promise: Promise) -> Promise:
        PROMISES.append((promise, applies))
        return promise

    return add


@_promised()
async def capabilities_are_a_frozen_record_that_stays_the_same(site: Site) -> None:
    before = site.backend.capabilities()
    must(isinstance(before, Capabilities), f"capabilities() returned {type(before).__name__}")
    await site.put("a", b"a")
    must(site.backend.capabilities() == before, "capabilities changed")
    must(isinstance(site.backend.supports_concurrency(), bool), "supports_concurrency() returned no bool")
    must(bool(site.backend.description), "the description is empty")
    try:
        before.atomic_put = True  # type: ignore[misc]
    except dataclasses.FrozenInstanceError:
        return
    raise Broken("capabilities can be changed by the caller")


@_promised()
async def what_was_never_put_is_not_listed(site: Site) -> None:
    must(await site.listed() == {}, "a prefix that nobody used lists something")


@_promised()
async def an_object_comes_back_as_it_was_put(site: Site) -> None:
    for size in (1, CHUNK - 1, CHUNK, CHUNK + 1, site.big):
        data = pattern(size)
        name = await site.put(f"of-{size}", data)
        must(await site.read(name) == data, f"{size} bytes came back changed")
        must((await site.backend.stat(name)).size == size, f"stat of {size} bytes gives another size")


@_promised()
async def an_empty_object_is_an_object(site: Site) -> None:
    name = await site.put("empty", b"")
    must(await site.read(name) == b"", "an empty object came back with bytes")
    must((await site.backend.stat(name)).size == 0, "an empty object has a size")
    must(name in await site.listed(), "an empty object is not listed")


@_promised()
async def chunks_are_never_empty_nor_larger_than_a_mebibyte(site: Site) -> None:
    name = await site.put("chunks", pattern(site.big))
    async with site.backend.get(name) as chunks:
        sizes = [len(chunk) async for chunk in chunks]
    must(all(0 < size <= CHUNK for size in sizes), f"chunks of {sorted(set(sizes))} bytes")


@_promised()
async def a_range_is_what_was_asked_for(site: Site) -> None:
    data = pattern(2 * CHUNK + 5)
    name = await site.put("range", data)
    for start, length in ((0, 0), (0, 1), (1, 10), (CHUNK - 1, 2), (5, None), (len(data) - 1, 100), (len(data), None), (7, 2 * CHUNK)):
        end = len(data) if length is None else start + length
        must(await site.read(name, start, length) == data[start:end], f"get of {length} bytes from {start} gave other bytes")


@_promised()
async def a_put_replaces_the_whole_object(site: Site) -> None:
    await site.put("same", pattern(100_000))
    name = await site.put("same", b"short")
    must(await site.read(name) == b"short", "the old object shows through")
    must((await site.backend.stat(name)).size == 5, "stat gives the old size")
    must(list(await site.listed()) == [name], "a replaced object is listed more than once")


@_promised()
async def a_list_shows_each_of_many_objects_once(site: Site) -> None:
    wanted = {await site.put(f"many-{number:04}", b"x" * (number % 7)): number % 7 for number in range(site.many)}
    found = await site.listed()
    must(set(found) == set(wanted), f"{len(found)} objects listed, {len(wanted)} put")
    wrong = [info.name for info in found.values() if info.size not in (wanted[info.name], UNKNOWN_SIZE)]
    must(not wrong, f"a list gives wrong sizes: {wrong[:3]}")


@_promised()
async def a_list_with_a_prefix_shows_only_what_begins_with_it(site: Site) -> None:
    first, second = await site.put("p-1", b"1"), await site.put("p-2", b"2")
    await site.put("q-p-1", b"3")
    must(set(await site.listed(site.name("p-"))) == {first, second}, "a prefix is not honoured")
    must(set(await site.listed(first)) == {first}, "a whole name as the prefix does not list it")
    must({first, second} <= set(await site.listed("")), "a list without a prefix does not show everything")


@_promised()
async def a_list_can_be_left_early(site: Site) -> None:
    for tail in "abc":
        await site.put(tail, b"")
    async with site.backend.list(site.name("")) as infos:
        async for _ in infos:
            break
    must(len(await site.listed()) == 3, "a list after one that was left early is incomplete")


@_promised()
async def odd_but_legal_names_are_kept_as_they_are(site: Site) -> None:
    taken = set(await site.listed(""))
    for name in set(ODD_NAMES) - taken:  # in a location that is in use, those of others stay untouched
        site.keep(name)
        await site.backend.put(name, BytesBody(name.encode()))
    found = await site.listed("")
    for name in set(ODD_NAMES) - taken:
        must(name in found, f"{name!r} is not listed under its name")
        must(await site.read(name) == name.encode(), f"{name!r} does not come back")
        await site.backend.delete(name)
        async with expecting(NotFound, f"stat of the deleted {name!r}"):
            await site.backend.stat(name)


@_promised()
async def names_that_leave_the_location_are_refused(site: Site) -> None:
    before = set(await site.listed(""))
    for name in ESCAPES:
        for verb, call in (
            ("put", lambda name: site.backend.put(name, BytesBody(b"x"))),
            ("get", site.read),
            ("stat", site.backend.stat),
            ("delete", site.backend.delete),
        ):
            async with expecting(BadRequest, f"{verb} of {name!r}"):
                await call(name)
    must(set(await site.listed("")) == before, "a refused name has left something")


@_promised(_if_able("max_name"))
async def the_longest_name_is_as_long_as_the_capabilities_say(site: Site) -> None:
    longest = site.backend.capabilities().max_name or 0
    name = await site.put("n" * (longest - len(site.name(""))), b"x")
    must(len(name) == longest and await site.read(name) == b"x", f"a name of {longest} bytes does not work")
    async with expecting(BadRequest, f"put of a name of {longest + 1} bytes"):
        await site.backend.put(name + "n", BytesBody(b"x"))


@_promised()
async def an_absent_object_is_not_found(site: Site) -> None:
    name = site.name("absent")
    async with expecting(NotFound, "get of an absent object"):
        await site.read(name)
    async with expecting(NotFound, "a ranged get of an absent object"):
        await site.read(name, 1, 1)
    async with expecting(NotFound, "stat of an absent object"):
        await site.backend.stat(name)


@_promised()
async def deleting_what_is_absent_succeeds(site: Site) -> None:
    await site.backend.delete(site.name("absent"))
    name = await site.put("present", b"x")
    for _ in range(2):
        await site.backend.delete(name)
    must(await site.listed() == {}, "a deleted object is listed")
    async with expecting(NotFound, "get of a deleted object"):
        await site.read(name)


@_promised()
async def digests_are_those_of_the_bytes(site: Site) -> None:
    data = pattern(100_001)
    name = await site.put("digests", data)
    for info in (await site.backend.stat(name), (await site.listed())[name]):
        for algorithm, digest in info.digests.items():
            must(digest == hashlib.new(algorithm, data, usedforsecurity=False).hexdigest(), f"wrong {algorithm}")


@_promised(_if_concurrent)
async def puts_and_gets_run_at_once(site: Site) -> None:
    datas = [pattern(CHUNK // 2 + number, number) for number in range(8)]

    async def round_trip(number: int) -> None:
        name = await site.put(f"at-once-{number}", datas[number])
        must(await site.read(name) == datas[number], "concurrent calls mix their bytes")

    for error in await together([lambda number=number: round_trip(number) for number in range(len(datas))]):  # type: ignore[misc]
        if error:
            raise error


@_promised(lambda backend: _if_concurrent(backend) and backend.capabilities().atomic_put)
async def puts_of_one_name_at_once_leave_one_of_them_whole(site: Site) -> None:
    datas = [pattern(CHUNK + 1, number) for number in range(4)]
    for error in await together([lambda data=data: site.put("one", data) for data in datas]):  # type: ignore[misc]
        if isinstance(error, Broken):
            raise error  # any other error is allowed: one put may fail because another one goes on
    must(await site.read(site.name("one")) in datas, "two puts of one name have mixed their bytes")


@_promised()
async def a_cancelled_put_leaves_nothing_half_done(site: Site) -> None:
    """Half-way through the body. Where puts are atomic nothing new is visible, and what was there stays."""
    old = await site.put("old", b"old")
    for name in (site.name("new"), old):
        with anyio.CancelScope() as scope:
            await site.backend.put(name, PipedBody(BytesBody(pattern(site.big)), then(scope.cancel)))
        must(scope.cancelled_caught, f"a cancelled put of {name!r} returned")
    if site.backend.capabilities().atomic_put:
        must(set(await site.listed()) == {old}, "a cancelled put is visible")
        must(await site.read(old) == b"old", "a cancelled put has damaged what it was to replace")
    name = await site.put("new", b"again")
    must(await site.read(name) == b"again", "a put after a cancelled one does not work")


@_promised()
async def a_get_can_be_cancelled_or_left_early(site: Site) -> None:
    data = pattern(site.big)
    name = await site.put("big", data)
    for leave in (True, False):
        with anyio.CancelScope() as scope:
            async with site.backend.get(name) as chunks:
                async for _ in chunks:
                    if leave:
                        break
                    scope.cancel()
    must(await site.read(name) == data, "a get after one that was left early gives other bytes")


@_promised()
async def a_body_that_fails_is_opened_again_by_the_next_put(site: Site) -> None:
    """Its error comes out as it is: it is not the backend's, even if it looks like one of the kernel."""
    name, data = site.name("again"), pattern(site.big)
    for error in (OSError(5, "of the body"), RetryableError("of the body"), LookupError("of the body")):
        try:
            await site.backend.put(name, PipedBody(BytesBody(data), then(fail_with(error))))
        except Exception as exc:  # noqa: BLE001 - the question is which
            must(exc is error, f"{error!r} of a body came out as {exc!r}")
        else:
            raise Broken("a put whose body failed returned")
        if site.backend.capabilities().atomic_put:
            must(await site.listed() == {}, "a put whose body failed is visible")
    await site.put("again", data)
    must(await site.read(name) == data, "the body was not sent from its beginning")


@_promised()
async def a_body_of_another_size_than_it_says_is_refused(site: Site) -> None:
    for said in (10, 12, CHUNK + 1, 0):
        name = site.name(f"says-{said}")
        async with expecting(IntegrityError, f"put of 11 bytes that says {said}"):
            await site.backend.put(name, Lying(BytesBody(b"0123456789a"), said))
        if site.backend.capabilities().atomic_put:
            must(await site.listed() == {}, f"a body of 11 bytes that says {said} is visible")


@_promised()
async def a_put_leaves_no_temporary_name(site: Site) -> None:
    before = set(await site.listed(TEMP_PREFIX))
    name = await site.put("a", b"a")
    async with expecting(IntegrityError, "put of a body that is too short"):
        await site.backend.put(name, Lying(BytesBody(b""), 1))
    must(set(await site.listed(TEMP_PREFIX)) <= before, "a temporary name is left")


@_promised(_if_able("put_if_absent"))
async def put_if_absent_refuses_what_is_there(site: Site) -> None:
    backend, name = site.backend, site.name("lock")
    must(isinstance(backend, SupportsPutIfAbsent), "the method put_if_absent is missing")
    assert isinstance(backend, SupportsPutIfAbsent)
    info = await backend.put_if_absent(name, BytesBody(b"first"))
    must(info.name == name and info.size == 5, f"put_if_absent returned {info}")
    async with expecting(Precondition, "put_if_absent of a name that is there"):
        await backend.put_if_absent(name, BytesBody(b"second"))
    must(await site.read(name) == b"first", "put_if_absent has replaced what was there")
    must(set(await site.listed(TEMP_PREFIX)) == set(), "put_if_absent leaves a temporary name")


@_promised(lambda backend: _if_concurrent(backend) and _if_able("put_if_absent")(backend))
async def one_of_several_exclusive_puts_wins(site: Site) -> None:
    backend, name = site.backend, site.name("lock")
    assert isinstance(backend, SupportsPutIfAbsent)
    datas = [b"writer %d" % number for number in range(5)]
    errors = await together([lambda data=data: backend.put_if_absent(name, BytesBody(data)) for data in datas])  # type: ignore[misc]
    winners = [data for data, error in zip(datas, errors, strict=True) if error is None]
    must(len(winners) == 1, f"{len(winners)} exclusive puts of one name have succeeded")
    must(all(isinstance(error, Precondition) for error in errors if error), f"losers raised {errors}")
    must(await site.read(name) == winners[0], "the object is not the winner's")


@_promised(_if_able("parts"))
async def parts_become_one_object_when_they_are_completed(site: Site) -> None:
    data, cut = _in_two_parts(site)
    backend, name = _with_parts(site), site.name("in-parts")
    body = BytesBody(data, {"sha1": hashlib.sha1(data, usedforsecurity=False).hexdigest()})
    upload = await backend.begin_parts(name, body)
    try:
        last = await backend.put_part(name, upload, 2, BytesBody(data[cut:]))
        await backend.put_part(name, upload, 1, BytesBody(bytes(cut)))
        first = await backend.put_part(name, upload, 1, BytesBody(data[:cut]))
        must((first.number, first.size, last.number, last.size) == (1, cut, 2, len(data) - cut), f"parts are {first} and {last}")
        must(await backend.list_parts(name, upload) == [first, last], "the parts are not listed as they were put")
        must((name, upload) in [each[:2] for each in await backend.list_uploads(name)], "an unfinished upload is not listed")
        must(name not in await site.listed(), "an object is there before its parts were completed")
        info = await backend.complete_parts(name, upload, [first, last], body)
    finally:
        await backend.abort_parts(name, upload)
    must(info.name == name and info.size == len(data), f"completing {len(data)} bytes returned {info}")
    must(await site.read(name) == data, "an object in parts came back changed")
    must(not await backend.list_uploads(name), "a completed upload is still listed")
    async with expecting(NotFound, "completing an upload again"):
        await backend.complete_parts(name, upload, [first, last], body)


@_promised(_if_able("parts"))
async def an_upload_that_was_given_up_is_gone(site: Site) -> None:
    data, cut = _in_two_parts(site)
    backend, name = _with_parts(site), site.name("given-up")
    upload = await backend.begin_parts(name, BytesBody(data))
    part: Part = await backend.put_part(name, upload, 1, BytesBody(data[:cut]))
    for _ in range(2):
        await backend.abort_parts(name, upload)
    must(not await backend.list_uploads(name), "an upload that was given up is still listed")
    must(name not in await site.listed(), "an upload that was given up has left an object")
    async with expecting(NotFound, "a part of an upload that was given up"):
        await backend.put_part(name, upload, 2, BytesBody(data[cut:]))
    async with expecting(NotFound, "the parts of an upload that was given up"):
        await backend.list_parts(name, upload)
    async with expecting(NotFound, "completing an upload that was given up"):
        await backend.complete_parts(name, upload, [part], BytesBody(data[:cut]))


def _with_parts(site: Site) -> SupportsParts:
    must(isinstance(site.backend, SupportsParts), "parts are promised, but their methods are missing")
    return site.backend  # type: ignore[return-value]  # just looked at


def _in_two_parts(site: Site) -> tuple[bytes, int]:
    """The smallest object of two parts, and where the second begins."""
    limits = site.backend.capabilities().parts
    cut = max(limits.least, 1000) if limits else 0
    return pattern(cut + 7), cut


@_promised(_if_able("server_move"))
async def move_renames_and_replaces(site: Site) -> None:
    backend = site.backend
    must(isinstance(backend, SupportsMove), "the method move is missing")
    assert isinstance(backend, SupportsMove)
    source, target = await site.put("source", b"new"), await site.put("target", b"old")
    await backend.move(source, target)
    must(await site.read(target) == b"new", "move did not replace its target")
    must(set(await site.listed()) == {target}, "the source of a move is still there")
    async with expecting(NotFound, "move of an absent object"):
        await backend.move(source, target)
    async with expecting(BadRequest, "move out of the location"):
        await backend.move(target, "../x")
    must(await site.read(target) == b"new", "a refused move has changed its target")


@_promised()
async def closing_twice_is_closing_once(site: Site) -> None:
    await site.put("a", b"a")
    await site.backend.delete(site.name("a"))
    site.names.clear()
    await site.backend.aclose()
    await site.backend.aclose()
