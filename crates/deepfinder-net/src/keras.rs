//! Weights of the published networks: Keras' legacy HDF5 layout,
//! `model_weights/<layer>/<layer>/{kernel:0, bias:0}`, or the same without the first group.

use candle_core::{Device, Tensor};
use hdf5_pure::{Dataset, File, Group};

use crate::architecture::{HEAD, LAYERS, Layer, layers};
use crate::{Head, Metadata, NetError, Result, SHREC19_CLASSES, Weights};

pub(crate) fn read(bytes: Vec<u8>, metadata: Metadata) -> Result<Weights> {
    let file = File::from_bytes(bytes).map_err(at("/"))?;
    let root = file.root();
    // A file of weights alone has the layers at its root.
    let model = match file.group("model_weights") {
        Ok(model) => model,
        Err(_) => root,
    };
    let names = convolutions(&model)?;
    if names.len() != LAYERS {
        return Err(NetError::LayerCount {
            expected: LAYERS,
            found: names.len(),
        });
    }
    let head = &names[LAYERS - 1];
    let scores = shape_of(&open(&model, head, "bias:0")?, head)?;
    let scores = match scores[..] {
        [scores] => scores,
        _ => 0,
    };
    let mut named = Vec::new();
    for (layer, name) in layers(scores, Head::Full).zip(&names) {
        let [(weight_name, _), (bias_name, _)] = layer.tensors();
        let k = layer.kernel;
        let kernel = values(
            &model,
            name,
            "kernel:0",
            &layer,
            &[k, k, k, layer.inputs, layer.outputs],
        )?;
        let bias = values(&model, name, "bias:0", &layer, &[layer.outputs])?;
        // [kd, kh, kw, in, out] -> [out, in, kd, kh, kw]
        let kernel = kernel.permute((4, 3, 0, 1, 2))?.contiguous()?;
        named.push((weight_name, kernel));
        named.push((bias_name, bias));
    }
    Weights::from_tensors(named, metadata)
}

/// [`fingerprint`] of the published SHREC'19 weights.
const SHREC19: u64 = 0x5e1c_44aa_dfa3_f18e;

/// What the files of published weights do not say of themselves. They are told by their values: the number of classes
/// alone would name those of anybody's network.
pub(crate) fn known_metadata(weights: &Weights) -> Result<Option<Metadata>> {
    Ok((fingerprint(weights)? == SHREC19).then(|| Metadata {
        voxel_size_angstrom: Some(10.0),
        ..Metadata::for_classes(SHREC19_CLASSES)
    }))
}

/// The 64-bit FNV-1a hash of the last layer's bias: a few values that no two trainings share.
fn fingerprint(weights: &Weights) -> Result<u64> {
    let Some(bias) = weights.tensors().get(&format!("{HEAD}.bias")) else {
        return Ok(0);
    };
    let bytes = bias.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes);
    Ok(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// The convolutions by their number: `conv3d` is 0, `conv3d_7` is 7. Keras counts on when a session builds several
/// models, so the first may have any number.
fn convolutions(model: &Group) -> Result<Vec<String>> {
    let mut numbered: Vec<(u64, String)> = model
        .groups()
        .map_err(at("model_weights"))?
        .into_iter()
        .filter_map(|name| Some((number_of(&name)?, name)))
        .collect();
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, name)| name).collect())
}

fn number_of(layer: &str) -> Option<u64> {
    match layer.strip_prefix("conv3d")? {
        "" => Some(0),
        rest => rest.strip_prefix('_')?.parse().ok(),
    }
}

fn open(model: &Group, layer: &str, what: &str) -> Result<Dataset> {
    let path = format!("{layer}/{layer}/{what}");
    model.dataset(&path).map_err(at(&path))
}

fn shape_of(dataset: &Dataset, place: &str) -> Result<Vec<usize>> {
    let shape = dataset.shape().map_err(at(place))?;
    Ok(shape.into_iter().map(|side| side as usize).collect())
}

/// The values of a data set whose shape is known beforehand, so that a damaged file allocates nothing absurd.
fn values(model: &Group, name: &str, what: &str, layer: &Layer, expected: &[usize]) -> Result<Tensor> {
    let place = format!("{name}/{name}/{what}");
    let dataset = open(model, name, what)?;
    let found = shape_of(&dataset, &place)?;
    if found != expected || (layer.name == HEAD && !(2..=256).contains(&layer.outputs)) {
        return Err(NetError::Shape {
            name: format!("{place} ({})", layer.name),
            expected: expected.to_vec(),
            found,
        });
    }
    let values = dataset.read_f32().map_err(at(&place))?;
    if values.len() != expected.iter().product::<usize>() {
        return Err(NetError::Shape {
            name: format!("{place} ({})", layer.name),
            expected: expected.to_vec(),
            found: vec![values.len()],
        });
    }
    Ok(Tensor::from_vec(values, expected, &Device::Cpu)?)
}

fn at(place: &str) -> impl FnOnce(hdf5_pure::Error) -> NetError {
    move |error| NetError::Hdf5 {
        place: place.to_owned(),
        source: Box::new(error),
    }
}
