"""The words of the command line: every command and every option, ours and stock duplicity 3.2.1's, in one table each. No parsing here.

Stock's names are all present, also those that asyncdup does not serve: they take part in the resolution of prefixes, so that a prefix
means here what it means there, and they are refused by name with a reason. Source of names, values and defaults: ``duplicity --help``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from asyncdup import units
from asyncdup.timetable import parse_timetable

Action = Literal["set", "append", "extend", "select", "encrypt-sign", "accept", "refuse", "help", "version"]


class Command(NamedTuple):
    """One command. ``arguments``: what follows it, in order: "path", "url", "time", "count"; ``served``: this version has it; ``ours``: unknown to stock."""

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
    Command("check", (), ("url",), "whether the backups at the URL are whole; --read-data reads every byte", ours=True),
    Command("cleanup", ("cl",), ("url",), "remove what interrupted runs left; lists it, without --force"),
    Command("remove-older-than", ("ro",), ("time", "url"), "remove chains that ended before TIME; lists them, without --force"),
    Command("remove-all-but-n-full", ("ra",), ("count", "url"), "remove chains older than the COUNT newest fulls; the same"),
    Command("remove-all-inc-of-but-n-full", ("ri",), ("count", "url"), "remove their incrementals only; the same"),
    Command("unlock", (), ("url",), "show the locks at the URL; remove them, with --force", ours=True),
    Command("backends", (), (), "list the kinds of URL, what each can do, and what to install for it", ours=True),
    Command("check-backend", (), ("url",), "try the URL out: does it keep what backups rely on, how fast is it", ours=True),
)

ALL = tuple(command.name for command in COMMANDS if command.served)
MAKING = ("backup", "full", "incremental")
READING = ("restore", "verify")
SELECTING = (*MAKING, *READING)


class Option(NamedTuple):
    """One option.

    Attributes:
        name: without dashes. ``aliases``: other spellings, "-t" or "time".
        field: of ``Settings``; "" for those that change nothing.
        action: ``set`` keeps the last value, ``append`` and ``extend`` collect, ``select`` keeps the order with others, ``accept`` does
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


def _whole(least: int, unit: str = "", *, most: int | None = None) -> Callable[[str], int]:
    wanted = f"a whole number{f' of {unit}' if unit else ''}, {least}{f' to {most}' if most is not None else ' or more'}"

    def convert(text: str) -> int:
        if not text.strip().isascii() or not text.strip().removeprefix("-").isdigit():
            raise ValueError(wanted)
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError(wanted)
        return number

    return convert


def _mebibytes(text: str) -> int:
    return _whole(1, "MiB")(text) << 20


