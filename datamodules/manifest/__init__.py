"""Official list + what is on the disk -> the clips that can be used, and why the others cannot."""
