use candle_conv3d::{gpu, gpus};
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
        let of = |name| precision(name, &Device::Cpu);
        assert_eq!(of("bf16").unwrap(), Precision::Bf16);
        assert_eq!(of("f32").unwrap(), Precision::F32);
        assert!(of("auto").unwrap().is_native(&Device::Cpu));
        assert!(of("f16").unwrap_err().to_string().contains("no precision"));
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
