"""The methods: one folder each, all of the same shape; shared parts in `experiments.common`."""
