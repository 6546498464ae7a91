//! Whether cuDNN is used.

/// When cuDNN may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preference {
    Never,
    /// Wherever it can.
    Always,
    /// Where it is faster than the kernels of this crate.
    Fastest,
}

impl Preference {
    /// What `DEEPFINDER_CUDNN` says.
    fn of(variable: Option<&str>) -> Self {
        match variable {
            Some("0") => Self::Never,
            Some("1") => Self::Always,
            _ => Self::Fastest,
        }
    }

    /// The way to go, by what each takes; nothing where that is our own. A way that fails is none.
    ///
    /// # Errors
    /// Where our own fails.
    pub(crate) fn choose<W: Copy, E>(
        self,
        ways: impl IntoIterator<Item = W>,
        own: impl FnOnce() -> Result<f32, E>,
        mut time: impl FnMut(W) -> Result<f32, E>,
    ) -> Result<Option<W>, E> {
        /// Part of our own kernel's time that cuDNN must stay below: where they are about equal, the choice stays the same.
        const CLEARLY: f32 = 0.95;
        let mut ways = ways.into_iter().peekable();
        if self == Self::Never || ways.peek().is_none() {
            return Ok(None);
        }
        if self == Self::Always {
            return Ok(ways.find(|way| time(*way).is_ok()));
        }
        let mut least = CLEARLY * own()?;
        let mut chosen = None;
        for way in ways {
            if let Ok(taken) = time(way)
                && taken < least
            {
                (least, chosen) = (taken, Some(way));
            }
        }
        Ok(chosen)
    }
}

#[cfg(feature = "cudnn")]
mod found {
    use std::sync::{Arc, OnceLock};

    use super::Preference;
    use crate::{cuda::cudnn::library::Library, gpu::LibraryError};

    impl Preference {
        /// That of this run of the program.
        pub(crate) fn current() -> Self {
            // Read once: a result must not change half-way through a network.
            static CURRENT: OnceLock<Preference> = OnceLock::new();
            *CURRENT.get_or_init(|| Self::of(std::env::var("DEEPFINDER_CUDNN").ok().as_deref()))
        }
    }

    /// cuDNN as this machine has it, or why not; looked for once.
    pub(crate) fn library() -> &'static Result<Arc<Library>, LibraryError> {
        static FOUND: OnceLock<Result<Arc<Library>, LibraryError>> = OnceLock::new();
        FOUND.get_or_init(|| match Preference::current() {
            Preference::Never => Err(LibraryError::Off),
            _ => Library::of_system(),
        })
    }
}
#[cfg(feature = "cudnn")]
pub(crate) use found::library;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cudnn_must_be_clearly_faster() {
        let of = Preference::of;
        assert_eq!(
            [of(Some("0")), of(Some("1")), of(Some("auto")), of(None)],
            [
                Preference::Never,
                Preference::Always,
                Preference::Fastest,
                Preference::Fastest
            ]
        );
        // Times in ms; a way that takes none fails.
        let chosen = |preference: Preference, own: Option<f32>, ways: &[Option<f32>]| {
            let time = |way: usize| ways[way].ok_or("it fails");
            preference.choose(0..ways.len(), || own.ok_or("our own fails"), time)
        };
        let fastest = |own, ways| chosen(Preference::Fastest, own, ways);
        let two = Some(2.0);
        assert_eq!(fastest(two, &[Some(1.0), Some(0.5), Some(3.0)]), Ok(Some(1)));
        assert_eq!(fastest(two, &[Some(1.95), None, Some(2.5)]), Ok(None));
        assert_eq!(fastest(two, &[None, Some(1.8)]), Ok(Some(1)));
        assert_eq!(fastest(None, &[Some(1.0)]), Err("our own fails"));
        // Without a choice nothing is measured.
        assert_eq!(fastest(None, &[]), Ok(None));
        assert_eq!(chosen(Preference::Never, None, &[Some(1.0)]), Ok(None));
        assert_eq!(
            chosen(Preference::Always, None, &[None, Some(9.0), Some(1.0)]),
            Ok(Some(1))
        );
        assert_eq!(chosen(Preference::Always, None, &[None]), Ok(None));
    }
}
