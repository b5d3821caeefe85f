"""Features in the place of media: precomputed, extracted from public backbones, or by a stage of a method."""
