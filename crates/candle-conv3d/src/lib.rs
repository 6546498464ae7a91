//! 3-D convolution, pooling and up-convolution for candle, with gradients.
