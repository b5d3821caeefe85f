"""Records of measured stages, the papers' own numbers, and where records are shared."""
