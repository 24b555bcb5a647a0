"""Words of a person to settings and events, and back."""
