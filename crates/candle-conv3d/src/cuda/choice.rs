//! Whose convolution is used: that of this crate, or one of cuDNN's. Each problem is timed once on a device, and what was
//! the fastest is remembered for as long as the program runs.

#![cfg_attr(
    feature = "cudnn",
    expect(unsafe_code, reason = "cuDNN is given addresses on a GPU")
)]

use candle_core::{CudaDevice, Result};

use super::{
    convolution::{ConvolutionPlan, Direction},
    program::Program,
};
#[cfg(feature = "cudnn")]
pub(super) use library::call;

/// Runs the fastest program of a convolution by `run`, which may be called several times. Whatever goes wrong with
/// cuDNN, memory that cannot be had among it, the program of this crate does.
pub(super) fn run_fastest<R>(
    #[cfg_attr(
        not(feature = "cudnn"),
        expect(unused_variables, reason = "there is no choice")
    )]
    device: &CudaDevice,
    plan: &ConvolutionPlan<'_>,
    direction: Direction,
    mut run: impl FnMut(&Program) -> Result<R>,
) -> Result<R> {
    #[cfg(feature = "cudnn")]
    if let Some(program) = library::choose(device, plan, direction, &mut |program| run(program).map(drop))? {
        match run(&program) {
            Err(_) => library::give_up(device, plan, direction),
            done => return done,
        }
    }
    run(&plan.program(direction)?)
}

#[cfg(feature = "cudnn")]
mod library {
    use std::{
        cell::RefCell,
        collections::HashMap,
        sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    };

    use candle_core::{
        CudaDevice, Error, Result,
        cuda_backend::{DeviceId, WrapErr, cudarc::driver::sys::CUevent_flags},
    };

    use super::super::{
        convolution::{ConvolutionPlan, Direction},
        cudnn::{ALIGNMENT, Call, Handle, Preference, Way, library},
        device::Memory,
        program::{Element, Program},
    };
    use crate::{config::Activation, cpu::ConvShape, gpu::LibraryError};

    /// A problem on a device.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Key {
        device: DeviceId,
        direction: Direction,
        element: Element,
        shape: ConvShape,
        channels: Vec<usize>,
        has_bias: bool,
        activation: Activation,
    }

    impl Key {
        fn of(device: &CudaDevice, plan: &ConvolutionPlan<'_>, direction: Direction) -> Self {
            Self {
                device: device.id(),
                direction,
                element: plan.element,
                shape: *plan.shape,
                channels: plan.channels.to_vec(),
                has_bias: plan.has_bias,
                activation: plan.activation,
            }
        }
    }

    /// What was chosen: nothing where that is this crate's own.
    fn choices() -> MutexGuard<'static, HashMap<Key, Option<Way>>> {
        static CHOICES: OnceLock<Mutex<HashMap<Key, Option<Way>>>> = OnceLock::new();
        let choices = CHOICES.get_or_init(Mutex::default);
        choices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    type Shared = Arc<Mutex<Handle>>;

    /// cuDNN on the device's stream, started once; nothing where that cannot be.
    fn handle(device: &CudaDevice) -> Option<Shared> {
        static HANDLES: OnceLock<Mutex<HashMap<DeviceId, Option<Shared>>>> = OnceLock::new();
        let mut handles = HANDLES
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let stream = device.cuda_stream();
            stream.context().bind_to_thread().ok()?;
            let library = library().as_ref().ok()?;
            let handle = Handle::new(Arc::clone(library), stream.cu_stream().cast()).ok()?;
            Some(Arc::new(Mutex::new(handle)))
        };
        handles.entry(device.id()).or_insert_with(start).clone()
    }

    fn lock(handle: &Shared) -> MutexGuard<'_, Handle> {
        handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn program_of(
        handle: &Shared,
        plan: &ConvolutionPlan<'_>,
        direction: Direction,
        way: Way,
    ) -> Result<Option<Program>> {
        Ok(plan.library(direction, way, &mut |problem| lock(handle).workspace(problem))?)
    }

    /// cuDNN's program, where that is the fastest; `run` runs one.
    pub(super) fn choose(
        device: &CudaDevice,
        plan: &ConvolutionPlan<'_>,
        direction: Direction,
        run: &mut dyn FnMut(&Program) -> Result<()>,
    ) -> Result<Option<Program>> {
        let Some(handle) = handle(device) else {
            return Ok(None);
        };
        let key = Key::of(device, plan, direction);
        let known = choices().get(&key).copied();
        let way = if let Some(way) = known {
            way
        } else {
            let way = measure(device, &handle, plan, direction, run)?;
            choices().insert(key, way);
            way
        };
        match way {
            Some(way) => program_of(&handle, plan, direction, way),
            None => Ok(None),
        }
    }

    fn measure(
        device: &CudaDevice,
        handle: &Shared,
        plan: &ConvolutionPlan<'_>,
        direction: Direction,
        run: &mut dyn FnMut(&Program) -> Result<()>,
    ) -> Result<Option<Way>> {
        let mut programs = Vec::new();
        for way in Way::all(direction) {
            if let Some(program) = program_of(handle, plan, direction, way)? {
                programs.push((way, program));
            }
        }
        let run = RefCell::new(run);
        let timed = |program: &Program| time(device, program, &mut **run.borrow_mut());
        let chosen = Preference::current().choose(
            &programs,
            || timed(&plan.program(direction)?),
            |(_, program)| timed(program),
        )?;
        Ok(chosen.map(|(way, _)| *way))
    }

    /// The least of a few runs, in ms, after one to warm up.
    fn time(
        device: &CudaDevice,
        program: &Program,
        run: &mut dyn FnMut(&Program) -> Result<()>,
    ) -> Result<f32> {
        const RUNS: usize = 3;
        run(program)?;
        let stream = device.cuda_stream();
        let now = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w();
        let mut least = f32::INFINITY;
        for _ in 0..RUNS {
            let begun = now()?;
            run(program)?;
            least = least.min(begun.elapsed_ms(&now()?).w()?);
        }
        Ok(least)
    }

    /// Never again for that problem.
    pub(super) fn give_up(device: &CudaDevice, plan: &ConvolutionPlan<'_>, direction: Direction) {
        choices().insert(Key::of(device, plan, direction), None);
    }

    /// Runs a step of a program.
    pub(in super::super) fn call(device: &CudaDevice, call: &Call, memory: &Memory<'_>) -> Result<()> {
        let handle = handle(device).ok_or_else(|| Error::wrap(LibraryError::Off))?;
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let places = call.places.iter();
        let addresses: Vec<u64> = places.map(|&place| memory.address(place)).collect();
        let workspace = call.workspace.map_or(0, |(place, _)| memory.address(place));
        if addresses
            .iter()
            .any(|address| *address == 0 || !address.is_multiple_of(ALIGNMENT as u64))
        {
            return Err(Error::wrap(LibraryError::Address));
        }
        // SAFETY: values of the program's buffers, whose lengths the ops have checked, all on this device; the result is
        // scratch memory or the output, which no input shares memory with.
        unsafe { lock(&handle).run(&call.problem, &addresses, workspace) }.map_err(Error::wrap)
    }
}
