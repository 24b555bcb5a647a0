"""SFTP over SSH."""
