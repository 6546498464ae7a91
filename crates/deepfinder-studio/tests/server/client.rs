//! A studio of a small project, and a client as plain as can be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use deepfinder_core::{CancelToken, Particle, ParticleList, Volume, VoxelSize};
use deepfinder_io::{write_particles, write_volume};
use deepfinder_studio::{Studio, StudioOptions};
use ndarray::Array3;
use serde_json::Value;

pub(crate) const SHAPE: [usize; 3] = [20, 24, 28];
/// Centres `(x, y, z)` of the balls of the label map.
pub(crate) const BALLS: [([f64; 3], u8); 3] = [
    ([7.0, 8.0, 9.0], 1),
    ([20.0, 8.0, 10.0], 1),
    ([14.0, 17.0, 8.0], 2),
];
const RADIUS: f64 = 3.0;

const PROJECT: &str = "\
version = 1
[[class]]
label = 1
name = \"ribosome\"
radius = 3
[[class]]
label = 2
name = \"proteasome\"
radius = \"30 A\"
[[tomogram]]
name = \"one\"
file = \"one.mrc\"
split = \"train\"
picks = \"one.xml\"
[[tomogram]]
name = \"other\"
file = \"one.mrc\"
split = \"test\"
";

/// A running studio; it ends with the test.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) token: String,
    pub(crate) url: String,
    address: SocketAddr,
    stop: CancelToken,
    serving: Option<JoinHandle<()>>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }
}

pub(crate) fn voxel([z, y, x]: [usize; 3]) -> f32 {
    ((z * 37 + y * 11 + x * 5) % 97) as f32
}

impl Bench {
    /// The project, with a label map of one tomogram.
    pub(crate) fn project() -> Self {
        Self::new("", |folder| {
            std::fs::write(folder.join("deepfinder.toml"), PROJECT).unwrap();
            let labels = Array3::from_shape_fn(SHAPE, |(z, y, x)| {
                let inside = |centre: [f64; 3]| {
                    let away = [x as f64 - centre[0], y as f64 - centre[1], z as f64 - centre[2]];
                    away.iter().map(|d| d * d).sum::<f64>() <= RADIUS * RADIUS
                };
                BALLS
                    .iter()
                    .find(|(centre, _)| inside(*centre))
                    .map_or(0, |(_, label)| *label)
            });
            std::fs::create_dir_all(folder.join("output/labels")).unwrap();
            let labels = Volume::new(labels).with_voxel_size(VoxelSize::new(10.0).ok());
            write_volume(&folder.join("output/labels/one.mrc"), &labels).unwrap();
            let truth: Vec<Particle> = BALLS
                .iter()
                .map(|(at, label)| Particle::new(*at, *label))
                .collect();
            write_particles(&folder.join("one.xml"), &ParticleList::from(truth)).unwrap();
        })
    }

    /// A tomogram that belongs to no project.
    pub(crate) fn tomogram() -> Self {
        Self::new("one.mrc", |_| {})
    }

    fn new(target: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let voxels = Array3::from_shape_fn(SHAPE, |(z, y, x)| voxel([z, y, x]));
        let volume = Volume::new(voxels).with_voxel_size(VoxelSize::new(10.0).ok());
        write_volume(&folder.path().join("one.mrc"), &volume).unwrap();
        prepare(folder.path());
        let options = StudioOptions {
            port: 0,
            device: "cpu".to_owned(),
            ..StudioOptions::new(&folder.path().join(target))
        };
        let studio = Studio::bind(&options).unwrap();
        let (token, url, address) = (studio.token().to_owned(), studio.url(), studio.address());
        let stop = CancelToken::default();
        let told = stop.clone();
        let serving = std::thread::spawn(move || studio.serve(&told).unwrap());
        Self {
            folder,
            token,
            url,
            address,
            stop,
            serving: Some(serving),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends just that and gives what comes.
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // The server may answer, and close, before it has read all of a request that is too large.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        Answer {
            status,
            head,
            body: answer.get(end + 4..).unwrap_or_default().to_vec(),
        }
    }

    /// A request with these lines in its head beside the usual ones.
    pub(crate) fn with(&self, method: &str, path: &str, lines: &[&str], body: &[u8]) -> Answer {
        let has = |name: &str| lines.iter().any(|line| line.to_lowercase().starts_with(name));
        let length = format!("Content-Length: {}", body.len());
        let host = format!("Host: {}", self.address);
        let first = format!("{method} {path} HTTP/1.1");
        let mut head = vec![first.as_str(), "Connection: close", &length];
        if !has("host:") {
            head.push(&host);
        }
        head.extend(lines);
        let head = head.join("\r\n");
        let request = [head.as_bytes(), b"\r\n\r\n", body].concat();
        self.raw(&request)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.with("GET", path, &[&format!("X-Studio-Token: {}", self.token)], b"")
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let token = format!("X-Studio-Token: {}", self.token);
        let lines = [token.as_str(), "Content-Type: application/json"];
        self.with(method, path, &lines, body.to_string().as_bytes())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}
