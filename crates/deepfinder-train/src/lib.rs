//! Patch sampling, augmentation, losses, optimiser, training loop and checkpoints.
