"""Any backend class of an installed duplicity, in a process of its own."""
