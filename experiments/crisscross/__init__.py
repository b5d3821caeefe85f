"""CrissCross: learning from sound and pictures with relaxed synchronicity (Sarkar and Etemad, AAAI 2023)."""
