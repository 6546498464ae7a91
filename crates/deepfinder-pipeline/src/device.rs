use candle_conv3d::{gpu, gpus};
use candle_core::Device;
use serde::Serialize;

use crate::{PipelineError, Result};

/// A device that the network may run on.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    /// `cpu`, `cuda:0`, …
    pub name: String,
    /// Whether `--device` takes it.
    pub usable: bool,
    /// What it is, or why it cannot be used.
    pub what: String,
}

/// The device of a `--device` argument: `auto`, `cpu`, or `cuda` with `:N` for another than the first.
///
/// `auto` takes the first GPU, and where none can be used the processor, with a warning that says why.
///
/// # Errors
/// [`PipelineError::Input`] for a device that is not there, with the reason.
pub fn device(name: &str) -> Result<Device> {
    let unknown = || PipelineError::input(format!("`{name}` is no device: use auto, cpu, cuda or cuda:N"));
    match name.split_once(':') {
        None if name == "auto" => Ok(gpu(0).unwrap_or_else(|reason| {
            tracing::warn!("running on the processor: {reason}");
            Device::Cpu
        })),
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => open(name, 0),
        Some(("cuda", ordinal)) => open(name, ordinal.parse().map_err(|_| unknown())?),
        _ => Err(unknown()),
    }
}

fn open(name: &str, ordinal: usize) -> Result<Device> {
    gpu(ordinal)
        .map_err(|reason| PipelineError::input(format!("{name}: {reason}; use --device cpu or auto instead")))
}

/// The devices and what is known of them.
pub fn devices() -> Vec<DeviceReport> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let sets = instruction_sets();
    let sets = if sets.is_empty() {
        "no vector extension known".to_owned()
    } else {
        sets.join(", ")
    };
    let mut devices = vec![DeviceReport {
        name: "cpu".to_owned(),
        usable: true,
        what: format!("{threads} threads; {sets}"),
    }];
    match gpus() {
        Ok(gpus) => devices.extend(gpus.into_iter().map(|gpu| {
            let (major, minor) = gpu.compute_capability;
            let gibibytes = gpu.memory_bytes as f64 / f64::from(1 << 30);
            DeviceReport {
                name: format!("cuda:{}", gpu.ordinal),
                usable: major >= 8,
                what: format!(
                    "{}; {gibibytes:.0} GiB; compute capability {major}.{minor}{}",
                    gpu.name,
                    if major < 8 {
                        ", which is too old: 8.0 is needed"
                    } else {
                        ""
                    }
                ),
            }
        })),
        Err(reason) => devices.push(DeviceReport {
            name: "cuda".to_owned(),
            usable: false,
            what: reason.to_string(),
        }),
    }
    devices
}

fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        [
            (
                "AVX2 + FMA",
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            ),
            ("AVX-512", is_x86_feature_detected!("avx512f")),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named() {
        assert!(device("cpu").unwrap().is_cpu() && device("auto").is_ok());
        let refused = |name: &str| device(name).unwrap_err().to_string();
        for name in [
            "gpu", "cuda:", "cuda:one", "cuda:-1", "cpu:0", "auto:0", "", "CUDA",
        ] {
            assert!(refused(name).contains("is no device"), "{name}");
        }
        // No machine has that many: whatever is missing here, it is said, with what was asked for.
        let reason = refused("cuda:4096");
        assert!(
            reason.starts_with("cuda:4096: ") && reason.ends_with("use --device cpu or auto instead"),
            "{reason}"
        );
        assert!(devices().iter().any(|device| device.usable));
    }
}
