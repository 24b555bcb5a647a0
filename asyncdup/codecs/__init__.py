"""Plain bytes to stored bytes and back: none, gzip, GPG."""
