"""One file, one coroutine, one command: opens, wires, runs, closes. Also the embedding API."""
