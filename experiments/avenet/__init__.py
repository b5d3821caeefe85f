"""AVE-Net, AVOL-Net and L3-Net: networks that learn whether a picture and a sound belong together."""
