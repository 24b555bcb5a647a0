"""What every protocol over HTTP shares."""
