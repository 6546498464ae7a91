//! What all requests share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use deepfinder_pipeline::{
    FileStamp, Folders, Project, ProjectTomogram, TomogramOptions, labels_path, open_tomogram, scores_folder,
    target_path, tomogram_options,
};
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::jobs::Jobs;
use crate::planes::PlaneCache;
use crate::sections::{Kind, PLANE_BYTES, PlaneKey, Sections};

/// Volumes that are held open, the last used ones.
const MOST_VOLUMES: usize = 12;
/// Of these, such as have to be kept turned about.
const MOST_TURNED: usize = 2;
/// Requests that compute or read at a time; others wait.
const MOST_AT_WORK: usize = 4;

/// A volume of a tomogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Tomogram,
    Labels,
    Target,
    Score(u8),
}

impl Layer {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "tomogram" => Ok(Self::Tomogram),
            "labels" => Ok(Self::Labels),
            "target" => Ok(Self::Target),
            _ => {
                let label = text.strip_prefix("score-").and_then(|label| label.parse().ok());
                label
                    .map(Self::Score)
                    .ok_or_else(|| ApiError::bad(format!("`{text}` is no layer")))
            }
        }
    }

    pub(crate) fn path(self, project: &Project, tomogram: &ProjectTomogram) -> PathBuf {
        match self {
            Self::Tomogram => project.resolve(&tomogram.file),
            Self::Labels => labels_path(project, tomogram),
            Self::Target => target_path(project, tomogram),
            Self::Score(label) => scores_folder(project, tomogram).join(format!("class{label}.mrc")),
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Tomogram | Self::Score(_) => Kind::Grey,
            Self::Labels | Self::Target => Kind::Labels,
        }
    }
}

/// What all requests share.
pub(crate) struct App {
    project: RwLock<Arc<Project>>,
    /// The project's file, once there is one.
    file: RwLock<Option<PathBuf>>,
    /// The tomogram that was named when the program was started.
    pub(crate) first: Option<String>,
    pub(crate) device: String,
    pub(crate) precision: String,
    pub(crate) jobs: Arc<Jobs>,
    /// Held while a list or the project is changed: one at a time.
    pub(crate) changing: Mutex<()>,
    pub(crate) at_work: Semaphore,
    planes: Arc<PlaneCache<PlaneKey>>,
    open: Mutex<Open>,
}

/// The volumes that are open, the last used ones at the end.
#[derive(Default)]
struct Open {
    volumes: Vec<OpenVolume>,
    next: u64,
}

struct OpenVolume {
    path: PathBuf,
    stamp: Option<FileStamp>,
    options: TomogramOptions,
    large: bool,
    sections: Arc<Sections>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    pub(crate) fn new(
        project: Project,
        file: Option<PathBuf>,
        first: Option<String>,
        [device, precision]: [String; 2],
    ) -> Self {
        Self {
            project: RwLock::new(Arc::new(project)),
            file: RwLock::new(file),
            first,
            device,
            precision,
            jobs: Arc::default(),
            changing: Mutex::new(()),
            at_work: Semaphore::new(MOST_AT_WORK),
            planes: Arc::new(PlaneCache::new(PLANE_BYTES)),
            open: Mutex::default(),
        }
    }

    pub(crate) fn project(&self) -> Arc<Project> {
        self.project
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn project_file(&self) -> Option<PathBuf> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_project(&self, project: Project, file: PathBuf) {
        *self.project.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(project);
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        lock(&self.changing)
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders::of_project(&self.project())
    }

    /// A volume of a tomogram, opened where it is not yet or has changed since.
    pub(crate) fn sections(
        &self,
        project: &Project,
        tomogram: &ProjectTomogram,
        layer: Layer,
    ) -> Result<Arc<Sections>, ApiError> {
        let path = layer.path(project, tomogram);
        let options = if layer == Layer::Tomogram {
            tomogram_options(tomogram)?
        } else {
            TomogramOptions::default()
        };
        let stamp = FileStamp::of(&path);
        if stamp.is_none() {
            return Err(ApiError::missing(format!(
                "{}: there is no such volume yet",
                shown(&path)
            )));
        }
        let mut open = lock(&self.open);
        let found = open.volumes.iter().position(|volume| volume.path == path);
        if let Some(at) = found {
            let volume = open.volumes.remove(at);
            if volume.stamp == stamp && volume.options == options {
                let sections = volume.sections.clone();
                open.volumes.push(volume);
                return Ok(sections);
            }
        }
        let reader = open_tomogram(&path, options)?;
        open.next += 1;
        let sections = Arc::new(Sections::new(
            open.next,
            layer.kind(),
            reader,
            self.planes.clone(),
        ));
        let large = sections.needs_turning();
        if large {
            let turned: Vec<usize> = (0..open.volumes.len())
                .filter(|&at| open.volumes[at].large)
                .collect();
            if turned.len() >= MOST_TURNED {
                open.volumes.remove(turned[0]);
            }
            turn_in_background(&sections);
        }
        if open.volumes.len() >= MOST_VOLUMES {
            open.volumes.remove(0);
        }
        open.volumes.push(OpenVolume {
            path,
            stamp,
            options,
            large,
            sections: sections.clone(),
        });
        Ok(sections)
    }
}

/// Goes on for as long as the volume is held open.
fn turn_in_background(sections: &Arc<Sections>) {
    let held = Arc::downgrade(sections);
    std::thread::spawn(move || {
        let Some(sections) = held.upgrade() else { return };
        if let Err(error) = sections.turn(&|| Arc::strong_count(&sections) > 1) {
            tracing::warn!("a volume cannot be prepared for slices across x: {error}");
        }
    });
}

/// A path in a message: its name alone, for messages go to the page.
fn shown(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
