"""Scripts that call ``duplicity``, as people have them, with asyncdup under that name first in their PATH.

Each is run with asyncdup, and then with stock duplicity, which restores what asyncdup has made by then.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interop.both import parse_log
from interop.stock import Stock
from interop.trees import listing

pytestmark = [pytest.mark.realtime, pytest.mark.interop, pytest.mark.slow]

# In the manner of duply: a profile of settings, a function for each of its commands, a batch of them, exit codes looked at after each.
DULY = r"""
set -u
SOURCE="$1"; TARGET="$2"; shift 2
export PASSPHRASE='x y'
DUPL_PARAMS="--no-encryption --name duply_test --archive-dir $HOME/.cache/duplicity --verbosity 4 --volsize 50 --full-if-older-than 1M"
FILTER="$HOME/exclude"
printf '%s\n' "- **/cache" > "$FILTER"

dup() { duplicity "$@"; }

version=$(duplicity --version | awk '{print $2}')
[ -n "$version" ] || exit 99

do_pre()    { : > "$HOME/pre.ran"; }
do_bkp()    { dup backup $DUPL_PARAMS --exclude-filelist "$FILTER" "$SOURCE" "$TARGET"; }
do_incr()   { dup incremental $DUPL_PARAMS --exclude-filelist "$FILTER" "$SOURCE" "$TARGET"; }
do_full()   { dup full $DUPL_PARAMS --exclude-filelist "$FILTER" "$SOURCE" "$TARGET"; }
do_verify() { dup verify $DUPL_PARAMS --compare-data --exclude-filelist "$FILTER" "$TARGET" "$SOURCE"; }
do_status() { dup collection-status $DUPL_PARAMS "$TARGET"; }
do_list()   { dup list-current-files $DUPL_PARAMS -t now "$TARGET"; }
do_fetch()  { dup restore $DUPL_PARAMS --restore-time now --path-to-restore "$1" "$TARGET" "$2"; }
do_restore(){ dup restore $DUPL_PARAMS --restore-time now "$TARGET" "$1"; }
do_purge()  { dup remove-older-than 6M $DUPL_PARAMS --force "$TARGET"; }
do_purgeF() { dup remove-all-but-n-full 2 $DUPL_PARAMS --force "$TARGET"; }
do_purgeI() { dup remove-all-inc-of-but-n-full 1 $DUPL_PARAMS --force "$TARGET"; }
do_cleanup(){ dup cleanup $DUPL_PARAMS --force "$TARGET"; }

for step in "$@"; do
    do_$(echo "$step" | sed 's/:/ /g; s/ .*//') $(echo "$step" | sed -n 's/^[^:]*://p' | tr ':' ' ')
    code=$?
    echo "--- $step ended with $code"
    [ $code -eq 0 ] || exit $code
done
"""

# Lines as they stand in crontabs: no command, options behind the arguments, cut options, times of all kinds.
CRON = [
    "duplicity --full-if-older-than 1M --no-enc {source} {url}",
    "duplicity full {source} {url} --no-encryption -v0",
    "duplicity {source} {url} --no-encryption --exclude {source}/cache -v1 > /dev/null",
    "duplicity inc --no-encryption --exclude='**/cache' --num-ret=2 --vol 25 {source} {url} >> $HOME/backup.log 2>&1",
    "cd {source} && duplicity --include ./docs --exclude '**' . file://$HOME/partly --no-encryption",
    "duplicity remove-older-than 30D --force --no-encryption {url}",
    "duplicity remove-all-but-n-full 3 {url} --force --no-encryption && duplicity cleanup --force {url} --no-encryption",
    "nice -n 10 duplicity verify {url} {source} --no-encryption --compare-data --exclude '**/cache' || test $? = 1",
    "duplicity restore -t 0s -r docs/letter {url} $HOME/one --no-encryption",
    "duplicity --no-encryption {url} $HOME/all",
]

# In the manner of Déjà Dup: a pipe, records as they come, the meaning taken from level and code alone.
READER = r"""
import os, subprocess, sys

