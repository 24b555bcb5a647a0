"""What one command line asks for, as one frozen record. Filled by ``parser`` from the table in ``options``; no default is hidden here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

RetryMode = Literal["fail", "intervention", "wait"]
Overwrite = Literal["never", "older", "always"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command, its arguments and its options.

    Text from the command line is ``str`` with surrogates for bytes that are not UTF-8 (``os.fsencode`` gives the bytes back). Sizes are bytes,
    durations seconds. Points in time stay text, because "3D ago" has a value only once the time of the run is known (``units`` reads them).

    Attributes:
        command: canonical name; ``help`` and ``version`` are commands here, too.
        topic: what ``help`` is asked for.
        path: the local folder or file, source or destination by command; empty where the command has none.
        url: the location of the backups; hidden from ``repr`` since it may hold a password (P15).
        time, count: arguments of the remove commands, pattern: of find; empty where the command has none.
        implied: the command was not said but follows from the order of path and URL.
        selection: include and exclude options in command-line order, as (option name without dashes, value or "").
        concurrency: None = ``auto`` where the backend supports it, else one.
        intervention_timeout: 0 = no end (rule G8). ``on_intervention``: a command as words, empty = none (rule N3).
        num_retries: attempts of a streak; None = by time (rule B1). ``backend_retry_delay``: None = growing delays.
        upload_limit, download_limit: a rate or a timetable, as text that was looked at; request_limit: a second. None = no limit.
        backend_settings: options of single backends, in the form of ``selection``; backend_concurrency: instances of a legacy class.
        memory, spool: None = the engine's defaults (rules S3, S4).
        full_if_older_than: an age ("30D"); ``restore_time``: a point in time.
        restore_ownership: None = owners are restored as far as the privileges go; True = not being able to is an error (P3).
        sample: per cent of the volumes that ``check`` reads; None = all or nothing, by ``read_data``.
        rename: pairs of archive paths: what is restored under another name.
        show_changes_in_set: 0 is the newest set of the newest chain, -1 its full (with ``jsonstat``: all).
        log_fd, log_file: where stock's log for programs goes.
        log_json: a file, or "-" for standard output.
        trace: a file for the Chrome trace; ``metrics_file``: one for Prometheus.
        notices: remarks on the command line that a person should see once.
    """

    command: str
    topic: str
    path: str
    url: str = field(repr=False)
    implied: bool
    time: str
    count: str
    pattern: str
    notices: tuple[str, ...]

    archive_dir: str | None
    name: str | None
    tempdir: str | None
    file_prefix: str
    file_prefix_archive: str
    file_prefix_manifest: str
    file_prefix_signature: str
    file_prefix_jsonstat: str

    volsize: int
    compression: bool
    compression_level: int | None
    max_blocksize: int

    encryption: bool
    encrypt_keys: tuple[str, ...]
    hidden_encrypt_keys: tuple[str, ...]
    sign_key: str | None
    use_agent: bool
    keyring: bool
    gpg_binary: str
    gpg_options: tuple[str, ...]

    selection: tuple[tuple[str, str], ...]
    null_separator: bool

    full_if_older_than: str | None
    full_if_n_inc: int | None
    skip_if_no_change: bool
    copy_links: bool
    files_changed: bool
    metadata_sync_mode: str
    allow_source_mismatch: bool
    dry_run: bool
    current_time: int | None

    path_to_restore: tuple[str, ...]
    overwrite: Overwrite | None
    restore_time: str | None
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    keep_yearly: int
    diff_from: str | None
    diff_to: str | None
    restore_ownership: bool | None
    numeric_owner: bool
    rename: tuple[tuple[str, str], ...]
    ignore_errors: bool
    untrusted_archive: bool
    show_changes_in_set: int | None
    file_changed: str | None
    jsonstat: bool
    force: bool

    read_data: bool
    sample: float | None
    repair: bool
    speed: bool
    json: bool

    concurrency: int | Literal["auto"] | None
    spool: int | None
    memory: int | None
    upload_limit: str | None
    download_limit: str | None
    request_limit: float | None
    timeout: float
    ssh_options: tuple[str, ...]
    backend_concurrency: int | None
    backend_settings: tuple[tuple[str, str], ...] = field(repr=False)  # headers may hold a token (P15)
    retry_failure_mode: RetryMode
    retry_failure_flag: str | None
    intervention_timeout: float
    on_intervention: tuple[str, ...]
    num_retries: int | None
    backend_retry_delay: float | None
    grace: float

    verbosity: int
    progress: bool
    progress_rate: float
    print_statistics: bool
    log_fd: int | None
    log_file: str | None
    log_timestamp: bool
    log_json: str | None
    trace: str | None
    metrics_file: str | None
