"""MBT: Attention Bottlenecks for Multimodal Fusion (Nagrani et al., NeurIPS 2021)."""
