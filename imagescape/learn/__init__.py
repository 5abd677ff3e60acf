"""Pixels in, a network out: backbones, heads, augmentation, pairs, losses, one training loop, and the recipes."""
