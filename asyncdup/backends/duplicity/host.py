"""The far end of ``duplicity.py``: runs by itself, in a Python that has duplicity, and calls one backend class for the process that started it.

It imports nothing of asyncdup, and runs on any Python that duplicity 1 to 3 runs on. One JSON object a line each way, in order: a request
``{"verb": ..., ...}`` on standard input, ``{"ok": ...}`` or ``{"error": {...}}`` as the answer on standard output. What the class, its
libraries and its child processes print goes to standard error, and their standard input is empty: nobody is asked anything. When the
input ends all of them are killed, in the middle of a call if need be: whoever started it is gone.

Names and attributes of duplicity: observed, duplicity 3.2.1.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_RENAMED = {"s3_use_server_side_encryption": "s3_use_sse", "s3_use_server_side_kms_encryption": "s3_use_sse_kms"}
_MEBIBYTES = ("mp_segment_size", "s3_multipart_chunk_size")
_NUMBERS = ("azure_max_block_size", "azure_max_connections", "azure_max_single_put_size")  # whose default is None
_NAMES_OTHERS = ("multi",)  # schemes whose own configuration names URLs of any other


class Host:
    """One location: the class is loaded by the first request, the object made by the first that needs it."""

    def __init__(self) -> None:
        self.url = ""
        self.object: Any = None
        self.failed = False  # the last call, so the object may have something to clean up

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load the class. ``module``: where it was found by another host, so that no other need be looked at."""
        self.url = request["url"]
        if request["password"]:
            os.environ["BACKEND_PASSWORD"] = request["password"]
        duplicity = importlib.import_module("duplicity")
        importlib.import_module("duplicity.log").setup()
        self._configure(request)
        backend = importlib.import_module("duplicity.backend")
        factory, missing = _find(backend, request["scheme"], request["module"])
        if factory is None:
            return {"schemes": sorted(backend._backends), "missing": missing}
        return {"module": getattr(factory, "__module__", ""), "version": getattr(duplicity, "__version__", "")}

    def list(self, request: dict[str, Any]) -> dict[str, int | None]:
        """Names and, of a class that can look at many at once, sizes."""
        made = self._made()
        names = [os.fsdecode(name) for name in made._list()]
        if not names or not hasattr(made, "_query_list"):
            return dict.fromkeys(names)
        answers = made._query_list([os.fsencode(name) for name in names])
        return {os.fsdecode(name): answer.get("size") for name, answer in answers.items()}

    def put(self, request: dict[str, Any]) -> None:
        """``first``: nobody has listed the location yet. Some classes make the folder only then (observed: WebDAV answers 409 to a put before)."""
        made = self._made()
        if request["first"]:
            with contextlib.suppress(Exception):  # some cannot list what is not there yet; then the put says what is wrong, if anything
                made._list()
        made._put(_path(request["path"]), os.fsencode(request["name"]))

    def get(self, request: dict[str, Any]) -> None:
        self._made()._get(os.fsencode(request["name"]), _path(request["path"]))

    def delete(self, request: dict[str, Any]) -> None:
        made, name = self._made(), os.fsencode(request["name"])
        if hasattr(made, "_delete"):
            made._delete(name)
        else:
            made._delete_list([name])

    def size(self, request: dict[str, Any]) -> int | None:
        """-1: absent. None: the class cannot tell."""
        made, name = self._made(), os.fsencode(request["name"])
        if hasattr(made, "_query"):
            answer = made._query(name)
        elif hasattr(made, "_query_list"):
            answer = made._query_list([name]).get(name, {"size": -1})
        else:
            return None
        size: int | None = answer.get("size")
        return size

    def close(self, request: dict[str, Any]) -> None:
        if hasattr(self.object, "_close"):
            self.object._close()

    def _made(self) -> Any:
        if self.object is None:
            self.object = importlib.import_module("duplicity.backend").get_backend_object(self.url)
        elif self.failed and hasattr(self.object, "_retry_cleanup"):
            self.object._retry_cleanup()
        self.failed = False
        return self.object

    def _configure(self, request: dict[str, Any]) -> None:
        config = importlib.import_module("duplicity.config")
        values = {"num_retries": 1, "backend_retry_delay": 0, "timeout": request["timeout"], "ssh_options": request["ssh_options"]}
        for name, given in request["settings"].items():
            values.update(_typed(config, name, given))
        for name, value in values.items():
            if hasattr(config, name):
                setattr(config, name, value)


