"""CMKD: a CNN and an Audio Spectrogram Transformer teach each other (Gong et al., arXiv 2203.06760)."""
