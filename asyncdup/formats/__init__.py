"""duplicity's archive format, sans-I/O: bytes in, records and bytes out."""
