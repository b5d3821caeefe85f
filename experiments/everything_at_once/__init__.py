"""Everything at Once: multi-modal fusion transformer for video retrieval (Shvetsova et al., CVPR 2022)."""
