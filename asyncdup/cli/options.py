"""The words of the command line: every command and every option, ours and stock duplicity 3.2.1's, in one table each. No parsing here.

Stock's names are all present, also those that asyncdup does not serve: they take part in the resolution of prefixes, so that a prefix
means here what it means there, and they are refused by name with a reason. Source of names, values and defaults: ``duplicity --help``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from asyncdup import units
from asyncdup.cli.option_values import (
    blocksize,
    colon,
    command_words,
    digits,
    mebibytes,
    not_empty,
    one_of,
    per_second,
    percent,
    point_in_time,
    positive,
    size_above_zero,
    timetable,
    transfers,
    verbosity,
    whole,
    words,
)

Action = Literal["set", "append", "extend", "pair", "select", "encrypt-sign", "accept", "refuse", "help", "version"]


class Command(NamedTuple):
    """One command. ``arguments``: what follows it, in order: "path", "url", "time", "count", "pattern"; ``served``: this version has it; ``ours``: unknown to stock."""

    name: str
    aliases: tuple[str, ...]
    arguments: tuple[str, ...]
    help: str
    served: bool = True
    ours: bool = False


COMMANDS = (
    Command("backup", ("bu",), ("path", "url"), "back up PATH: incremental if there is a chain to continue, else full"),
    Command("full", ("fb",), ("path", "url"), "begin a new chain with a full backup of PATH"),
    Command("incremental", ("incr", "inc", "ib"), ("path", "url"), "back up what changed since the last backup"),
    Command("restore", ("rb",), ("url", "path"), "bring a backup back to PATH"),
    Command("verify", ("vb",), ("url", "path"), "compare a backup, data included, with PATH"),
    Command("collection-status", ("st",), ("url",), "show the chains and sets at the URL"),
    Command("list-current-files", ("ls",), ("url",), "list the files of a backup"),
    Command("cat", (), ("url", "path"), "write one file of a backup to standard output", ours=True),
    Command("mount", (), ("url", "path"), "show the backups as read-only folders on PATH, until it is unmounted", ours=True),
    Command("history", (), ("url", "path"), "the versions of a file over all backups", ours=True),
    Command("find", (), ("url", "pattern"), "find files by a pattern, over all backups or, with --time, in one", ours=True),
    Command("diff", (), ("url",), "what was new, changed and deleted between two backups: --from TIME --to TIME", ours=True),
    Command("check", (), ("url",), "whether the backups at the URL are whole; --read-data reads every byte", ours=True),
    Command("cleanup", ("cl",), ("url",), "remove what interrupted runs left; lists it, without --force"),
    Command("remove-older-than", ("ro",), ("time", "url"), "remove chains that ended before TIME; lists them, without --force"),
    Command("remove-all-but-n-full", ("ra",), ("count", "url"), "remove chains older than the COUNT newest fulls; the same"),
    Command("remove-all-inc-of-but-n-full", ("ri",), ("count", "url"), "remove their incrementals only; the same"),
    Command(
        "prune", (), ("url",), "keep one backup a day, a week, a month: --keep-daily 7 --keep-monthly 12; lists, without --force", ours=True
    ),
    Command("unlock", (), ("url",), "show the locks at the URL; remove them, with --force", ours=True),
    Command("backends", (), (), "list the kinds of URL, what each can do, and what to install for it", ours=True),
    Command("check-backend", (), ("url",), "try the URL out: does it keep what backups rely on, how fast is it", ours=True),
)

ALL = tuple(command.name for command in COMMANDS if command.served)
MAKING = ("backup", "full", "incremental")
READING = ("restore", "verify")
SELECTING = (*MAKING, *READING)
REPORTING = tuple(name for name in ALL if name not in (*MAKING, "restore", "cat", "mount"))  # what they find can be had as JSON


class Option(NamedTuple):
    """One option.

    Attributes:
        name: without dashes. ``aliases``: other spellings, "-t" or "time".
        field: of ``Settings``; "" for those that change nothing.
        action: ``set`` keeps the last value, ``append`` and ``extend`` collect, ``pair`` collects two words at a time, ``select`` keeps the order with others, ``accept`` does
            nothing.
        metavar: what the value is; "" for a flag. Of a refused option nothing but the name and ``why`` is looked at.
        convert: text of the value -> value. Raises ValueError with what it wants ("a whole number"), or UsageError.
        const: the value of a flag.
        default: of the field; where two options share one, that of the first row counts.
        why: of a refused option; of an accepted one without effect, the notice.
        commands: where it has an effect. Others accept it all the same, as stock does: wrappers pass one list to every command.
        ours: unknown to stock.
    """

    name: str
    field: str = ""
    action: Action = "set"
    metavar: str = ""
    convert: Callable[[str], Any] = str
    const: Any = True
    default: Any = None
    group: str = ""
    help: str = ""
    aliases: tuple[str, ...] = ()
    commands: tuple[str, ...] = ALL
    why: str = ""
    ours: bool = False


def _group(title: str, commands: tuple[str, ...], *options: Option) -> tuple[Option, ...]:
    return tuple(option._replace(group=title, commands=commands) for option in options)


def _rule(name: str, metavar: str, help: str) -> Option:
    convert = point_in_time if metavar == "TIME" else not_empty
    return Option(name, "selection", "select", metavar, convert, default=(), help=help)


def _setting(name: str, metavar: str = "", convert: Callable[[str], str] = not_empty, help: str = "", *, ours: bool = False) -> Option:
    return Option(name, "backend_settings", "select", metavar, convert, default=(), help=help, ours=ours)


def _refused(why: str, names: str) -> tuple[Option, ...]:
    return tuple(Option(name, action="refuse", why=why) for name in names.split())


# For backend classes of an installed duplicity, which read them under these names (observed: duplicity --help).
_HANDED_ON = (
    ("azure-blob-tier", "TIER"),
    ("azure-max-block-size", "BYTES"),
    ("azure-max-connections", "N"),
    ("azure-max-single-put-size", "BYTES"),
    ("b2-hide-files", ""),
    ("cf-backend", "NAME"),
    ("ftp-passive", ""),
    ("ftp-regular", ""),
    ("idr-fakeroot", "PATH"),
    ("imap-full-address", "ADDRESS"),
    ("imap-mailbox", "NAME"),
    ("mf-purge", ""),
    ("mp-segment-size", "MIB"),
    ("par2-options", "WORDS"),
    ("par2-redundancy", "PERCENT"),
    ("par2-volumes", "N"),
    ("rsync-options", "WORDS"),
    ("swift-storage-policy", "NAME"),
)

_SERVED = (
    *_group(
        "where things are",
        ALL,
        Option("archive-dir", "archive_dir", "set", "DIR", not_empty, help="local copies of metadata [~/.cache/duplicity]"),
        Option("name", "name", "set", "NAME", not_empty, help="folder in it [made from the URL]"),
        Option("tempdir", "tempdir", "set", "DIR", not_empty, help="temporary files, volumes on their way [TMPDIR]"),
        Option("force", "force", default=False, help="write over what is there; really delete; go on with an emptied target"),
        Option("file-prefix", "file_prefix", "set", "TEXT", default="", help="put TEXT before all names at the URL"),
        Option("file-prefix-archive", "file_prefix_archive", "set", "TEXT", default="", help="the same for volumes"),
        Option("file-prefix-manifest", "file_prefix_manifest", "set", "TEXT", default="", help="for manifests"),
        Option("file-prefix-signature", "file_prefix_signature", "set", "TEXT", default="", help="for signatures"),
        Option("file-prefix-jsonstat", "file_prefix_jsonstat", "set", "TEXT", default="", help="for duplicity's statistics"),
    ),
    *_group(
        "what to back up",
        SELECTING,
        _rule("include", "GLOB", "take what matches; the first rule that matches decides"),
        _rule("exclude", "GLOB", "leave out what matches"),
        _rule("include-filelist", "FILE", "rules from FILE, include unless they say else"),
        _rule("exclude-filelist", "FILE", "rules from FILE, exclude unless they say else"),
        _rule("include-regexp", "REGEX", "include by regular expression"),
        _rule("exclude-regexp", "REGEX", "exclude by regular expression"),
        _rule("exclude-if-present", "NAME", "leave out folders that contain NAME"),
        _rule("exclude-other-filesystems", "", "stay on the file system of the source"),
        _rule("exclude-device-files", "", "leave out device nodes"),
        _rule("exclude-older-than", "TIME", "leave out files not changed since TIME"),
        _rule("files-from", "FILE", "take the paths listed in FILE"),
        _rule("filter-globbing", "", "the rules that follow are globs"),
        _rule("filter-literal", "", "the rules that follow are literal paths"),
        _rule("filter-regexp", "", "the rules that follow are regular expressions"),
        _rule("filter-ignorecase", "", "the rules that follow ignore case"),
        _rule("filter-strictcase", "", "the rules that follow mind case"),
        Option("null-separator", "null_separator", default=False, help="NUL, not newline, between the lines of FILE"),
    ),
    *_group(
        "full or incremental",
        MAKING,
        Option("full-if-older-than", "full_if_older_than", "set", "AGE", point_in_time, help="full when the last full is older"),
        Option("full-if-n-inc", "full_if_n_inc", "set", "N", whole(0), help="full when the chain has N incrementals"),
        Option("skip-if-no-change", "skip_if_no_change", default=False, help="store no incremental that would hold nothing"),
        Option("copy-links", "copy_links", default=False, help="store what symlinks point to"),
        Option("no-files-changed", "files_changed", const=False, default=True, help="no list of changed files in the manifest"),
        Option("files-changed", "files_changed", default=True, help="the default"),
        Option(
            "metadata-sync-mode",
            "metadata_sync_mode",
            "set",
            "MODE",
            one_of("full", "partial"),
            default="partial",
            help="full: local copies of the metadata of all chains [partial: of the newest]",
        ),
        Option("allow-source-mismatch", "allow_source_mismatch", default=False, help="go on with a chain of another source"),
        Option("dry-run", "dry_run", default=False, help="say what would be done, write nothing"),
    ),
    *_group(
        "restore and verify",
        (*READING, "list-current-files", "cat", "find"),
        Option("restore-time", "restore_time", "set", "TIME", point_in_time, aliases=("-t", "time"), help="as it was then: 3D, 2026-11-02"),
    ),
    *_group(
        "restore and verify",
        READING,
        Option(
            "path-to-restore",
            "path_to_restore",
            "append",
            "PATH",
            not_empty,
            default=(),
            aliases=("-r",),
            help="only this file or folder; of several each goes to its own place",
        ),
        Option(
            "overwrite",
            "overwrite",
            "set",
            "WHEN",
            one_of("never", "older", "always"),
            ours=True,
            help="restore into what is there; replace of it what is in the backup: never, older or always",
        ),
        Option("restore-ownership", "restore_ownership", help="fail if owners cannot be restored"),
        Option("no-restore-ownership", "restore_ownership", const=False, help="do not restore owners"),
        Option("numeric-owner", "numeric_owner", default=False, help="owners by number, not by name"),
        Option("rename", "rename", "pair", "FROM TO", not_empty, default=(), help="restore FROM under the name TO; repeatable"),
        Option("ignore-errors", "ignore_errors", default=False, help="go on without damaged volumes; what is lost is named, exit code 30"),
        Option("untrusted-archive", "untrusted_archive", default=False, ours=True, help="no setuid and setgid bits, no device nodes"),
        Option("compare-data", action="accept", help="accepted: verify always compares data"),
    ),
    *_group(
        "status",
        ("collection-status",),
        Option("show-changes-in-set", "show_changes_in_set", "set", "N", whole(-1), help="files changed in a set of the chain; 0 = newest"),
        Option("file-changed", "file_changed", "set", "PATH", not_empty, help="in which sets this file is new or changed"),
    ),
    *_group(
        "status",
        (*MAKING, "collection-status"),
        Option("jsonstat", "jsonstat", default=False, help="statistics as JSON; a backup stores them beside its files, too"),
    ),
    *_group(
        "prune",
        ("prune",),
        Option("keep-daily", "keep_daily", "set", "N", whole(1), default=0, ours=True, help="the newest backup of each of the last N days"),
        Option("keep-weekly", "keep_weekly", "set", "N", whole(1), default=0, ours=True, help="of each of the last N weeks"),
        Option("keep-monthly", "keep_monthly", "set", "N", whole(1), default=0, ours=True, help="of each of the last N months"),
        Option("keep-yearly", "keep_yearly", "set", "N", whole(1), default=0, ours=True, help="of each of the last N years"),
    ),
    *_group(
        "compare",
        ("diff",),
        Option("from", "diff_from", "set", "TIME", point_in_time, ours=True, help="the older backup [the one before the newer]"),
        Option("to", "diff_to", "set", "TIME", point_in_time, ours=True, help="the newer backup; --time means it, too [the newest]"),
    ),
    *_group(
        "check",
        ("check",),
        Option("read-data", "read_data", default=False, ours=True, help="fetch and verify every volume, and the signatures"),
        Option("sample", "sample", "set", "PERCENT", percent, ours=True, help="only so much of them, another part every day: 5%"),
        Option("repair", "repair", default=False, ours=True, help="bring local copies back; with --force also signatures at the URL"),
    ),
    *_group(
        "check",
        ("check-backend",),
        Option("speed", "speed", default=False, ours=True, help="only how fast it is, and what to set; no promises"),
    ),
    *_group(
        "check",
        REPORTING,
        Option("json", "json", default=False, ours=True, help="the result as lines of JSON (docs/json.md)"),
    ),
    *_group(
        "encryption",
        ALL,
        Option("no-encryption", "encryption", const=False, default=True, help="store in plain"),
        Option("encryption", "encryption", default=True, help="the default: with PASSPHRASE, or to keys"),
        Option("encrypt-key", "encrypt_keys", "append", "KEY", not_empty, default=(), help="encrypt to this key; repeatable"),
        Option("hidden-encrypt-key", "hidden_encrypt_keys", "append", "KEY", not_empty, default=(), help="the same, without naming it"),
        Option("sign-key", "sign_key", "set", "KEY", not_empty, help="sign with it; on reading, insist on it"),
        Option("encrypt-sign-key", "", "encrypt-sign", "KEY", not_empty, help="both"),
        Option("use-agent", "use_agent", default=False, help="never ask for a passphrase; gpg asks its agent"),
        Option("keyring", "keyring", default=False, ours=True, help="passphrase and password from the session's keyring"),
        Option("gpg-binary", "gpg_binary", "set", "FILE", not_empty, default="gpg", help="the gpg to run [gpg]"),
        Option("gpg-options", "gpg_options", "extend", "WORDS", words, default=(), help="more options for gpg"),
    ),
    *_group(
        "volumes",
        MAKING,
        Option("volsize", "volsize", "set", "MIB", mebibytes, default=200 << 20, help="size of a volume in MiB [200]"),
        Option("compression", "compression", default=True, help="the default"),
        Option("no-compression", "compression", const=False, default=True, help="do not compress"),
        Option("compression-level", "compression_level", "set", "N", whole(0, most=9), ours=True, help="0, fast, to 9, small"),
        Option("max-blocksize", "max_blocksize", "set", "BYTES", blocksize, default=0, help="largest block of signatures [no limit]"),
    ),
    *_group(
        "transfer",
        ALL,
        Option(
            "concurrency",
            "concurrency",
            "set",
            "N",
            transfers,
            help="transfers at once; 0 = none in the background; auto = what is best [auto if it can]",
        ),
        Option("timeout", "timeout", "set", "SECONDS", positive, default=60.0, help="an attempt ends when nothing moves for so long [60]"),
        Option("spool", "spool", "set", "SIZE", size_above_zero, ours=True, help="disk for volumes on their way [N + 2 volumes]"),
        Option("memory", "memory", "set", "SIZE", size_above_zero, ours=True, help="memory for data on its way [256M]"),
        Option(
            "upload-limit",
            "upload_limit",
            "set",
            "RATE",
            timetable,
            ours=True,
            help="of what is sent: 512k, or by time: 08:00,512k 19:00,off",
        ),
        Option("download-limit", "download_limit", "set", "RATE", timetable, ours=True, help="the same for what is fetched"),
        Option("request-limit", "request_limit", "set", "N", per_second, ours=True, help="requests a second, at most"),
        Option("ssh-options", "ssh_options", "extend", "WORDS", words, default=(), help="as for ssh: -oPort=22, -i FILE"),
    ),
    *_group(
        "single backends",
        ALL,
        Option(
            "backend-concurrency",
            "backend_concurrency",
            "set",
            "N",
            whole(1),
            ours=True,
            help="instances of a backend class of duplicity [1, or as many as it says it can]",
        ),
        _setting("tcp-congestion", "NAME", help="congestion control of ssh and S3 connections, as bbr [the host's]", ours=True),
        _setting("s3-endpoint-url", "URL", help="the S3 server, if it is not Amazon's"),
        _setting("s3-region-name", "NAME", help="where the bucket is"),
        _setting("s3-profile", "NAME", help="of ~/.aws/config [AWS_PROFILE]", ours=True),
        _setting("s3-path-style", help="the bucket in the path, not in the host name", ours=True),
        _setting("s3-anonymous", help="without credentials, for reading public buckets", ours=True),
        _setting("s3-unencrypted-connection", help="HTTP instead of HTTPS"),
        _setting("s3-multipart-chunk-size", "MIB", digits, help="size of a part [8, or what 10,000 parts need]"),
        _setting("s3-multipart-max-procs", "N", digits, help="accepted: --concurrency is what there is"),
        _setting("s3-use-server-side-encryption", help="stored with the server's own keys (SSE-S3)"),
        _setting("s3-use-server-side-kms-encryption", help="stored with a key of its key service (SSE-KMS)"),
        _setting("s3-kms-key-id", "ID", help="that key"),
        _setting("s3-kms-grant", "GRANT", help="accepted: for duplicity's class only"),
        _setting("s3-use-ia", help="volumes in storage class STANDARD_IA"),
        _setting("s3-use-onezone-ia", help="in ONEZONE_IA"),
        _setting("s3-use-rrs", help="in REDUCED_REDUNDANCY"),
        _setting("s3-use-glacier", help="in GLACIER"),
        _setting("s3-use-glacier-ir", help="in GLACIER_IR"),
        _setting("s3-use-deep-archive", help="in DEEP_ARCHIVE"),
        _setting("ssl-cacert-file", "FILE", help="certificate authorities to trust"),
        _setting("ssl-cacert-path", "DIR", help="a folder of them"),
        _setting("ssl-no-check-certificate", help="do not check the server's certificate"),
        _setting("webdav-headers", "TEXT", help="more headers: 'Name,value,Name,value'"),
        _setting("duplicity-python", "PYTHON", help="which has duplicity, for its backend classes [the first found]", ours=True),
        _setting("fsspec-options", "FILE", help="TOML: storage options for fsspec+PROTOCOL://, or a table of them for each", ours=True),
        *(_setting(name, metavar) for name, metavar in _HANDED_ON),
    ),
    *_group(
        "when the backend fails",
        ALL,
        Option(
            "retry-failure-mode",
            "retry_failure_mode",
            "set",
            "MODE",
            one_of("fail", "intervention", "wait"),
            default="fail",
            ours=True,
            help="fail; intervention: wait for you; wait: keep trying [fail]",
        ),
        Option(
            "retry-failure-flag",
            "retry_failure_flag",
            "set",
            "FILE",
            not_empty,
            ours=True,
            help="there while it waits for you; remove it to go on",
        ),
        Option(
            "intervention-timeout",
            "intervention_timeout",
            "set",
            "SECONDS",
            units.parse_duration,
            default=0.0,
            ours=True,
            help="end with exit code 61 when it has waited for you so long [0 = never]",
        ),
        Option(
            "on-intervention",
            "on_intervention",
            "set",
            "COMMAND",
            command_words,
            default=(),
            ours=True,
            help="run when it begins to wait for you (no shell; JSON on its standard input)",
        ),
        Option("num-retries", "num_retries", "set", "N", whole(1), help="attempts before it counts as failed [15 minutes of them]"),
        Option(
            "backend-retry-delay",
            "backend_retry_delay",
            "set",
            "SECONDS",
            units.parse_duration,
            help="between them [30 with --num-retries]",
        ),
        Option(
            "grace",
            "grace",
            "set",
            "SECONDS",
            units.parse_duration,
            default=10.0,
            ours=True,
            help="for running transfers after Ctrl-C [10]",
        ),
    ),
    *_group(
        "what is said",
        ALL,
        Option(
            "verbosity",
            "verbosity",
            "set",
            "LEVEL",
            verbosity,
            default=3,
            aliases=("-v",),
            help="0 to 9 or error, warning, notice, info, debug [notice]",
        ),
        Option("progress", "progress", default=False, help="progress also where there is no terminal; the source is counted first"),
        Option("progress-rate", "progress_rate", "set", "SECONDS", positive, default=3.0, help="between such lines [3]"),
        Option("no-print-statistics", "print_statistics", const=False, default=True, help="no statistics at the end of a backup"),
        Option("print-statistics", "print_statistics", default=True, help="the default"),
        Option("log-fd", "log_fd", "set", "N", whole(0), help="duplicity's log for programs, to this file descriptor"),
        Option("log-file", "log_file", "set", "FILE", not_empty, help="the same, to the end of FILE"),
        Option("log-timestamp", "log_timestamp", default=False, help="date and level before each line"),
        Option("log-json", "log_json", "set", "FILE", not_empty, ours=True, help="all events as JSON lines; - is standard output"),
        Option("trace", "trace", "set", "FILE", not_empty, ours=True, help="a timeline of all transfers, for ui.perfetto.dev"),
        Option("metrics-file", "metrics_file", "set", "FILE", not_empty, ours=True, help="figures of the run for Prometheus"),
        Option("help", action="help", aliases=("-h",), help="this text; with a command, about it"),
        Option("version", action="version", aliases=("-V",), help="the version"),
    ),
    Option("current-time", "current_time", "set", "SECONDS", whole(0)),
    Option("asynchronous-upload", action="accept", why="--asynchronous-upload has no effect: transfers always run in the background"),
    Option("check-remote", action="accept"),
    Option("no-check-remote", action="accept", why="--no-check-remote has no effect: one listing shows what is at the URL"),
    Option("time-separator", action="accept", metavar="CHAR", convert=colon),
)

_REFUSED = (
    *_refused("it leaves a volume out on purpose, for tests of duplicity", "skip-volume"),
    *_refused("asyncdup has no configuration folder; leave it out", "config-dir"),
    *_refused("asyncdup sizes its blocks itself; leave it out", "copy-blocksize"),
    *_refused("gpg has no secret keyring files since 2.1; use --gpg-options=--homedir=DIR", "encrypt-secret-keyring"),
    *_refused("asyncdup encrypts with OpenPGP only", "use-gpgsm"),
    *_refused("asyncdup speaks ssh itself; use --ssh-options", "scp-command sftp-command"),
    *_refused("set BACKEND_PASSWORD, or use a key", "ssh-askpass"),
    *_refused("it is for developers of duplicity", "pydevd"),
)

# Stock spells the help of a command as an option of its own (observed: duplicity --help).
_HELP = tuple(
    Option(f"help-{topic}", action="help", const=topic)
    for topic in ("urls", "inc", *(command.name for command in COMMANDS if command.name != "incremental" and not command.ours))
)

OPTIONS = (*_SERVED, *_REFUSED, *_HELP)

# Options that duplicity had and dropped in 2.0, with what takes their place (observed: its own refusal names the first two).
DROPPED = {
    "file-to-restore": "use --path-to-restore",
    "do-not-restore-ownership": "use --no-restore-ownership",
    "include-globbing-filelist": "use --include-filelist, which reads globs",
    "exclude-globbing-filelist": "use --exclude-filelist, which reads globs",
    "include-filelist-stdin": "use --include-filelist=/dev/stdin",
    "exclude-filelist-stdin": "use --exclude-filelist=/dev/stdin",
    "gio": "leave it out; a gio target is written as a gio+ URL",
    "short-filenames": "leave it out; names are always the long ones",
    "old-filenames": "leave it out; names are always the present ones",
    "s3-european-buckets": "leave it out",
    "s3-multipart-max-timeout": "leave it out; --timeout is what there is",
    "s3-use-multiprocessing": "leave it out; --concurrency is what there is",
    "s3-use-new-style": "leave it out",
}
