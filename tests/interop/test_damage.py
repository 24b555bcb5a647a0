"""Archives damaged at the target: whatever is cut, flipped or gone is said, and what is restored is as archived or not there (P3, P4)."""

from __future__ import annotations

import gzip
import random
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.archives import BARE, PLAIN, START, SYMMETRIC, Archive, run
from interop.trees import edit_again, edit_plain, listing, make_plain, remove

from asyncdup.commands.files import list_current_files
from asyncdup.commands.restore import restore
from asyncdup.errors import AsyncdupError, ChainError, CodecError, FormatError, IntegrityError

pytestmark = pytest.mark.realtime

FORMS = {form.name: form for form in (PLAIN, BARE, SYMMETRIC)}
Damage = Callable[[Path], None]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Archive]:
    """A full and an increment in a form, of several volumes each; made once a worker. The source is left as it was backed up last."""
    made: dict[str, Archive] = {}

    def make(name: str) -> Archive:
        if name not in made:
            if "encryption" in FORMS[name].options:
                request.getfixturevalue("keyring")
            made[name] = new = Archive(tmp_path_factory.mktemp(name), None, FORMS[name])
            make_plain(new.source)
            new.by_us("full", volume_size=200 << 10)
            edit_plain(new.source)
            new.by_us("incremental", volume_size=200 << 10)
        return made[name]

    return make


@pytest.fixture
def damaged(pristine: Callable[[str], Archive], tmp_path: Path) -> Callable[..., Archive]:
    """A copy of the archive, with its cache or without."""

    def make(name: str = "plain", *, cache: bool = False) -> Archive:
        return copied(pristine(name), tmp_path, cache=cache)

    return make


def copied(original: Archive, folder: Path, *, cache: bool) -> Archive:
    """The same archive in another folder."""
    made = Archive(folder, None, original.form, source=original.source)
    shutil.copytree(original.target, made.target)
    if cache:
        shutil.copytree(original.cache["us"], made.cache["us"])
    made.kept, made.time = dict(original.kept), original.time
    return made


