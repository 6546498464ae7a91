//! The number of threads doesn't show in the results.

use candle_conv3d::{
    Activation, Conv3dConfig, conv3d, conv3d_concat, max_pool2, softmax_channels, upsample2_conv2,
};
use candle_core::{DType, Result, Var};

use crate::problems::random;

/// Result and gradients of a small network, as one list of values.
fn network() -> Result<Vec<f32>> {
    let config = Conv3dConfig {
        activation: Activation::Relu,
        ..Default::default()
    };
    let shapes: [&[usize]; 6] = [
        &[2, 3, 16, 12, 10],
        &[20, 3, 3, 3, 3],
        &[20],
        &[17, 20, 2, 2, 2],
        &[33, 37, 3, 3, 3],
        &[33],
    ];
    let variables: Vec<Var> = shapes
        .iter()
        .zip(1..)
        .map(|(shape, seed)| Var::from_tensor(&random(shape, seed, DType::F32)?))
        .collect::<Result<_>>()?;
    let [input, w1, b1, w2, w3, b3] = &variables[..] else {
        unreachable!("six shapes")
    };
    let high = conv3d(input, w1, Some(b1), &config)?;
    let up = upsample2_conv2(&max_pool2(&high)?, w2, None, Activation::Relu)?;
    let scores = softmax_channels(&conv3d_concat(&up, &high, w3, Some(b3), &config)?)?;
    let gradients = scores.sqr()?.sum_all()?.backward()?;
    let mut values = scores.flatten_all()?.to_vec1()?;
    for variable in &variables {
        values.extend(
            gradients
                .get(variable)
                .expect("a gradient")
                .flatten_all()?
                .to_vec1::<f32>()?,
        );
    }
    Ok(values)
}

#[test]
fn results_are_the_same_for_any_number_of_threads() -> Result<()> {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(network)
    };
    let one = with(1)?;
    assert!(one.iter().all(|value| value.is_finite()));
    for threads in [2, 3] {
        assert_eq!(one, with(threads)?, "{threads} threads");
    }
    Ok(())
}
