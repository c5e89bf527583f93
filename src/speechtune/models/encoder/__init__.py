"""Changes to built speech encoders: padding, attention, SpecAugment."""
