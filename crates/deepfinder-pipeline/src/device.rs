use candle_core::Device;
use deepfinder_net::Precision;
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

/// The precision of a `--precision` argument: `f32`, `bf16`, or `auto` for the faster of them there.
///
/// # Errors
/// [`PipelineError::Input`] for another name.
pub fn precision(name: &str, device: &Device) -> Result<Precision> {
    match name {
        "auto" => {
            let precision = Precision::fastest(device);
            tracing::info!("computing in {precision}");
            Ok(precision)
        }
        "f32" => Ok(Precision::F32),
        "bf16" => {
            if !Precision::Bf16.is_native(device) {
                tracing::warn!(
                    "this processor has no instructions for bf16, which takes longer than f32 here: use --precision auto"
                );
            }
            Ok(Precision::Bf16)
        }
        _ => Err(PipelineError::input(format!(
            "`{name}` is no precision: use auto, f32 or bf16"
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
            ("AVX-512 for bf16", Precision::Bf16.is_native(&Device::Cpu)),
            (
                "AMX for bf16",
                Precision::fastest(&Device::Cpu) == Precision::Bf16,
            ),
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
        let of = |name| precision(name, &Device::Cpu);
        assert_eq!(of("bf16").unwrap(), Precision::Bf16);
        assert_eq!(of("f32").unwrap(), Precision::F32);
        assert!(of("auto").unwrap().is_native(&Device::Cpu));
        assert!(of("f16").unwrap_err().to_string().contains("no precision"));
        assert!(devices().iter().any(|device| device.usable));
    }
}
