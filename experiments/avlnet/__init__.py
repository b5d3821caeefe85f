"""AVLnet: audio-visual language representations from instructional videos (Rouditchenko et al., Interspeech 2021)."""
