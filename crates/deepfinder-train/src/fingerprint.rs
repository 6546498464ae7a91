//! What must stay the same when a run is resumed.

use std::collections::BTreeMap;

use deepfinder_net::Weights;

use crate::{Result, Schedule, TrainParams, TrainingTomogram};

/// FNV-1a, 64 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl std::fmt::Display for Fnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Parameters and data by name. Voxels are not looked at: reading them all would take as long as an epoch.
pub(crate) fn settings(
    params: &TrainParams,
    initial: &Weights,
    training: &[TrainingTomogram],
    validation: &[TrainingTomogram],
) -> Result<BTreeMap<String, String>> {
    let scores = initial.scores().to_string();
    let mut settings = BTreeMap::from([("classes with background".to_owned(), scores)]);
    if !initial.head().is_full() {
        settings.insert("head".to_owned(), initial.head().to_string());
    }
    if let serde_json::Value::Object(fields) =
        serde_json::to_value(params).map_err(candle_core::Error::wrap)?
    {
        settings.extend(fields.into_iter().map(|(name, value)| (name, value.to_string())));
    }
    for free in ["patience", "log_every_steps"] {
        settings.remove(free);
    }
    // A longer run begins as the shorter one did, unless the learning rate already looks to the end.
    if params.schedule == Schedule::Constant {
        settings.remove("epochs");
    }
    for (split, tomograms) in [("training", training), ("validation", validation)] {
        for (index, tomogram) in tomograms.iter().enumerate() {
            let mut hash = Fnv::default();
            for particle in tomogram.particles.iter() {
                hash.write(&[particle.label]);
                for coordinate in particle.position {
                    hash.write(&coordinate.to_bits().to_le_bytes());
                }
            }
            let what = format!(
                "`{}` of {:?} voxels with {} particles (#{hash})",
                tomogram.name,
                tomogram.tomogram.shape(),
                tomogram.particles.len()
            );
            settings.insert(format!("{split} tomogram {}", index + 1), what);
        }
    }
    Ok(settings)
}

/// What differs between the settings of a checkpoint and those of now, if anything.
pub(crate) fn difference(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let names = then
        .keys()
        .chain(now.keys().filter(|name| !then.contains_key(*name)));
    let different: Vec<String> = names
        .filter(|name| then.get(*name) != now.get(*name))
        .map(|name| {
            let [then, now] =
                [then, now].map(|settings| settings.get(name).map_or("not there", String::as_str));
            format!("{name} was {then} and is now {now}")
        })
        .collect();
    (!different.is_empty()).then(|| different.join("; "))
}

#[cfg(test)]
mod tests {
    use deepfinder_net::{Head, Metadata};

    use super::*;

    #[test]
    fn differences_are_told() {
        let initial = |head| {
            let metadata = Metadata {
                head,
                ..Metadata::default()
            };
            Weights::initial(3, 1, metadata).unwrap()
        };
        let of_initial = |params: &TrainParams, initial| settings(params, initial, &[], &[]).unwrap();
        let full = initial(Head::Full);
        let of = |params: &TrainParams| of_initial(params, &full);
        let base = TrainParams {
            schedule: Schedule::Constant,
            ..TrainParams::default()
        };
        let half = initial(Head::Half);
        let half = of_initial(&base, &half);
        assert_eq!(
            difference(&of(&base), &half).as_deref(),
            Some("head was not there and is now half")
        );
        let check = |change: fn(&mut TrainParams), expected: Option<&str>| {
            let mut params = base.clone();
            change(&mut params);
            assert_eq!(difference(&of(&base), &of(&params)).as_deref(), expected);
        };
        check(|p| p.epochs = 50, None);
        check(|p| p.prefetch.workers = 3, None);
        check(
            |p| p.learning_rate = 1e-4,
            Some("learning_rate was 0.001 and is now 0.0001"),
        );
        check(
            |p| p.schedule = Schedule::Cosine,
            Some("schedule was \"Constant\" and is now \"Cosine\"; epochs was not there and is now 20"),
        );
    }
}
