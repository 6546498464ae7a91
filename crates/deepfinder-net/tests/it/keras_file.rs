//! A file of weights as Keras writes it. The fuzz targets of the repository have it too, by its path.

use deepfinder_net::Weights;
use hdf5_pure::FileBuilder;

/// The network's convolutions in the order in which they run.
pub(crate) const ORDER: [&str; 15] = [
    "full.encode.0",
    "full.encode.1",
    "half.encode.0",
    "half.encode.1",
    "quarter.0",
    "quarter.1",
    "quarter.2",
    "quarter.3",
    "half.upsample",
    "half.decode.0",
    "half.decode.1",
    "full.upsample",
    "full.decode.0",
    "full.decode.1",
    "head",
];

/// The bytes that Keras would write for these weights, its layers numbered from `first`.
pub(crate) fn keras_file(weights: &Weights, first: usize, layers: &[&str]) -> Vec<u8> {
    let mut file = FileBuilder::new();
    let mut model = file.create_group("model_weights");
    for (i, layer) in layers.iter().enumerate() {
        let name = match first + i {
            0 => "conv3d".to_owned(),
            n => format!("conv3d_{n}"),
        };
        let mut outer = model.create_group(&name);
        let mut inner = outer.create_group(&name);
        let kernel = weights.tensors()[&format!("{layer}.weight")]
            .permute((2, 3, 4, 1, 0))
            .unwrap();
        let bias = &weights.tensors()[&format!("{layer}.bias")];
        for (what, tensor) in [("kernel:0", &kernel), ("bias:0", bias)] {
            let shape: Vec<u64> = tensor.dims().iter().map(|side| *side as u64).collect();
            inner
                .create_dataset(what)
                .with_f32_data(&tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
                .with_shape(&shape);
        }
        outer.add_group(inner.finish());
        model.add_group(outer.finish());
    }
    file.add_group(model.finish());
    file.finish().unwrap()
}
