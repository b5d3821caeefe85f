"""XDC: self-supervised learning by cross-modal audio-video clustering (Alwassel et al., NeurIPS 2020)."""
