"""A small convolutional network on log-mels, trained from scratch: the suite's baseline for sound."""
