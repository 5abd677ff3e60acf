"""What is wrong with a collection: copies, oddities, bad images, doubtful labels. Arrays in, frozen results out."""
