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

/// Why a graphics card cannot be used by this build.
const NO_CUDA: &str = "this build of deepfinder has no CUDA support yet";

/// The device of a `--device` argument: `auto`, `cpu` or `cuda:N`.
///
/// # Errors
/// [`PipelineError::Input`] for a device that is not there, with the reason.
pub fn device(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "")) {
        ("auto", "") => {
            tracing::info!("running on the processor: {NO_CUDA}");
            Ok(Device::Cpu)
        }
        ("cpu", "") => Ok(Device::Cpu),
        ("cuda", _) => Err(PipelineError::input(format!(
            "{name}: {NO_CUDA}; use --device cpu or auto"
        ))),
        _ => Err(PipelineError::input(format!(
            "`{name}` is no device: use auto, cpu or cuda:N"
        ))),
    }
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
    vec![
        DeviceReport {
            name: "cpu".to_owned(),
            usable: true,
            what: format!("{threads} threads; {sets}"),
        },
        DeviceReport {
            name: "cuda".to_owned(),
            usable: false,
            what: NO_CUDA.to_owned(),
        },
    ]
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
        assert!(device("auto").is_ok() && device("cpu").is_ok());
        assert!(device("cuda:0").unwrap_err().to_string().contains("CUDA"));
        assert!(device("gpu").unwrap_err().to_string().contains("no device"));
        assert!(devices().iter().any(|device| device.usable));
    }
}
