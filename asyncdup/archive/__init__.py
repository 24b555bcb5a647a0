"""What is to be moved: the local tree, chains of backup sets, and how one becomes the other."""
