"""What ``asyncdup help TOPIC`` says of topics that are no command. Lines with two spaces in a row are tables, kept as they are."""

from __future__ import annotations

TOPICS = {
    "urls": """
        file:///folder             absolute; file://folder: from the working folder
        sftp://user@host/folder    from the login folder; //folder is absolute
        scp://...                  the same, over the same SFTP
        webdav://user@host/folder  webdavs:// over TLS
        rclone://REMOTE:/folder    a remote of rclone's configuration
        gs://bucket/folder         azure://container/folder
        All kinds, and what to install for them: asyncdup backends.
        The password of a login is taken from the environment: BACKEND_PASSWORD.
        """,
    "patterns": """
        Rules are tried in the order of the command line; the first that matches a path decides; what
        no rule matches is included. Paths begin as the source was given: /home/u/x for asyncdup /home/u
        URL; on restore they begin in the archive: docs/x. * matches all but /, ** also /, ? one
        character, [abc] one of these; a match covers what is below it.
        Only some things: --include /home/u/docs --exclude '**'.
        """,
    "times": """
        now; 3D12h (s m h D W M Y, back from now; a month is 30 days, a year 365); 2026-11-22;
        2026-11-22T18:00:00+01:00; 20261122T170000Z; seconds since 1970. Without a zone: local time.
        """,
    "passphrases": """
        PASSPHRASE in the environment encrypts, or opens the key that reading needs. On a terminal it is
        asked for. SIGN_PASSPHRASE opens the key of --sign-key. With --use-agent gpg's agent is asked.
        """,
    "signals": """
        Ctrl-C once: no new transfers, running ones may end within --grace. Twice: stop now. Three times:
        exit at once. SIGTERM: stop now. The same command goes on where it ended. SIGUSR1: stop waiting,
        try again. SIGUSR2: say on standard error what is going on.
        """,
    "job": """
        asyncdup job ORDER [--job ID]: ask or tell a run that is under way, of the same user.
        status [--json]            what it does, what it waits for
        events                     all its events as JSON lines from now on
        pause, resume              no new transfers; go on (or: asyncdup resume)
        pause --now                running transfers end, too, and begin again
        drain                      finish what is made, then end (60)
        abort                      give up, exit code 61
        set-concurrency N          transfers at once; auto: what is best
        set-rate RATE              512k, off; or up=RATE down=RATE requests=N
        """,
    "run": """
        asyncdup run PROFILE [COMMAND [ARGUMENTS and options]]: a command (backup, if none is said) with
        the source, target and options of a profile. PROFILE is a file (it has a / or ends in .toml), or
        a name: ~/.config/asyncdup/NAME.toml. asyncdup init PROFILE writes one.
          source = "/home/me"
          target = "sftp://me@nas//backup/me"
          passphrase-file = "/home/me/.config/asyncdup/passphrase"
          rules = ["include /home/me/.cache/a", "exclude /home/me/.cache"]
          [options]                  # long options without --; lists to repeat them
          concurrency = 5
          full-if-older-than = "30D"
          [retention]                # after a backup: prune --force with these
          keep-daily = 7
          keep-monthly = 12
          [hooks]                    # words, no shell; around backups
          before = ["systemctl", "stop", "db"]
          after = ["systemctl", "start", "db"]    # whatever came of it
          failure = ["notify", "backup failed"]   # ASYNCDUP_EXIT_CODE says how
          timeout = "10m"            # for each; 1 hour, if nothing is said
          [environment]
          AWS_PROFILE = "backup"
        """,
    "mounting": """
        asyncdup mount URL DIR shows all backups in DIR, an empty folder, until Ctrl-C or umount DIR:
          latest                     a link to the newest
          20261122T180000Z           one for each backup, named by its time
        It is read-only, for the user who mounted it alone, and stays as it was when it was mounted.
        ls and find by name cost no volume. The size of a file is known only from the volume that has
        it, so ls -l fetches that (and knows the sizes of all files in it). What was fetched is kept
        under --tempdir, 1G of it or --spool SIZE. What the backend does not give is an input/output
        error for the program that asked, and a line here that says why.
        It needs FUSE: pip install 'asyncdup[mount]', apt install fuse3.
        """,
    "init": """
        asyncdup init PROFILE [--source PATH] [--target URL] [--passphrase-file FILE | --encrypt-key KEY
        | --no-encryption] [--keep-daily N ...] [--force]: write a profile, readable by you alone. What is
        not said is asked for on a terminal. --force writes over one that is there.
        """,
    "formats": """
        The archive: duplicity's own format (docs/format.md). Reports: --json for what a command finds
        (docs/json.md), --log-json for all events as JSON lines, --log-fd and --log-file for duplicity's
        log for programs, --metrics-file for Prometheus, --trace for a timeline. Sizes: 512k, 25M, 2G
        (powers of 1024). Rates: bytes a second, as sizes, or a timetable: 08:00,512k 19:00,off.
        """,
    "intervention": """
        With --retry-failure-mode=intervention a run that gets no further waits for you. The flag file
        of --retry-failure-flag says what is wrong. Mend it, then remove the file (or send SIGUSR1, or
        say asyncdup job resume): the run goes on where it was. Write abort into it to end the run.
        """,
    "environment": """
        PASSPHRASE           encrypts, or opens the key that reading needs
        SIGN_PASSPHRASE      opens the key of --sign-key
        BACKEND_PASSWORD     the password of the login (duplicity's FTP_PASSWORD, too)
                             --keyring looks for these three in the session's keyring:
                             keyring set asyncdup PASSPHRASE
        AWS_...              keys, profile, region and endpoint for S3
        TMPDIR               temporary files, volumes on their way
        XDG_CACHE_HOME       duplicity/ in it: local copies of the metadata
        XDG_CONFIG_HOME      asyncdup/ in it: profiles
        http_proxy ...       for S3; https_proxy and no_proxy as well
        NO_COLOR             set to anything: no colours; TERM=dumb: no progress line
        NOTIFY_SOCKET        of systemd: it is told when the run is ready and how far
        """,
    "exit-codes": """
        0 done; 1 verify found differences, or the chain is not what was asked for; 11 there is
        something where to restore; 19 nothing of that path in the backup; 21 a volume is damaged;
        22 wrong signature; 23 wrong use; 30 other damage, not all was restored, or unexpected;
        31 gpg failed; 34 no room for temporary files; 50 the backend failed; 51 no permission;
        52 not found; 53 no space; 60 done in part; 61 ended by the operator; 62 done with
        warnings; 130 Ctrl-C; 143 SIGTERM.
        """,
}
