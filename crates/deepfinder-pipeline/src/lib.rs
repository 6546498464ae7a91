//! The project file and the use-cases over it: simulate, prepare, train, segment, pick, evaluate.
//!
//! Each use-case takes a job and gives a summary; files are checked before long work begins, and what is written
//! appears under its name only when it is complete. Nothing is printed: progress goes to a
//! [`Progress`](deepfinder_core::Progress), remarks to `tracing`.
//!
//! ```
//! use deepfinder_core::NoProgress;
//! use deepfinder_pipeline::{FileSummary, InitJob, TomogramTable, file_summary, init_project};
//!
//! let folder = tempfile::tempdir()?;
//! let classes = vec![("ribosome".to_owned(), "120 A".parse()?)];
//! let (path, _) = init_project(&InitJob { folder: folder.path().to_owned(), classes, ..InitJob::default() })?;
//! let FileSummary::Project(project) = file_summary(&path, &TomogramTable::default(), &NoProgress)? else { panic!("it is a project") };
//! assert_eq!(project.classes[&1], "ribosome");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accuracy;
mod annotations;
mod average;
mod bench;
mod canvas;
mod charts;
mod consensus;
mod consensus_averages;
mod convert;
mod curves;
mod demo;
mod device;
mod device_check;
mod error;
mod evaluate;
mod folders;
mod fsc_curves;
mod html_report;
mod info;
mod init;
mod length;
mod lists;
mod membrane_distance;
mod model;
mod pick;
mod project;
mod project_edit;
mod project_jobs;
mod reader;
mod run;
mod segment;
mod share;
mod simulate;
mod slices;
mod stamps;
mod target;
mod template_match;
mod templates;
mod thresholds;
mod tilt_angles;
mod train;

pub use accuracy::{
    AccuracyJob, AccuracyOverSeeds, AccuracyReport, AccuracySize, ClassScores, CurvePoint, Looking,
    MethodScores, ParticleClass, Recipe, RecipeRow, RecipeRun, RecipesReport, SizeGroup, bench_accuracy,
    bench_accuracy_over_seeds, bench_recipes,
};
pub use annotations::{EditedList, ListState, read_edited_list, read_list, write_edited_list};
pub use average::{AverageJob, Averaged, CurveResolution, MoreParticles, average_particles};
pub use bench::{BenchJob, BenchRow, bench};
pub use candle_conv3d::keep_memory;
pub use consensus::{ConsensusJob, ConsensusSummary, consensus_of_files};
pub use consensus_averages::{PartAverage, average_parts};
pub use convert::{ConvertJob, Converted, Row, convert};
pub use curves::training_curves_svg;
pub use demo::{DemoJob, DemoSummary, demo};
pub use device::{DeviceReport, device, device_list, devices, precision};
pub use device_check::{DeviceCheck, check_devices};
pub use error::{PipelineError, Result};
pub use evaluate::{EvaluateJob, EvaluatedPair, Evaluation, MatchMode, evaluate_files, evaluate_lists};
pub use folders::{FileStamp, Folders, read_file};
pub use html_report::{HtmlReport, ReportJob, report_project};
pub use info::{
    CopickSummary, FileSummary, Orientations, ParticlesSummary, ProjectSummary, TomogramsSummary,
    VolumeSummary, WeightsSummary, file_summary,
};
pub use init::{InitJob, Opened, init_project, open_project_or_tomogram, project_of_tomogram};
pub use length::Length;
pub use model::Model;
pub use pick::{PickJob, PickMethod, Picked, find_particles, pick_particles};
pub use project::{
    EvaluateSettings, PROJECT_FILE, PROJECT_VERSION, PickSettings, Project, ProjectClass, ProjectTomogram,
    SegmentSettings, Split, TargetSettings, TrainSettings,
};
pub use project_edit::{ClassEdit, ProjectEdit, TomogramEdit, edit_project, write_new_project};
pub use project_jobs::{
    all_weights, labels_path, pick_job, pick_radius, picks_path, scores_folder, segment_job, target_job,
    thresholds_path, weights_path,
};
pub use reader::{TomogramOptions, open_label_map, open_tomogram, voxel_size};
pub use run::{RunOptions, RunSummary, Stage, StageReport, remember_training, run_project, run_stage};
pub use segment::{SegmentJob, SegmentSummary, segment_jobs, segment_tomogram, segment_tomograms};
pub use simulate::{SimulateJob, SimulateSummary, SimulatedTomogram, StructureOptions, simulate_project};
pub use slices::SlicesPicture;
pub use target::{ShapeSource, TargetJob, TargetSummary, make_target};
pub use template_match::{MatchJob, Matched, match_tomogram};
pub use templates::TemplateSource;
pub use thresholds::{Threshold, Thresholds};
pub use train::{
    TrainPlan, epochs_of_run, target_path, tomogram_options, training_iterations, training_metrics,
};

// What jobs are made of, so that a front-end needs no other crate than this one and the core.
pub use candle_core::Device;
pub use deepfinder_eval::{ConsensusPick, ConsensusRow, Detection, FoundBy, VoxelReport};
pub use deepfinder_infer::Plan;
pub use deepfinder_io::{
    Assembly, Euler, FormatEntry, Holds, OmeZarr, Origin, ParticleFormat, ReadOptions, TomogramTable,
    VolumeFormatEntry, check_writable, particle_formats, volume_formats, write_file_atomically,
};
pub use deepfinder_net::{Head, Precision};
pub use deepfinder_sim::{Noise, Optics, SimParams, TiltSeriesParams};
pub use deepfinder_train::{Ended, MetricsLine, Start, TrainOutcome, TrainingTomogram};
