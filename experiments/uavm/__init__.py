"""UAVM: towards unifying audio and visual models (Gong et al., IEEE Signal Processing Letters 2022)."""
