//! OME-Zarr over HTTP, from a server on this machine.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use deepfinder_core::{Region, VolumeReader};
use deepfinder_io::{ElementType, open_volume, read_volume, write_volume};
use ndarray::Array3;

/// A server of the files below a folder, until the test ends.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// Answers to come instead of files.
    failures: Arc<Mutex<VecDeque<u16>>>,
}

impl Server {
    fn start(folder: PathBuf, gives_parts: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            requests: Arc::default(),
            failures: Arc::default(),
        };
        let (requests, failures) = (server.requests.clone(), server.failures.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let failure = failures.lock().unwrap().pop_front();
                let asked = answer(&stream.unwrap(), &folder, gives_parts, failure);
                requests.lock().unwrap().extend(asked);
            }
        });
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/{name}", self.address))
    }

    /// What was asked for since the last time.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Answers one request; gives the name that was asked for.
fn answer(mut stream: &TcpStream, folder: &Path, gives_parts: bool, failure: Option<u16>) -> Option<String> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let name = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let range = value.trim().strip_prefix("bytes=")?.split_once('-')?;
        (name.eq_ignore_ascii_case("range") && gives_parts).then_some(range)
    });
    let file = std::fs::read(folder.join(&name));
    let (status, body) = match (failure.filter(|&status| status > 0), file, range) {
        (Some(status), _, _) => (status, Vec::new()),
        (None, Err(_), _) => (404, Vec::new()),
        (None, Ok(bytes), None) => (200, bytes),
        (None, Ok(bytes), Some(("", last))) => {
            let length: usize = last.parse().unwrap();
            (206, bytes[bytes.len().saturating_sub(length)..].to_vec())
        }
        (None, Ok(bytes), Some((start, end))) => {
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            (206, bytes[start..(end + 1).min(bytes.len())].to_vec())
        }
    };
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    Some(name)
}

fn fixtures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/zarr")).to_owned()
}

#[test]
fn zarr_behind_a_url_is_what_it_is_on_a_disk() {
    let server = Server::start(fixtures(), true);
    for name in [
        "v2/pyramid.zarr",
        "v2/blosc-lz4-f4",
        "v3/pyramid.zarr",
        "v3/shards-end",
        "v3/shards-start",
    ] {
        let (remote, local) = (server.path(name), fixtures().join(name));
        assert_eq!(
            read_volume(&remote).unwrap(),
            read_volume(&local).unwrap(),
            "{name}"
        );
        let (remote, local) = (open_volume(&remote).unwrap(), open_volume(&local).unwrap());
        assert_eq!(remote.info(), local.info());
    }
    // A window takes its chunks and no others, a second one in the same chunks nothing at all.
    server.requests();
    let file = open_volume(&server.path("v3/pyramid.zarr")).unwrap();
    let window = |x| -> Array3<f32> { file.read_window(Region::new([2, 3, x], [1, 2, 2])).unwrap() };
    assert_eq!(
        (file.info().element_type, window(4)[[0, 0, 0]]),
        (ElementType::F32, 234.0)
    );
    let asked = server.requests();
    assert_eq!(asked.last().unwrap(), "v3/pyramid.zarr/0/c/0/0/0");
    window(6);
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn what_a_store_refuses_is_said() {
    let server = Server::start(fixtures(), false);
    let error = |name: &str| format!("{:?}", read_volume(&server.path(name)).unwrap_err());
    assert!(
        error("v3/none.zarr").contains("no Zarr array"),
        "{}",
        error("v3/none.zarr")
    );
    assert!(error("v3/shards-end").contains("parts of files"));
    let fail = |with: &[u16]| server.failures.lock().unwrap().extend(with);
    fail(&[403]);
    assert!(error("v3/pyramid.zarr").contains("not public"));
    // Of the pyramid, of its finest level, of a chunk.
    fail(&[0, 0, 403]);
    assert!(error("v3/pyramid.zarr").contains("only public stores"));
    // What may pass is asked for again, a few times.
    fail(&[500, 503]);
    read_volume(&server.path("v3/pyramid.zarr")).unwrap();
    fail(&[500, 500, 500]);
    assert!(error("v3/pyramid.zarr").contains("500"));
    // A port that is free again.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = PathBuf::from(format!("http://{address}/v.zarr"));
    let error = open_volume(&nobody).unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");

    let volume = read_volume(&fixtures().join("v3/pyramid.zarr")).unwrap();
    let error = write_volume(&server.path("new.zarr"), &volume).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("nothing can be written to a web address"),
        "{error}"
    );
}