def run(*words):
    reading, writing = os.pipe()
    child = subprocess.Popen(["duplicity", *words, f"--log-fd={writing}", "--verbosity=9"], pass_fds=[writing],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    seen = []
    with open(reading, encoding="utf-8") as log:
        control, text = None, []
        for line in log:
            line = line.rstrip("\n")
            if not line:
                if control:
                    seen.append((control, text))
                control, text = None, []
            elif line.startswith(". "):
                text.append(line[2:])
            elif control is None:
                control = [line]
            else:
                control.append(line)
    return child.wait(), seen

def codes(seen, level):
    return [int(control[0].split()[1]) for control, _ in seen if control[0].split()[0] == level]

source, url, out = sys.argv[1:]
common = ["--no-encryption", "--archive-dir", os.path.expanduser("~/deja")]

code, seen = run("full", "--dry-run", *common, source, url)
total = max(int(c[0].split()[2]) for c, _ in seen if c[0].startswith("INFO 2 "))
assert code == 0 and total > 0, (code, seen)

code, seen = run("full", *common, source, url)
progress = [int(c[0].split()[2]) for c, _ in seen if c[0].startswith("INFO 2 ")]
assert code == 0 and 4 in codes(seen, "INFO"), seen
assert progress == sorted(progress) and progress[-1] <= total + 4096 * 10, (progress, total)

code, seen = run("collection-status", *common, url)
*_, status = [c for c, _ in seen if c[0].startswith("INFO 3")]
dates = [line.split()[1] for line in status[1:] if line.startswith(" ")]
assert code == 0 and len(dates) == 1, status

code, seen = run("list-current-files", *common, url)
names = [c[0].split(" ", 3)[3] for c, _ in seen if c[0].startswith("INFO 10 ")]
assert code == 0 and "'docs/letter' reg" in names, names

code, seen = run("restore", *common, "--force", url, out)
assert code == 0 and "'docs/letter' reg" in [c[0].split(" ", 2)[2] for c, _ in seen if c[0].startswith("INFO 7 ")], seen

code, seen = run("restore", *common, url, source)
assert code == 11 and codes(seen, "ERROR") == [11], seen
print("read", total)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "source" / "docs").mkdir(parents=True)
    (tmp_path / "source" / "cache").mkdir()
    (tmp_path / "source" / "docs" / "letter").write_text("Dear reader")
    (tmp_path / "source" / "cache" / "junk").write_text("junk")
    (tmp_path / "bin").mkdir()
    return tmp_path


def environ(home: Path, program: Path | None) -> dict[str, str]:
    """With ``program`` under the name ``duplicity``; None: asyncdup, by a link to its script where there is one."""
    name = home / "bin" / "duplicity"
    name.unlink(missing_ok=True)
    script = Path(sys.executable).with_name("asyncdup")
    if program is not None:
        name.symlink_to(program)
    elif script.exists():
        name.symlink_to(script)
    else:
        name.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m asyncdup "$@"\n')
        name.chmod(0o755)
    path = f"{home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LC_ALL": "C.UTF-8", "PASSPHRASE": "x"}


def shell(script: str, home: Path, program: Path | None, *words: str) -> str:
    done = subprocess.run(
        ["sh", "-c", script, "wrapper", *words],
        env=environ(home, program),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def test_a_wrapper_in_the_manner_of_duply_runs_its_batches(home: Path, stock: Stock) -> None:
    source, url = str(home / "source"), f"file://{home}/target"
    batch = ["pre", "bkp", "verify", "status", "list", f"fetch:docs/letter:{home}/one", "full", "purge", "purgeF", "purgeI", "cleanup"]

    said = shell(DULY, home, None, source, url, *batch, f"restore:{home}/by-us")
    shell(DULY, home, stock.python.with_name("duplicity"), source, url, f"restore:{home}/by-stock", "incr")
    shell(DULY, home, None, source, url, "incr", "verify")

    assert said.count("ended with 0") == len(batch) + 1
    assert (home / "one").read_text() == "Dear reader"
    assert listing(home / "by-us") == listing(home / "by-stock")
    assert not (home / "by-us" / "cache").exists()


def test_lines_of_crontabs_run_as_they_are(home: Path, stock: Stock) -> None:
    for line in CRON:
        shell(line.format(source=home / "source", url=f"file://{home}/target"), home, None)

    assert (home / "one").read_text() == "Dear reader"
    assert (home / "all" / "docs" / "letter").read_text() == "Dear reader"
    (home / "docs-only").mkdir()
    stock("restore", f"file://{home}/partly", str(home / "docs-only"), "--no-encryption")
    assert sorted(path.name for path in (home / "docs-only").rglob("*")) == ["docs", "letter"]


def test_cron_has_nothing_to_mail_of_a_quiet_run(home: Path) -> None:
    line = f"duplicity full {home}/source file://{home}/target --no-encryption --no-print-statistics -v2"

    assert shell(line, home, None) == ""


@pytest.mark.parametrize("who", ["us", "stock"])
def test_a_front_end_in_the_manner_of_deja_dup_reads_the_log(who: str, home: Path, stock: Stock) -> None:
    (home / "reader.py").write_text(READER)
    program = None if who == "us" else stock.python.with_name("duplicity")
    line = f'"{sys.executable}" "{home}/reader.py" "{home}/source" "file://{home}/target" "{home}/restored"'

    assert shell(line, home, program).startswith("read ")


def test_the_log_of_the_wrappers_is_what_the_strict_reader_takes(home: Path) -> None:
    line = f"duplicity full {home}/source file://{home}/target --no-encryption -v9 --log-fd 3 3> {home}/log"
    shell(line, home, None)

    assert {record.level for record in parse_log((home / "log").read_text())} >= {"INFO", "NOTICE", "DEBUG"}
