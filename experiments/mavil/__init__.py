"""MAViL: Masked Audio-Video Learners (Huang et al., NeurIPS 2023)."""
