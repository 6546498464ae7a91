//! Segmentation: normalise, tile, run the network, stream label and score maps.
