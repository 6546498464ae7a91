use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::architecture::{HEAD, layers};
use crate::{Head, Metadata, NetError, Result, keras, stored};

/// The network's tensors by name (f32, on the CPU), and what they are for.
///
/// Names are those of the layers with `.weight` `[O, C, kd, kh, kw]` or `.bias` `[O]` behind: `full.encode.0`,
/// `full.encode.1`, `half.encode.0`, `half.encode.1`, `quarter.0` … `quarter.3`, `half.upsample`, `half.decode.0`,
/// `half.decode.1`, `full.upsample`, `full.decode.0`, `full.decode.1`, `head`; with a [`Head::Half`] none of the three before
/// the last. Values are finite, shapes are right.
#[derive(Debug, Clone)]
pub struct Weights {
    scores: usize,
    tensors: BTreeMap<String, Tensor>,
    metadata: Metadata,
}

impl Weights {
    /// Fresh weights: Glorot uniform, biases 0, for that many scores per voxel (background among them), of a network that
    /// ends where the metadata say.
    ///
    /// The same seed gives the same weights.
    ///
    /// # Errors
    /// Where the number of scores is not 2 to 256 or the metadata do not fit it.
    pub fn initial(classes_with_background: usize, seed: u64, metadata: Metadata) -> Result<Self> {
        check_scores(classes_with_background)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        for layer in layers(classes_with_background, metadata.head) {
            let fans = layer.kernel.pow(3) * (layer.inputs + layer.outputs);
            let limit = (6.0 / fans as f32).sqrt();
            let [(weight, shape), (bias, outputs)] = layer.tensors();
            let values: Vec<f32> = (0..shape.elem_count())
                .map(|_| rng.random_range(-limit..limit))
                .collect();
            tensors.insert(weight, Tensor::from_vec(values, shape, &Device::Cpu)?);
            tensors.insert(bias, Tensor::zeros(outputs, DType::F32, &Device::Cpu)?);
        }
        Self::from_tensors(tensors, metadata)
    }

    /// Weights from named tensors: trained ones, say. They are copied to the CPU.
    ///
    /// # Errors
    /// Where a tensor is missing, unknown, of the wrong shape or type, or not finite; where the metadata do not fit.
    pub fn from_tensors(
        named: impl IntoIterator<Item = (String, Tensor)>,
        metadata: Metadata,
    ) -> Result<Self> {
        let mut named: BTreeMap<_, _> = named.into_iter().collect();
        let head = format!("{HEAD}.bias");
        let Some(scores) = named.get(&head).map(Tensor::elem_count) else {
            return Err(NetError::MissingTensor { name: head });
        };
        check_scores(scores)?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in layers(scores, metadata.head).flat_map(|layer| layer.tensors()) {
            let Some(tensor) = named.remove(&name) else {
                return Err(NetError::MissingTensor { name });
            };
            if tensor.shape() != &shape {
                return Err(NetError::Shape {
                    name,
                    expected: shape.into_dims(),
                    found: tensor.dims().to_vec(),
                });
            }
            if tensor.dtype() != DType::F32 {
                let found = tensor.dtype().as_str().to_owned();
                return Err(NetError::ElementType { name, found });
            }
            // Copied: the caller's may be variables that change later.
            let tensor = tensor.to_device(&Device::Cpu)?.detach().force_contiguous()?;
            if !tensor
                .flatten_all()?
                .to_vec1::<f32>()?
                .iter()
                .all(|w| w.is_finite())
            {
                return Err(NetError::NonFinite { name });
            }
            tensors.insert(name, tensor);
        }
        if let Some(name) = named.into_keys().next() {
            return Err(NetError::UnexpectedTensor { name });
        }
        metadata.check(scores)?;
        Ok(Self {
            scores,
            tensors,
            metadata,
        })
    }

    /// Weights from the bytes of a file that this crate wrote ([`to_safetensors`](Self::to_safetensors)).
    ///
    /// # Errors
    /// Where the bytes are damaged or hold another network.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        stored::read(bytes)
    }

    /// The bytes of a safetensors file with the metadata in its header. The same weights give the same bytes.
    ///
    /// # Errors
    /// Where the header grows past what the format holds.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        stored::write(self)
    }

    /// Weights from the bytes of a Keras HDF5 file, such as the published ones (`.h5`, legacy layout: whole model or
    /// weights alone). The file does not name its classes, so the metadata are the caller's.
    ///
    /// # Errors
    /// Where the bytes are damaged or hold another network; where the metadata's classes do not fit.
    pub fn from_keras(bytes: Vec<u8>, metadata: Metadata) -> Result<Self> {
        keras::read(bytes, metadata)
    }

    /// Weights from the bytes of a file of either kind: safetensors, or Keras HDF5. The latter does not name its
    /// classes; the published SHREC'19 weights are recognised and get their names and voxel size.
    ///
    /// # Errors
    /// As [`from_safetensors`](Self::from_safetensors) and [`from_keras`](Self::from_keras).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        if hdf5_pure::is_hdf5_bytes(&bytes) {
            let weights = Self::from_keras(bytes, Metadata::default())?;
            match keras::known_metadata(&weights)? {
                Some(metadata) => weights.with_metadata(metadata),
                None => Ok(weights),
            }
        } else if stored::looks_like(&bytes) {
            Self::from_safetensors(&bytes)
        } else {
            Err(NetError::UnknownFormat)
        }
    }

    /// Scores per voxel: the classes and background.
    pub fn scores(&self) -> usize {
        self.scores
    }

    /// Where the network ends.
    pub fn head(&self) -> Head {
        self.metadata.head
    }

    /// What the weights are for.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The same weights for something else: names for the classes of an imported file, say.
    ///
    /// # Errors
    /// Where the metadata do not fit the network.
    pub fn with_metadata(self, metadata: Metadata) -> Result<Self> {
        metadata.check(self.scores)?;
        if metadata.head != self.head() {
            return Err(NetError::Metadata {
                what: format!(
                    "a head on the {} level, where the tensors are of a network with one on the {} level",
                    metadata.head,
                    self.head()
                ),
            });
        }
        Ok(Self { metadata, ..self })
    }

    /// The tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Number of parameters: 902 928 + 33 per score; with a [`Head::Half`] 787 616 + 49 per score.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }
}

/// # Errors
/// [`NetError::Scores`] unless a label map can hold that many, and there is something to tell apart.
fn check_scores(scores: usize) -> Result<()> {
    if (2..=256).contains(&scores) {
        Ok(())
    } else {
        Err(NetError::Scores { found: scores })
    }
}
