//! A checkpoint as bytes: a safetensors file of weights and moments, with the rest of the state in its header.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::metrics::Running;
use crate::{AdamMoments, Best, Result};

/// Raised when older checkpoints can no longer be read.
const VERSION: u32 = 1;
const HEADER: &str = "deepfinder-checkpoint";
const WEIGHT: &str = "weight/";
const FIRST: &str = "first-moment/";
const SECOND: &str = "second-moment/";
const AVERAGE: &str = "average/";

/// Where a run is. Patches follow from the counters, so there is no generator to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Iterations done.
    pub(crate) step: u64,
    /// Epochs done, with their validation.
    pub(crate) epoch: u64,
    pub(crate) best: Option<Best>,
    /// The epoch so far.
    pub(crate) running: Running,
    /// Length of the metrics file: what a killed run wrote after this checkpoint is cut off.
    pub(crate) metrics_bytes: u64,
}

/// Everything that a run needs to go on as if it had not stopped.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    /// What must not change when the run is resumed, by name.
    pub(crate) settings: BTreeMap<String, String>,
    /// By name of the variable.
    pub(crate) weights: BTreeMap<String, Tensor>,
    pub(crate) moments: HashMap<String, AdamMoments>,
    /// Moving averages of the weights; none where they are not kept.
    pub(crate) averages: BTreeMap<String, Tensor>,
}

/// The header; its body is JSON in a string so that the checksum covers the very bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    checksum: String,
    body: String,
}

#[derive(Serialize, Deserialize)]
struct Body {
    state: State,
    settings: BTreeMap<String, String>,
}

impl Checkpoint {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.weights {
            tensors.insert(format!("{WEIGHT}{name}"), tensor);
        }
        for (name, average) in &self.averages {
            tensors.insert(format!("{AVERAGE}{name}"), average);
        }
        for (name, moments) in &self.moments {
            tensors.insert(format!("{FIRST}{name}"), &moments.first);
            tensors.insert(format!("{SECOND}{name}"), &moments.second);
        }
        let stored = tensors
            .into_iter()
            .map(|(name, tensor)| {
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Ok((name, tensor.dims().to_vec(), bytes))
            })
            .collect::<candle_core::Result<Vec<_>>>()
            .map_err(said)?;
        let body = Body {
            state: self.state.clone(),
            settings: self.settings.clone(),
        };
        let body = serde_json::to_string(&body).map_err(said)?;
        let header = Header {
            version: VERSION,
            checksum: checksum(
                &body,
                stored
                    .iter()
                    .map(|(name, _, bytes)| (name.as_str(), bytes.as_slice())),
            ),
            body,
        };
        let header = serde_json::to_string(&header).map_err(said)?;
        let views = stored
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(said)?;
        safetensors::serialize(views, Some(HashMap::from([(HEADER.to_owned(), header)]))).map_err(said)
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(said)?;
        let header = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(HEADER));
        let header: Header = match header {
            Some(header) => serde_json::from_str(header).map_err(said)?,
            None => return Err("it is no checkpoint".to_owned()),
        };
        if header.version != VERSION {
            return Err(format!(
                "its version is {}, this program reads version {VERSION}",
                header.version
            ));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(said)?;
        let tensors: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
        let data = tensors.iter().map(|(name, view)| (name.as_str(), view.data()));
        if header.checksum != checksum(&header.body, data) {
            return Err("its checksum does not fit its content".to_owned());
        }
        let Body { state, settings } = serde_json::from_str(&header.body).map_err(said)?;
        let of_kind = |kind: &str| {
            tensors
                .iter()
                .filter_map(|(name, view)| Some((name.strip_prefix(kind)?.to_owned(), view)))
                .map(|(name, view)| Ok((name, tensor(view)?)))
                .collect::<Result<BTreeMap<_, _>, String>>()
        };
        let mut second = of_kind(SECOND)?;
        let moments = of_kind(FIRST)?
            .into_iter()
            .map(|(name, first)| match second.remove(&name) {
                Some(second) => Ok((name, AdamMoments { first, second })),
                None => Err(format!("it lacks the second moments of `{name}`")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            state,
            settings,
            weights: of_kind(WEIGHT)?,
            moments,
            averages: of_kind(AVERAGE)?,
        })
    }
}

fn tensor(view: &TensorView<'_>) -> Result<Tensor, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("it holds {:?} where f32 is expected", view.dtype()));
    }
    let (values, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Tensor::from_vec(values, view.shape(), &Device::Cpu).map_err(said)
}

/// FNV-1a over the body and the tensors in order: against torn and overwritten files, not against malice.
fn checksum<'a>(body: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = crate::fingerprint::Fnv::default();
    hash.write(body.as_bytes());
    for (name, bytes) in tensors {
        hash.write(name.as_bytes());
        hash.write(bytes);
    }
    hash.to_string()
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoint() -> Checkpoint {
        let tensor = |values: [f32; 4]| Tensor::from_slice(&values, (2, 2), &Device::Cpu).unwrap();
        let mut running = Running::new(3);
        running.add(&crate::grading::Reading {
            loss: 0.1 + 0.2,
            gradient_norm: 1.0,
            counts: crate::VoxelCounts::new(3),
        });
        Checkpoint {
            state: State {
                step: 17,
                epoch: 3,
                best: Some(Best {
                    epoch: 2,
                    mean_f1: 1.0 / 3.0,
                    loss: f64::INFINITY,
                }),
                running,
                metrics_bytes: 99,
            },
            settings: BTreeMap::from([("learning_rate".to_owned(), "0.001".to_owned())]),
            weights: BTreeMap::from([("a".to_owned(), tensor([1.0, -0.0, 1e-40, 0.1]))]),
            moments: HashMap::from([(
                "a".to_owned(),
                AdamMoments {
                    first: tensor([1.0, 2.0, 3.0, 4.0]),
                    second: tensor([5.0, 6.0, 7.0, 8.0]),
                },
            )]),
            averages: BTreeMap::from([("a".to_owned(), tensor([0.5, -1.0, 1e-38, 2.0]))]),
        }
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn everything_comes_back() {
        let written = checkpoint();
        let bytes = written.to_bytes().unwrap();
        let read = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!((&read.state, &read.settings), (&written.state, &written.settings));
        assert_eq!(bits(&read.weights["a"]), bits(&written.weights["a"]));
        assert_eq!(read.weights["a"].dims(), [2, 2]);
        assert_eq!(bits(&read.moments["a"].first), bits(&written.moments["a"].first));
        assert_eq!(
            bits(&read.moments["a"].second),
            bits(&written.moments["a"].second)
        );
        assert_eq!(bits(&read.averages["a"]), bits(&written.averages["a"]));
        assert_eq!(read.to_bytes().unwrap(), bytes);
    }

    proptest! {
        #[test]
        fn damage_is_found(cut in 0.0..1.0f64, place in 0.0..1.0f64, bit in 0u8..8) {
            let bytes = checkpoint().to_bytes().unwrap();
            let torn = &bytes[..(cut * bytes.len() as f64) as usize];
            prop_assert!(Checkpoint::from_bytes(torn).is_err());
            // A bit of the tensors, which make up the end.
            let mut flipped = bytes.clone();
            let tensors = 4 * 16;
            let at = bytes.len() - 1 - (place * f64::from(tensors)) as usize;
            flipped[at] ^= 1 << bit;
            prop_assert!(Checkpoint::from_bytes(&flipped).is_err());
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Checkpoint::from_bytes(&bytes).is_err());
        }
    }
}
