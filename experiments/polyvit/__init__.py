"""PolyViT: one ViT encoder for images, videos and sound, trained on one dataset a step."""