def _blocksize(text: str) -> int:
    return -(-_whole(0, "bytes")(text) // 512) * 512  # observed: duplicity 3.2.1 rounds up to 512 bytes; 0 means no limit


def _size(text: str) -> int:
    size = units.parse_size(text)
    if not size:
        raise ValueError("a size above zero")
    return size


def _time(text: str) -> str:
    """Only looked at: what an interval means depends on the time of the run."""
    units.parse_time(text, units.LATEST // 2)
    return text


def _positive(text: str) -> float:
    seconds = units.parse_duration(text)
    if not seconds:
        raise ValueError("a duration above zero")
    return seconds


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("options quoted as in a shell") from error


def _command(text: str) -> tuple[str, ...]:
    words = _words(text)
    if not words:
        raise ValueError("a command")
    return words


def _rate(text: str) -> str:
    """Only looked at: what a timetable means depends on the time of the day."""
    parse_timetable(text)
    return text


def _per_second(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise ValueError("a number above zero")
    return number


def _percent(text: str) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number <= 100:
        raise ValueError("a percentage above 0, to 100: 5%")
    return number


def _number(text: str) -> str:
    """Only looked at: settings of backends are handed on as text."""
    _whole(1)(text)
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("something that is not empty")
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return convert


# Observed: duplicity 3.2.1 takes a digit, the first letter or the word, in any case.
_LEVELS = {"error": 0, "warning": 2, "notice": 3, "info": 5, "debug": 9}


def _verbosity(text: str) -> int:
    if len(text) == 1 and text in "0123456789":
        return int(text)
    for word, level in _LEVELS.items():
        if text.lower() in (word, word[0]):
            return level
    raise ValueError(f"0 to 9 or one of {', '.join(_LEVELS)}")


def _group(title: str, commands: tuple[str, ...], *options: Option) -> tuple[Option, ...]:
    return tuple(option._replace(group=title, commands=commands) for option in options)


def _rule(name: str, metavar: str, help: str) -> Option:
    convert = _time if metavar == "TIME" else _not_empty
    return Option(name, "selection", "select", metavar, convert, default=(), help=help)


def _setting(name: str, metavar: str = "", convert: Callable[[str], str] = _not_empty, help: str = "", *, ours: bool = False) -> Option:
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
        Option("archive-dir", "archive_dir", "set", "DIR", _not_empty, help="local copies of metadata [~/.cache/duplicity]"),
        Option("name", "name", "set", "NAME", _not_empty, help="folder in it [made from the URL]"),
        Option("tempdir", "tempdir", "set", "DIR", _not_empty, help="temporary files, volumes on their way [TMPDIR]"),
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
        Option("full-if-older-than", "full_if_older_than", "set", "AGE", _time, help="full when the last full is older"),
        Option("allow-source-mismatch", "allow_source_mismatch", default=False, help="go on with a chain of another source"),
        Option("dry-run", "dry_run", default=False, help="say what would be done, write nothing"),
    ),
    *_group(
        "restore and verify",
        READING,
        Option("restore-time", "restore_time", "set", "TIME", _time, aliases=("-t", "time"), help="as it was then: 3D, 2026-11-02"),
        Option("path-to-restore", "path_to_restore", "set", "PATH", _not_empty, aliases=("-r",), help="only this file or folder"),
        Option("restore-ownership", "restore_ownership", help="fail if owners cannot be restored"),
        Option("no-restore-ownership", "restore_ownership", const=False, help="do not restore owners"),
        Option("numeric-owner", "numeric_owner", default=False, help="owners by number, not by name"),
        Option("compare-data", action="accept", help="accepted: verify always compares data"),
    ),
    *_group(
        "check",
        ("check",),
        Option("read-data", "read_data", default=False, ours=True, help="fetch and verify every volume, and the signatures"),
        Option("sample", "sample", "set", "PERCENT", _percent, ours=True, help="only so much of them, another part every day: 5%"),
        Option("repair", "repair", default=False, ours=True, help="bring lost local copies back; the URL is never changed"),
    ),
    *_group(
        "check",
        ("check", "check-backend", "backends"),
        Option("json", "json", default=False, ours=True, help="the result as JSON"),
    ),
    *_group(
        "encryption",
        ALL,
        Option("no-encryption", "encryption", const=False, default=True, help="store in plain"),
        Option("encryption", "encryption", default=True, help="the default: with PASSPHRASE, or to keys"),
        Option("encrypt-key", "encrypt_keys", "append", "KEY", _not_empty, default=(), help="encrypt to this key; repeatable"),
        Option("hidden-encrypt-key", "hidden_encrypt_keys", "append", "KEY", _not_empty, default=(), help="the same, without naming it"),
        Option("sign-key", "sign_key", "set", "KEY", _not_empty, help="sign with it; on reading, insist on it"),
        Option("encrypt-sign-key", "", "encrypt-sign", "KEY", _not_empty, help="both"),
        Option("use-agent", "use_agent", default=False, help="never ask for a passphrase; gpg asks its agent"),
        Option("gpg-binary", "gpg_binary", "set", "FILE", _not_empty, default="gpg", help="the gpg to run [gpg]"),
        Option("gpg-options", "gpg_options", "extend", "WORDS", _words, default=(), help="more options for gpg"),
    ),
    *_group(
        "volumes",
        MAKING,
        Option("volsize", "volsize", "set", "MIB", _mebibytes, default=200 << 20, help="size of a volume in MiB [200]"),
        Option("compression", "compression", default=True, help="the default"),
        Option("no-compression", "compression", const=False, default=True, help="do not compress"),
        Option("compression-level", "compression_level", "set", "N", _whole(0, most=9), ours=True, help="0, fast, to 9, small"),
        Option("max-blocksize", "max_blocksize", "set", "BYTES", _blocksize, default=0, help="largest block of signatures [no limit]"),
    ),
    *_group(
        "transfer",
        ALL,
        Option("concurrency", "concurrency", "set", "N", _whole(0), help="transfers at once; 0 = none in the background [4 if it can]"),
        Option("timeout", "timeout", "set", "SECONDS", _positive, default=60.0, help="an attempt ends when nothing moves for so long [60]"),
        Option("spool", "spool", "set", "SIZE", _size, ours=True, help="disk for volumes on their way [N + 2 volumes]"),
        Option("memory", "memory", "set", "SIZE", _size, ours=True, help="memory for data on its way [256M]"),
        Option("upload-limit", "upload_limit", "set", "RATE", _rate, ours=True, help="512k, or by time: 08:00,512k 12:00,pause 19:00,off"),
        Option("download-limit", "download_limit", "set", "RATE", _rate, ours=True, help="the same for what is fetched"),
        Option("request-limit", "request_limit", "set", "N", _per_second, ours=True, help="requests a second, at most"),
        Option("ssh-options", "ssh_options", "extend", "WORDS", _words, default=(), help="as for ssh: -oPort=22, -i FILE"),
    ),
    *_group(
        "single backends",
        ALL,
        Option(
            "backend-concurrency",
            "backend_concurrency",
            "set",
            "N",
            _whole(1),
            ours=True,
            help="instances of a backend class of duplicity [1, or as many as it says it can]",
        ),
        _setting("s3-endpoint-url", "URL", help="the S3 server, if it is not Amazon's"),
        _setting("s3-region-name", "NAME", help="where the bucket is"),
        _setting("s3-profile", "NAME", help="of ~/.aws/config [AWS_PROFILE]", ours=True),
        _setting("s3-path-style", help="the bucket in the path, not in the host name", ours=True),
        _setting("s3-anonymous", help="without credentials, for reading public buckets", ours=True),
        _setting("s3-unencrypted-connection", help="HTTP instead of HTTPS"),
        _setting("s3-multipart-chunk-size", "MIB", _number, help="size of a part [8, or what 10,000 parts need]"),
        _setting("s3-multipart-max-procs", "N", _number, help="accepted: --concurrency is what there is"),
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
            _one_of("fail", "intervention", "wait"),
            default="fail",
            ours=True,
            help="fail; intervention: wait for you; wait: keep trying [fail]",
        ),
        Option(
            "retry-failure-flag",
            "retry_failure_flag",
            "set",
            "FILE",
            _not_empty,
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
            _command,
            default=(),
            ours=True,
            help="run when it begins to wait for you (no shell; JSON on its standard input)",
        ),
        Option("num-retries", "num_retries", "set", "N", _whole(1), help="attempts before it counts as failed [15 minutes of them]"),
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
            _verbosity,
            default=3,
            aliases=("-v",),
            help="0 to 9 or error, warning, notice, info, debug [notice]",
        ),
        Option("progress", "progress", default=False, help="progress also where there is no terminal"),
        Option("progress-rate", "progress_rate", "set", "SECONDS", _positive, default=3.0, help="between such lines [3]"),
        Option("no-print-statistics", "print_statistics", const=False, default=True, help="no statistics at the end of a backup"),
        Option("print-statistics", "print_statistics", default=True, help="the default"),
        Option("log-json", "log_json", "set", "FILE", _not_empty, ours=True, help="all events as JSON lines; - is standard output"),
        Option("trace", "trace", "set", "FILE", _not_empty, ours=True, help="a timeline of all transfers, for ui.perfetto.dev"),
        Option("metrics-file", "metrics_file", "set", "FILE", _not_empty, ours=True, help="figures of the run for Prometheus"),
        Option("help", action="help", aliases=("-h",), help="this text; with a command, about it"),
        Option("version", action="version", aliases=("-V",), help="the version"),
    ),
    Option("current-time", "current_time", "set", "SECONDS", _whole(0)),
    Option("asynchronous-upload", action="accept", why="--asynchronous-upload has no effect: transfers always run in the background"),
    Option("check-remote", action="accept"),
    Option("files-changed", action="accept"),
)

_LATER = "not in this version of asyncdup yet"
_REFUSED = (
    *_refused(_LATER, "no-check-remote metadata-sync-mode no-files-changed copy-links full-if-n-inc skip-if-no-change rename"),
    *_refused(_LATER, "jsonstat show-changes-in-set file-changed skip-volume time-separator"),
    *_refused("use --log-json=FILE, which has every event", "log-fd log-file log-timestamp"),
    *_refused("what cannot be restored is named and the rest is restored anyway; leave it out", "ignore-errors"),
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
