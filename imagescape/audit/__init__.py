"""What is wrong with a collection: duplicates, and copies across splits. Arrays in, frozen results out."""
