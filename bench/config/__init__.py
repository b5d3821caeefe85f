"""The configuration: what there is to set, how it is composed, what of it determines a result."""
