"""What is wrong: copies, oddities, bad images, doubtful labels."""
