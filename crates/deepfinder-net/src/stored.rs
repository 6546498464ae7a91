//! Weights as safetensors.

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::{Device, Tensor};
use safetensors::tensor::View;
use safetensors::{Dtype, SafeTensors};

use crate::metadata::StoredMetadata;
use crate::{NetError, Result, Weights};

/// The one key of the header's metadata. One, because the format's library writes them in random order.
const KEY: &str = "deepfinder";

/// Whether bytes begin as a safetensors file does: the header's length, then a JSON object.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

pub(crate) fn read(bytes: &[u8]) -> Result<Weights> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let json = header.metadata().as_ref().and_then(|entries| entries.get(KEY));
    let Some(json) = json else {
        return Err(NetError::Metadata {
            what: format!(
                "the safetensors header holds no entry `{KEY}`; was the file written by another program?"
            ),
        });
    };
    let stored: StoredMetadata = serde_json::from_str(json).map_err(|error| NetError::Metadata {
        what: format!("the entry `{KEY}` of the safetensors header does not read: {error}"),
    })?;
    let mut named = Vec::new();
    for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(NetError::ElementType {
                name: name.to_owned(),
                found: view.dtype().to_string(),
            });
        }
        let (words, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        named.push((
            name.to_owned(),
            Tensor::from_vec(values, view.shape(), &Device::Cpu)?,
        ));
    }
    Weights::from_tensors(named, stored.into())
}

pub(crate) fn write(weights: &Weights) -> Result<Vec<u8>> {
    let json = serde_json::to_string(&StoredMetadata::from(weights.metadata())).map_err(|error| {
        NetError::Metadata {
            what: error.to_string(),
        }
    })?;
    let mut tensors = Vec::new();
    for (name, tensor) in weights.tensors() {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        tensors.push((
            name.as_str(),
            Contents {
                shape: tensor.dims().to_vec(),
                bytes: values.into_iter().flat_map(f32::to_le_bytes).collect(),
            },
        ));
    }
    let entries = HashMap::from([(KEY.to_owned(), json)]);
    Ok(safetensors::serialize(tensors, Some(entries))?)
}

/// An f32 tensor in the form that is written.
struct Contents {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Contents {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