def _typed(config: Any, name: str, given: Any) -> dict[str, Any]:
    """What duplicity's own command line would make of the option ``name``."""
    if name in ("ftp_passive", "ftp_regular"):
        return {"ftp_connection": name[4:]}
    if name == "idr_fakeroot":
        return {name: given, "fakeroot": given}
    name = _RENAMED.get(name, name)
    default = getattr(config, name, None)
    if name in _MEBIBYTES:
        return {name: int(given) << 20}
    if name in _NUMBERS or (isinstance(default, int) and not isinstance(default, bool) and given is not True):
        return {name: int(given)}
    return {name: given}


def _find(backend: Any, scheme: str, module: str | None) -> tuple[Any, str | None]:
    """The class or function that is registered for ``scheme``, and the package that was missing when there is none.

    Importing all modules takes seconds where their libraries are installed, so those that name the scheme come first.
    """
    folder = os.path.dirname(importlib.import_module("duplicity.backends").__file__ or "")
    files = sorted(name[:-3] for name in os.listdir(folder) if name.endswith("backend.py") and not name.startswith("_"))
    likely = [module] if module else [name for name in files if _names(os.path.join(folder, name + ".py"), scheme)]
    missing = _import(likely)
    if scheme not in backend._backends or scheme in _NAMES_OTHERS:
        _import([name for name in files if name not in likely])  # what these lack says nothing about this scheme
    prefix = next((prefix for prefix in backend._backend_prefixes if scheme.startswith(prefix + "+")), None)
    factory = backend._backend_prefixes[prefix] if prefix else backend._backends.get(scheme)
    return factory, missing


def _names(path: str, scheme: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    return f'"{scheme}"' in text or f"'{scheme}'" in text


def _import(modules: list[str]) -> str | None:
    """Import those that can be; the first package that was missing."""
    missing = None
    for module in modules:
        try:
            importlib.import_module("duplicity.backends." + module.rpartition(".")[2])
        except ImportError as exc:
            missing = missing or exc.name or str(exc)
        except Exception as exc:  # noqa: BLE001 - a foreign module may fail in any way, and the others are none the worse for it
            sys.stderr.write(f"{module}: {exc}\n")
    return missing


def _path(text: str) -> Any:
    """Made anew for each call: a Path remembers what it has seen."""
    return importlib.import_module("duplicity.path").Path(os.fsencode(text))


def _described(host: Host, verb: str, error: BaseException) -> dict[str, Any]:
    chain = list(_chain(error))
    code = getattr(error, "code", None)
    if code in (None, 50) and hasattr(host.object, "_error_code"):
        try:
            code = host.object._error_code(verb, error)
        except Exception:  # noqa: BLE001 - it was asked what the error means; not to know is an answer
            code = None
    missing = [each.name or str(each) for each in chain if isinstance(each, ImportError)]
    return {
        "code": code if isinstance(code, int) else None,
        "errno": getattr(error, "errno", None) if isinstance(error, OSError) else None,
        "types": [type(each).__name__ for each in chain],
        "text": str(error),
        "missing": missing[0] if missing else None,
    }


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _answer(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    verb = request["verb"]
    try:
        return {"ok": getattr(host, verb)(request)}
    except BaseException as error:  # noqa: BLE001 - also SystemExit, by which some classes say that they give up
        host.failed = True
        return {"error": _described(host, verb, error)}


def _read(requests: Any, lines: queue.Queue[str]) -> None:
    """In a thread, so that the end of the input is seen during a call."""
    for line in requests:
        lines.put(line)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    """Answer until the request to close."""
    requests = os.fdopen(os.dup(0), "r", encoding="ascii")
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]  # else our modules would pass for top-level ones
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(requests, lines), daemon=True).start()
    host, verb = Host(), ""
    while verb != "close":
        request = json.loads(lines.get())
        verb = request["verb"]
        answer = json.dumps(_answer(host, request))
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
