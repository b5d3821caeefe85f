"""WaveNet multitask: a classifier of waveforms whose trunk also learns from sound without labels (reconstructed)."""
