"""WebDAV over HTTP and HTTPS."""
