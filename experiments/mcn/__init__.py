"""MCN: multimodal clustering networks for self-supervised learning from unlabeled videos (Chen et al., ICCV 2021)."""
