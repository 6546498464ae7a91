use candle_conv3d::{LibraryError, cudnn_version, gpu, gpus, nccl_version};
use candle_core::Device;
use deepfinder_net::Precision;
use serde::Serialize;

use crate::{PipelineError, Result};

/// A device that the network may run on, or a library that helps one.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    /// `cpu`, `cuda:0`, …; `cudnn` and `nccl` for the libraries.
    pub name: String,
    /// Whether `--device` takes it, or it is used.
    pub usable: bool,
    /// What it is, or why it cannot be used.
    pub what: String,
}

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Auto,
    Cpu,
    Gpu(usize),
}

/// The device of a `--device` argument: `auto`, `cpu`, or `cuda` with `:N` for another than the first.
///
/// `auto` takes the first GPU, and where none can be used the processor, with a warning that says why.
///
/// # Errors
/// [`PipelineError::Input`] for a device that is not there, with the reason, and for several of them.
pub fn device(name: &str) -> Result<Device> {
    match named(name)?.as_slice() {
        [(part, device)] => open(part, *device),
        _ => Err(PipelineError::input(format!(
            "`{name}` names several devices: `train`, `segment`, `run`, `bench` and `check-device` take them, all else takes one"
        ))),
    }
}

/// The devices of a `--device` argument, at least one, for work that can be shared: one as [`device`] takes it, or several GPUs with
/// commas between them (`cuda:0,cuda:1`).
///
/// # Errors
/// [`PipelineError::Input`] for a device that is not there, with the reason; for one that is named twice, and for
/// another than a GPU among several.
pub fn device_list(names: &str) -> Result<Vec<Device>> {
    let named = named(names)?;
    named
        .into_iter()
        .map(|(part, device)| open(part, device))
        .collect()
}

/// What the names mean, each beside its word.
fn named(names: &str) -> Result<Vec<(&str, Named)>> {
    let mut devices: Vec<(&str, Named)> = Vec::new();
    for part in names.split(',').map(str::trim) {
        let ordinal = match part.split_once(':') {
            None if part == "cuda" => Some(0),
            Some(("cuda", ordinal)) => ordinal.parse().ok(),
            _ => None,
        };
        let device = match (part, ordinal) {
            ("auto", _) => Named::Auto,
            ("cpu", _) => Named::Cpu,
            (_, Some(ordinal)) => Named::Gpu(ordinal),
            _ => {
                return Err(PipelineError::input(format!(
                    "`{part}` is no device: use auto, cpu, cuda or cuda:N, or several GPUs as cuda:0,cuda:1"
                )));
            }
        };
        if devices.iter().any(|(_, other)| *other == device) {
            return Err(PipelineError::input(format!(
                "`{names}` names the same device twice: name each once"
            )));
        }
        devices.push((part, device));
    }
    let alone = devices
        .iter()
        .find(|(_, device)| !matches!(device, Named::Gpu(_)));
    match alone {
        Some((part, _)) if devices.len() > 1 => Err(PipelineError::input(format!(
            "`{names}`: several devices must all be GPUs (cuda:0,cuda:1), and `{part}` is none: use it alone"
        ))),
        _ => Ok(devices),
    }
}

