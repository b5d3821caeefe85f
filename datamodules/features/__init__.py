"""Features instead of media: precomputed, extracted from public backbones, or by a stage of a method."""
