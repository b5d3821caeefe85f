"""VATT: transformers for raw video, waveforms and text, of their own or one shared (Akbari et al., NeurIPS 2021)."""
