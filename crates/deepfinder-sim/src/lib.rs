//! Simulated tomograms with ground truth: templates, random placement, missing wedge, noise.
