"""Options of a backup that decide what is made of it, beside stock duplicity."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from interop.archives import START
from interop.both import Program

pytestmark = [pytest.mark.realtime, pytest.mark.interop]

DAY = 86_400
Both = tuple[Program, Program]


@pytest.mark.parametrize("most", [0, 1, 2])
def test_full_if_n_inc_makes_a_full_when_stock_does(most: int, both: Both) -> None:
    fulls = []
    for program in both:
        program.backups("full")
        for number in range(1, 5):
            os.utime(program.source / "a", (number, number))
            words = ("incremental", "--no-encryption", "--full-if-n-inc", str(most), "{source}", "{url}")
            assert program(*words, at=START + number * DAY) == 0, program.said
        fulls.append([name for name in program.names() if ".manifest" in name])

    assert fulls[0] == fulls[1]


@pytest.mark.parametrize("action", ["backup", "incremental"])
def test_skip_if_no_change_stores_nothing_when_stock_stores_nothing(action: str, both: Both) -> None:
    for program in both:
        program.backups("full")
        before = program.names()

        assert program(action, "--no-encryption", "--skip-if-no-change", "{source}", "{url}", at=START + DAY) == 0, program.said
        assert program.names() == before

        (program.source / "a").write_text("changed")
        os.utime(program.source / "a", (1_600_000_000, 1_600_000_000))
        assert program(action, "--no-encryption", "--skip-if-no-change", "{source}", "{url}", at=START + 2 * DAY) == 0
        assert len(program.names()) == len(before) + 3


def test_an_incremental_that_holds_nothing_is_stored_unless_it_is_skipped(both: Both) -> None:
    ours, _ = both
    ours.backups("full")
    before = len(ours.names())

    assert ours("incremental", "--no-encryption", "{source}", "{url}", at=START + DAY) == 0
    assert len(ours.names()) == before + 3


def _shape(value: Any) -> Any:
    return {name: _shape(each) for name, each in value.items()} if isinstance(value, dict) else type(value).__name__


def _stored(program: Program) -> list[dict[str, Any]]:
    files = sorted(program.target.glob("*.jsonstat.gz"))
    return [json.loads(gzip.decompress(path.read_bytes())) for path in files]


def test_jsonstat_is_stored_under_stocks_names_with_stocks_keys_and_counts(both: Both) -> None:
    written = []
    for program in both:
        (program.source / "a").write_text("first")
        os.utime(program.source / "a", (1_500_000_000, 1_500_000_000))
        assert program("full", "--no-encryption", "--jsonstat", "{source}", "{url}", at=START) == 0, program.said
        (program.source / "a").write_text("second")
        os.utime(program.source / "a", (1_600_000_000, 1_600_000_000))
        assert program("incremental", "--no-encryption", "--jsonstat", "{source}", "{url}", at=START + DAY) == 0, program.said
        assert '"skipped_inc": false' in program.said
        written.append(([name for name in program.names() if "jsonstat" in name], _stored(program)))

    (our_names, ours), (stocks_names, stocks) = written
    assert our_names == stocks_names
    for us, them in zip(ours, stocks, strict=True):
        assert list(us) == list(them)
        assert us.pop("TotalDestinationSizeChange") > 0  # stock always says null
        them.pop("TotalDestinationSizeChange")
        assert _shape(us) == _shape(them)
        counts = [
            name for name in us if name.endswith(("Files", "Entries")) or name == "Errors"
        ]  # sizes: stock counts folders as 4096 bytes
        assert len(counts) == 6
        assert {name: us[name] for name in counts} == {name: them[name] for name in counts}
        meta = ("action", "skipped_inc", "time_full_bkp", "time_full_bkp_str", "no_of_inc", "source")
        assert {name: us["backup_meta"][name] for name in meta} == {name: them["backup_meta"][name] for name in meta}


def test_stock_shows_our_statistics_and_we_show_its(both: Both) -> None:
    ours, stocks = both
    for program in both:
        assert program("full", "--no-encryption", "--jsonstat", "{source}", "{url}", at=START) == 0, program.said
    shown = []
    for program, other in ((ours, stocks), (stocks, ours)):
        program.target = other.target
        words = ("collection-status", "--show-changes-in-set", "0", "--jsonstat", "{url}")
        assert program(*words, "--no-encryption", at=START + DAY) == 0, program.said
        (record,) = [record for record in program.records() if record.code == 3]
        shown.append(json.loads("\n".join(record.text)))

    assert [list(each) for each in shown] == [["full-20231114T221320Z"]] * 2
    both_sets = [each["full-20231114T221320Z"] for each in shown]
    assert both_sets[0]["files_changed"] == both_sets[1]["files_changed"] == {"a": "new", "folder/b": "new"}
    assert [each["json_stat"]["SourceFiles"] for each in both_sets] == [4, 4]


def test_no_files_changed_leaves_the_list_in_the_manifest_empty(both: Both) -> None:
    for program in both:
        assert program("full", "--no-encryption", "--no-files-changed", "{source}", "{url}", at=START) == 0, program.said
        (manifest,) = program.target.glob("*.manifest")
        assert manifest.read_text().splitlines()[-1] == "Filelist 0"


def test_copy_links_stores_what_links_lead_to(both: Both) -> None:
    source = both[0].source
    (source / "to-file").symlink_to("a")
    (source / "to-folder").symlink_to("folder")
    listed = []
    for program in both:
        assert program("full", "--no-encryption", "--copy-links", "{source}", "{url}", at=START) == 0, program.said
        assert program("list-current-files", "{url}", "--no-encryption", at=START + 1) == 0
        listed.append([record.extra.split()[1:] for record in program.records() if record.code == 10])

    assert listed[0] == listed[1]
    assert ["'to-folder/b'", "reg"] in listed[0]


def test_copy_links_keeps_a_link_that_leads_nowhere_or_back_to_where_we_are(both: Both, tmp_path: Path) -> None:
    """Stock drops the first and follows the second until the path is too long."""
    ours, _ = both
    (ours.source / "nowhere").symlink_to("not there")
    (ours.source / "folder" / "up").symlink_to("..")
    (ours.source / "self").symlink_to("self")

    assert ours("full", "--no-encryption", "--copy-links", "{source}", "{url}", at=START) == 0, ours.said
    assert ours("restore", "{url}", str(tmp_path / "restored"), "--no-encryption") == 0
    assert os.readlink(tmp_path / "restored/nowhere") == "not there"
    assert os.readlink(tmp_path / "restored/folder/up") == ".."


def test_metadata_sync_mode_full_brings_back_the_metadata_of_every_chain(both: Both) -> None:
    kept = []
    for program in both:
        program.backups("full", "incremental", "full")
        for path in (program.cache / "c").glob("duplicity-*"):
            path.unlink()
        words = ("incremental", "--no-encryption", "--metadata-sync-mode=full", "{source}", "{url}")
        assert program(*words, at=START + 5 * DAY) == 0, program.said
        kept.append(sorted(path.name for path in (program.cache / "c").glob("duplicity-*")))

    assert kept[0] == kept[1]
    assert len(kept[0]) == 8


def test_the_lines_of_a_filelist_end_where_null_separator_says(both: Both, tmp_path: Path) -> None:
    listed = []
    for program in both:
        rules = tmp_path / "rules"
        rules.write_bytes(b"- %s/a\0- %s/folder\0" % (os.fsencode(program.source), os.fsencode(program.source)))
        words = ("full", "--no-encryption", "--null-separator", "--exclude-filelist", str(rules), "{source}", "{url}")
        assert program(*words, at=START) == 0, program.said
        assert program("list-current-files", "{url}", "--no-encryption", at=START + 1) == 0
        listed.append([record.extra.split()[1] for record in program.records() if record.code == 10])

    assert listed == [["'.'"], ["'.'"]]


def test_jsonstat_says_that_an_incremental_was_skipped_and_stores_nothing(both: Both) -> None:
    for program in both:
        program.backups("full")
        before = program.names()

        words = ("incremental", "--no-encryption", "--skip-if-no-change", "--jsonstat", "{source}", "{url}")
        assert program(*words, at=START + DAY) == 0, program.said
        assert '"skipped_inc": true' in program.said
        assert program.names() == before


def test_verify_follows_links_where_the_backup_did(both: Both) -> None:
    ours, _ = both
    (ours.source / "to-folder").symlink_to("folder")
    assert ours("full", "--no-encryption", "--copy-links", "{source}", "{url}", at=START) == 0, ours.said

    assert ours("verify", "--no-encryption", "--copy-links", "{url}", "{source}") == 0, ours.said
    assert ours("verify", "--no-encryption", "{url}", "{source}") == 1
