"""Events to the outside: JSON lines."""
