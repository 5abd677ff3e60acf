"""Images to vectors: encoders by one name, and perceptual hashes."""
