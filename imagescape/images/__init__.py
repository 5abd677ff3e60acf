"""Any image to RGB pixels: `decode` for one, `pixels` for many. Light: only Pillow and NumPy are imported."""
