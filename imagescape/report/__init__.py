"""Pictures of maps and of training: matplotlib figures, and one self-contained HTML page."""
