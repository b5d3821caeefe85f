"""What a method reads of a clip, on the device: sound, pictures, words."""
