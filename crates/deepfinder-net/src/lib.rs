//! The 3-D U-Net of DeepFinder: configuration, named weights, safetensors, import of Keras weights.