def flip(path: Path, at: int | None = None) -> None:
    """One bit of one byte, by default of the first one from the middle on that changes what is read."""
    data = path.read_bytes()
    if at is None:
        at = next(place for place in range(len(data) // 2, len(data)) if not reads_as(flipped(data, place), data))
    path.write_bytes(flipped(data, at))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def reads_as(bad: bytes, data: bytes) -> bool:
    """A flipped distance in deflate, within a run of zeros, may name another zero: then nothing is lost."""
    try:
        return gzip.decompress(bad) == gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return False


def cut(path: Path) -> None:
    """Only the first half is left."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_a_line(manifest: Path) -> None:
    """In the middle of what a manifest says of its second volume."""
    text = manifest.read_bytes()
    manifest.write_bytes(text[: text.index(b"Hash", text.index(b"Volume 2:")) + 20])


def cut_between_volumes(manifest: Path) -> None:
    """What is left could be the whole manifest of a smaller set."""
    text = manifest.read_bytes()
    manifest.write_bytes(text[: text.index(b"Volume 2:")])


def empty(path: Path) -> None:
    """The name is there, the content is not."""
    path.write_bytes(b"")


def one(made: Archive, pattern: str) -> Path:
    """The first object at the target with such a name."""
    return min(made.target.glob(pattern))


@pytest.mark.parametrize("damage", [flip, cut, empty])
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_volume_stops_the_restore(form: str, damage: Damage, damaged: Callable[..., Archive]) -> None:
    """P3, P4: its hash is checked before a byte is used (exit 21, as stock's), it is named, and the files that are there already are right."""
    made = damaged(form)
    damage(volume := one(made, "duplicity-inc*.vol2.*"))
    to = made.folder / "restored"

    with pytest.raises(IntegrityError, match=re.escape(volume.name)) as caught:
        run(restore(made.url, to, made.options()))

    assert caught.value.exit_code == 21
    left = {path: entry for path, entry in listing(to).items() if entry["type"] == "reg"} if to.exists() else {}
    assert left.items() <= made.kept[made.time].items()
    assert made.read_by_us(START) == made.kept[START]


def test_two_volumes_that_changed_places_are_damage(damaged: Callable[..., Archive]) -> None:
    made = damaged()
    first, second = one(made, "duplicity-full*.vol1.*"), one(made, "duplicity-full*.vol2.*")
    aside = first.rename(made.folder / "aside")
    second.rename(first)
    aside.rename(second)

    with pytest.raises(IntegrityError, match=re.escape(first.name)):
        made.read_by_us()


@pytest.mark.parametrize("command", ["restore", "verify"])
@pytest.mark.parametrize("form", FORMS)
def test_a_missing_volume_is_named_before_anything_is_written(form: str, command: str, damaged: Callable[..., Archive]) -> None:
    """P4: volumes 1..n without gaps, the last one included (exit 1)."""
    made = damaged(form)
    for volume in (one(made, "duplicity-full*.vol2.*"), max(made.target.glob("duplicity-full*.vol*"))):
        hidden = volume.rename(made.folder / volume.name)
        with pytest.raises(ChainError, match=re.escape(volume.name)) as caught:
            made.read_by_us() if command == "restore" else made.differences_by_us()
        assert caught.value.exit_code == 1
        assert not any(made.folder.glob("restored-*"))
        hidden.rename(volume)

    assert made.read_by_us() == made.kept[made.time]


def test_a_path_that_needs_no_missing_volume_restores(damaged: Callable[..., Archive]) -> None:
    made = damaged()
    max(made.target.glob("duplicity-full*.vol*")).unlink()

    assert made.read_by_us(path="becomes-file") == {".": made.kept[made.time]["becomes-file"]}


@pytest.mark.parametrize(
    ("form", "damage"),
    [
        ("plain", cut_in_a_line),
        ("plain", cut_between_volumes),
        ("plain", empty),
        ("symmetric", flip),
        ("symmetric", cut),
        ("symmetric", empty),
    ],
)
@pytest.mark.parametrize("cache", [True, False])
def test_a_damaged_manifest_is_named(form: str, cache: bool, damage: Damage, damaged: Callable[..., Archive]) -> None:
    """P4, P5: a cut or empty manifest is damage, not a smaller backup, also if the cache has a good copy."""
    made = damaged(form, cache=cache)
    damage(manifest := one(made, "duplicity-inc*.manifest*"))

    with pytest.raises((FormatError, CodecError), match=re.escape(manifest.name)):
        made.read_by_us()
    with pytest.raises((FormatError, CodecError), match=re.escape(manifest.name)):
        made.by_us("incremental")

    assert made.read_by_us(START) == made.kept[START]


def test_a_manifest_without_its_hashes_is_damage(damaged: Callable[..., Archive]) -> None:
    """P4: nothing could be verified."""
    made = damaged()
    manifest = one(made, "duplicity-inc*.manifest")
    manifest.write_bytes(re.sub(rb" *Hash.*\n", b"", manifest.read_bytes()))

    with pytest.raises(FormatError, match=re.escape(manifest.name)):
        made.read_by_us()


def test_a_manifest_that_leaves_a_volume_out_is_damage(damaged: Callable[..., Archive]) -> None:
    """P4: volumes 1..n without gaps."""
    made = damaged()
    manifest = one(made, "duplicity-full*.manifest")
    text = manifest.read_bytes()
    manifest.write_bytes(text[: text.index(b"Volume 2:")] + text[text.index(b"Volume 3:") :])

    with pytest.raises(FormatError, match=re.escape(manifest.name)):
        made.read_by_us()


# A bit flipped in a plain tar need not show, as it has no checksum of contents: see the last test of all.
WAYS = [(form, damage) for form in FORMS for damage in (flip, cut, empty) if (form, damage) != ("bare", flip)]


@pytest.mark.parametrize(("form", "damage"), WAYS)
@pytest.mark.parametrize("which", ["full-signatures", "new-signatures"])
def test_a_damaged_signature_archive_stops_the_increment_and_not_the_restore(
    form: str, which: str, damage: Damage, damaged: Callable[..., Archive]
) -> None:
    """P4: it is found before anything is written, named, and never becomes a copy in the cache."""
    made = damaged(form)
    damage(signatures := one(made, f"duplicity-{which}*"))
    before = sorted(made.target.iterdir())

    with pytest.raises((FormatError, CodecError), match=re.escape(signatures.name)):
        made.by_us("incremental")
    with pytest.raises((FormatError, CodecError), match=re.escape(signatures.name)):
        run(list_current_files(made.url, made.options(), on_entries=lambda entries: None))

    assert sorted(made.target.iterdir()) == before
    assert not [path for path in (made.cache["us"] / "c").iterdir() if which in path.name]
    made.kept.popitem()
    made.check("us")


def test_a_missing_signature_archive_stops_the_increment_and_backup_makes_a_full(damaged: Callable[..., Archive]) -> None:
    """Format, section 16: exit 17; the restore does not need it."""
    made = damaged()
    one(made, "duplicity-full-signatures*").unlink()

    with pytest.raises(ChainError) as caught:
        made.by_us("incremental")
    assert caught.value.exit_code == 17
    made.kept.popitem()

    assert made.by_us("backup").set_id.is_full
    made.check("us")


def test_a_missing_manifest_makes_the_set_unfinished_and_names_what_is_built_on_it(damaged: Callable[..., Archive]) -> None:
    """P3: no older state is restored in the place of the newest, silently."""
    made = damaged()
    manifest = one(made, "duplicity-full*.manifest")
    manifest.unlink()

    with pytest.raises(ChainError, match=re.escape(manifest.name)):
        made.read_by_us()


def test_an_emptied_target_is_not_an_empty_one(damaged: Callable[..., Archive]) -> None:
    """P19."""
    made = damaged(cache=True)
    remove(made.target)
    made.target.mkdir()

    with pytest.raises(ChainError, match="force"):
        try:
            made.by_us("backup")
        except ChainError as error:
            raise ChainError(f"{error} {error.hint}") from error
    assert list(made.target.iterdir()) == []

    made.kept.clear()
    assert made.by_us("backup", force=True).set_id.is_full
    made.check("us")


@pytest.mark.slow
@pytest.mark.parametrize(("form", "seed"), [(form, seed) for form in FORMS for seed in range(2 if form == "symmetric" else 5)])
def test_no_single_bit_makes_a_wrong_restore(form: str, seed: int, damaged: Callable[..., Archive]) -> None:
    """P3, P4: one bit of each file at the target in turn. The restore is right or refused with an error of ours."""
    made = damaged(form)
    rng = random.Random(seed)
    for path in sorted(made.target.iterdir()):
        good = path.read_bytes()
        flip(path, rng.randrange(len(good)))
        assert refused_or_right(made)
        path.write_bytes(good)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("which", ["full-signatures", "new-signatures"])
def test_no_single_bit_of_the_signatures_makes_a_wrong_increment(which: str, seed: int, damaged: Callable[..., Archive]) -> None:
    """P3: without any checksum the increment is still refused, or it holds more than it must, and restores to what the source was."""
    made = damaged("bare")
    made.source = made.folder / "source"
    for make in (make_plain, edit_plain, edit_again):
        make(made.source)
    signatures = one(made, f"duplicity-{which}*")
    flip(signatures, random.Random(seed).randrange(len(signatures.read_bytes().rstrip(b"\0"))))

    try:
        made.by_us("incremental", allow_source_mismatch=True)
    except AsyncdupError:
        made.kept.popitem()

    made.check("us")


def refused_or_right(made: Archive) -> bool:
    """Whether the restore of now ends with an error of ours, or as it must."""
    try:
        return made.read_by_us() == made.kept[made.time]
    except AsyncdupError:
        return True
