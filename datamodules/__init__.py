"""The data: one file a dataset; decoding, features, samplers and the sample data."""