fn open(name: &str, device: Named) -> Result<Device> {
    match device {
        Named::Auto => Ok(gpu(0).unwrap_or_else(|reason| {
            tracing::warn!("running on the processor: {reason}");
            Device::Cpu
        })),
        Named::Cpu => Ok(Device::Cpu),
        Named::Gpu(ordinal) => gpu(ordinal).map_err(|reason| {
            PipelineError::input(format!("{name}: {reason}; use --device cpu or auto instead"))
        }),
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
    devices.extend(library(
        "cudnn",
        cudnn_version(),
        "for convolutions on a GPU, where it is faster",
        "for convolutions on a GPU, which run without",
    ));
    devices.extend(library(
        "nccl",
        nccl_version(),
        "for training on several GPUs",
        "for training on several GPUs, which cannot be done",
    ));
    devices
}

/// What is said of a library, where this program knows it.
fn library(
    name: &str,
    version: std::result::Result<String, LibraryError>,
    used: &str,
    unused: &str,
) -> Option<DeviceReport> {
    let (usable, what) = match version {
        Ok(version) => (true, format!("{version}; {used}")),
        Err(LibraryError::NotBuilt { .. }) => return None,
        Err(reason) => (false, format!("{unused}: {reason}")),
    };
    Some(DeviceReport {
        name: name.to_owned(),
        usable,
        what,
    })
}

/// That these devices can share a training.
///
/// # Errors
/// [`PipelineError::Input`] for several GPUs without NCCL, with the reason.
pub(crate) fn check_shared_training(devices: &[Device]) -> Result<()> {
    let gpus = devices.iter().filter(|device| device.is_cuda()).count();
    shared_training(gpus, nccl_version)
}

fn shared_training(
    gpus: usize,
    version: impl FnOnce() -> std::result::Result<String, LibraryError>,
) -> Result<()> {
    if gpus < 2 {
        return Ok(());
    }
    version().map(drop).map_err(|reason| {
        let to_do = match reason {
            LibraryError::NotBuilt { .. } => "build it with `--features nccl` (`cargo xtask cuda build` does), or",
            _ => "or",
        };
        PipelineError::input(format!(
            "training on {gpus} GPUs adds up what each has learnt through NVIDIA's NCCL, which cannot be used: {reason}; {to_do} \
             name one GPU to train on that alone"
        ))
    })
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

    #[test]
    fn a_library_is_no_reason_to_stop() {
        let library = |version| library("cudnn", version, "used", "unused");
        assert!(library(Err(LibraryError::NotBuilt { name: "cuDNN" })).is_none());
        let report = library(Ok("9.19.0".to_owned())).unwrap();
        assert!(report.usable && report.what == "9.19.0; used");
        let off = library(Err(LibraryError::Off)).unwrap();
        let said = "unused: it is switched off (DEEPFINDER_CUDNN=0)";
        assert!(!off.usable && off.what == said, "{}", off.what);
        assert_eq!(off.name, "cudnn");
    }

    #[test]
    fn a_training_is_shared_through_nccl_or_refused() {
        let missing = || LibraryError::Missing {
            said: "libnccl.so.2: cannot open".to_owned(),
            name: "NCCL 2",
        };
        // One alone needs nobody to add up with.
        for gpus in [0, 1] {
            shared_training(gpus, || Err(missing())).unwrap();
        }
        shared_training(2, || Ok("2.28.9".to_owned())).unwrap();
        check_shared_training(&[Device::Cpu, Device::Cpu]).unwrap();
        let refused = |reason: LibraryError| shared_training(3, || Err(reason)).unwrap_err().to_string();
        let said = refused(missing());
        assert!(
            said.contains("3 GPUs")
                && said.contains("install NCCL 2")
                && said.ends_with("name one GPU to train on that alone"),
            "{said}"
        );
        let said = refused(LibraryError::NotBuilt { name: "NCCL" });
        assert!(
            said.contains("built without NCCL support") && said.contains("--features nccl"),
            "{said}"
        );
    }

    #[test]
    fn several_gpus_are_named_once_each() {
        let gpus = [("cuda:0", Named::Gpu(0)), ("cuda:3", Named::Gpu(3))];
        assert_eq!(named("cuda:0,cuda:3").unwrap(), gpus);
        assert_eq!(named("cuda:0, cuda:3").unwrap(), gpus);
        assert_eq!(named("cuda").unwrap(), [("cuda", Named::Gpu(0))]);
        let refused = |names: &str| device_list(names).unwrap_err().to_string();
        for names in ["cuda:0,cuda:0", "cuda,cuda:0", "cuda:1,cuda:2,cuda:1", "cpu,cpu"] {
            assert!(refused(names).contains("twice"), "{names}: {}", refused(names));
        }
        for (names, alone) in [("cuda:0,cpu", "`cpu`"), ("auto,cuda:1", "`auto`")] {
            let reason = refused(names);
            assert!(
                reason.contains("must all be GPUs") && reason.contains(alone),
                "{reason}"
            );
        }
        for (names, part) in [("cuda:0,", "``"), ("cuda:0,gpu1", "`gpu1`"), (",", "``")] {
            let reason = refused(names);
            assert!(reason.contains(&format!("{part} is no device")), "{reason}");
        }
        let reason = refused("cuda:4095,cuda:4096");
        assert!(reason.starts_with("cuda:4095: "), "{reason}");
        assert!(device_list("cpu").unwrap().len() == 1);
        // Two are never taken for one.
        let reason = device("cuda:0,cuda:1").unwrap_err().to_string();
        assert!(reason.contains("names several devices"), "{reason}");
    }
}
