"""LAVA: language, sound and video with a centroid; a reconstruction from development code (Gurram et al. 2022)."""
